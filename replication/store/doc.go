// Package store is this node's replica of the configuration in one SQLite file. It
// opens and verifies the file, applies batches of log entries, answers queries, and
// moves the whole content out (Snapshot) and in (Restore).
//
// Its parts: tables has the layout of the file and its rows, apply the commands of the
// log, query the reads, search the items and their full-text index, stream the form of
// a snapshot. Store has the lock, the connections and the state that is in memory,
// and Queries the reads.
//
// Invariants:
//
//   - One batch is one IMMEDIATE transaction. The content of the file is always a prefix
//     of the log, and two nodes at the same index have the same Digest. Memory follows
//     only after COMMIT.
//   - Open, Verify, Snapshot and every read of a record verify the digests of the rows: a
//     changed bit is CodeCorrupt, never a wrong value.
//   - A file of another format is CodeUnsupported and is not changed.
//   - A fault while applying (corrupt, full, locked) leaves the batch out as a whole.
//     After CodeCorrupt the store applies nothing more.
//   - The search items follow when Maintain or Search brings them up to date: a search sees
//     all that was applied before it, also after a restart.
//
// Apply, Restore and Snapshot are called by the one goroutine that applies the log, Maintain
// by one other. Everything else is safe for concurrent use and does not wait for Apply:
// queries run on a pool of read-only connections.
package store
