// Package apply applies batches of log entries to the database.
//
// Invariants:
//
//   - One batch is one transaction, with the applied index, term, epoch and state
//     digest in it. An error leaves nothing of it; memory follows after COMMIT.
//   - Applying is a pure function of the rows and of the entries, and does not depend on
//     where one batch ends and the next begins: no clock, no random source, no
//     environment. Derived rows are not read.
//   - A rejected entry changes nothing, and the batch continues. Most commands have a
//     savepoint for that; an entry that rejects before its first write needs none.
//   - The numbers that a rollout reserved are never given out again: an edit gets the version
//     above the floor, which no end of a rollout and no new epoch lowers.
//   - RecordCache has what the rows say. Every write to a row of a service goes through
//     tx.put or tx.remove, or sets the record itself.
//
// One goroutine applies, with the lock of the store.
package apply
