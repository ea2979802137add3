// Package agent is one Holdfast agent: it builds every part, in the order that
// data flows, and keeps them running.
//
// Life of an agent:
//
//   - New loads the keys and the last-known-good file, fills the view from it and
//     opens the listeners. From there on services read, whatever else is broken.
//   - Run serves, and runs the replica: SQLite, then the Raft member, then the
//     view (source "replica"). The replica may fail and come back any number of
//     times; each attempt is one session (replica.go). Readers never notice: the
//     view outlives the sessions.
//   - The keys follow the keyring, which the log carries and which names them only:
//     tendKeys fetches, keeps and drops keys at every agent, rotateOften decides at the
//     leader. Each looks at what is, and goes on from there.
//   - When Run's context ends, all is undone in reverse.
//
// Goroutines: one supervisor runs the sessions; one LKG writer; one access log
// writer; the HTTP servers have theirs. The Raft member calls applied on its own
// goroutine. All of them meet in the view and in status, both safe for
// concurrent use; nothing else is shared.
package agent
