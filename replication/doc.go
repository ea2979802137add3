// Package replication is this node's member of the Raft group: it proposes
// commands, applies what was committed to the store, and keeps the log and the
// snapshots on disk. One node is a whole cluster.
//
// It wraps hashicorp/raft with guards for what that library, its log store and
// a failing disk do wrong:
//
//   - heartbeats go through the main loop, never past it (transport.go);
//   - a snapshot that comes too late does not take the log back, nor does a late
//     order to stand unseat a leader (orderly.go);
//   - a member that refused entries once is sent entries again (pipeline.go);
//   - every log entry and every stable value carries a CRC32C, and the file of
//     the log is walked before it is mapped (logstore.go, boltfile.go);
//   - snapshots are checked in full, and a damaged one gives way to the one
//     before it (snapshots.go);
//   - proposals go to raft in groups, for it makes a write, a message and a
//     batch of what it finds waiting (group.go);
//   - the state machine applies a whole batch in one transaction and stops for
//     good at the first fault (fsm.go);
//   - Open brings store, snapshot and log to one history, or says why it cannot
//     (reconcile.go).
//
// Invariants:
//   - Nothing is ever applied past an entry that failed. A fault is final for
//     the Member: stop it, repair (see Quarantine), open another one.
//   - An index that the store has applied is never used again for something
//     else, whatever was lost.
//   - No fault ends the process: readers go on from memory.
//
// Propose, Barrier and the status methods may be called from any goroutine.
// Options.OnApplied, OnRestored and OnBlocked are called on the goroutine that
// applies the log, one at a time, and on Open's goroutine before that one
// exists; they must return quickly and must not call Propose, Barrier, Snapshot
// or Stop.
package replication
