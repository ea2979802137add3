// Package walstore keeps the entries of the Raft log in segment files, one sync for an
// append where bbolt needs two, through hashicorp/raft-wal; and moves a log from the bbolt
// file into segments and back.
//
// The bbolt file raft.db stays: it has the stable values, and among them the state of the
// segments, guarded as everything in it. So raft-wal has no database of its own, and
// whether the log is in raft.db or in segments/ is decided by one value of one file.
//
// raft-wal takes what it cannot read at the end of the newest segment for a write that a
// crash has cut short, and goes on before it. A flipped bit there would drop entries that
// this member has acknowledged. So a segment is verified before raft-wal reads it: the
// rules are in check.go.
//
// Invariants:
//   - A log is in one place: with the state in raft.db in the segments that it names, else
//     in raft.db. What is in the other place is left from a crash, and is removed.
//   - A segment that the state names exists, in its full size: it is made and synced before
//     the state.
//   - What follows the last append in the newest segment is zero once the segment is open:
//     what a crash left there is cleared.
//
// replication.Open and Recover call Open and Move on their caller's goroutine, before Raft
// starts. Raft's goroutines call the methods of Store; raft-wal has one goroutine, which
// begins the next segment.
package walstore
