// Package view has the current state of every service in memory, for the readers on
// the hot path and for all waiters for a change.
//
// A View publishes immutable Snapshots through one atomic pointer. A reader
// loads the pointer and looks a name up: no lock, no allocation, no call out.
// A writer copies the small part of the table that a change touches and swaps
// the pointer, so that a write costs what it changed and not what there is.
//
// Waiting is level-triggered. Every Snapshot and every Entry has a channel that is
// closed after its successor can be loaded. A waiter loads again and gets the newest:
// it may skip versions, nothing is queued, the writer never waits, and there is
// nothing to unsubscribe.
//
// Invariants:
//   - Entry, Snapshot and what they point to never change once published.
//   - Inside one epoch a service never goes back to a lower version, nor at the same
//     version to a rollout that is not as far, and Index never falls.
//   - A deleted service stays as an entry whose Record says Deleted, so that
//     readers see the deletion and old messages cannot undo it.
//
// Readers call from any goroutine. Advance is called by the goroutine that
// applies the log, Reset at a start, a restore or a rebuild, Rerender from any goroutine; they
// exclude each other. The only function that they call is render.
package view
