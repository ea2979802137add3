// Package logspace bounds what the Raft log takes, in bytes: on the disk, and in memory.
//
// Raft itself counts entries. 2,048 of them, which it keeps behind a snapshot, are 2 MB for
// small changes and 400 MB for changes of 200 KB, and its cache holds the last 512 of
// either kind.
//
// Invariants:
//   - A Log counts every entry that is stored and deleted; what it does not know the size
//     of (entries from before Measure) counts as nothing.
//   - Entries are dropped by Raft alone, behind a snapshot of its own: Bound only asks for
//     one earlier, and has it keep fewer.
//   - Cached entries take at most CacheBytes, whatever their number.
//
// Raft's goroutines call the methods of Log that implement raft.LogStore. Bound.Run has a
// goroutine of the node, Measure another one.
package logspace
