// Package replication is this node's Raft member: it proposes commands, applies
// committed entries to the store, and manages the membership. A single node is a whole
// cluster.
//
// It wraps hashicorp/raft behind the guards of package raftguard:
//
//   - node.go: the node, its state, start of an election, graceful shutdown
//   - proposals.go: proposals are passed to raft in batches
//   - fsm.go: a batch is applied in one transaction; the first fault is final
//   - membership.go, autopilot.go: who is a member and who votes
//   - open.go, recover.go: from the files on the disk to a running node, or to the only
//     voter of a new cluster
//   - transport.go: raft's transport over verified connections
//
// Invariants:
//   - No entry is applied after one that failed. A fault is final for the node: stop it,
//     set its files aside if they are damaged, open another one.
//   - An index that the store has applied is never used again for another entry, whatever
//     was lost.
//   - No fault ends the process: reads are served from memory.
//
// Propose, Barrier and the status methods may be called from any goroutine.
// Options.OnApplied, OnDigest, OnRestored and OnBlocked are called on the goroutine that
// applies the log, one at a time, and on Open's goroutine before that one exists. They
// must return quickly and must not call Propose, Barrier or Stop.
package replication
