// Package rollout decides how a staged rollout goes on: to the next step, to a promotion, to
// a pause, or back. It is also what the admin API and the web page ask.
//
// # Invariants
//
//   - Only the leader decides, on what it has applied, after a barrier of its term. Each
//     proposal names the rollout, and the step that it leaves. A proposal whose outcome is
//     unknown is not repeated: a barrier shows what came of it, and then it is decided again.
//   - It goes on only by what instances of this rollout have said to the leader of this term.
//     Silence pauses. A step without one approval never passes, and a target that vanished
//     is lost, not gone from the sum: a step names the targets that lived when it began.
//   - A refusal counts for as long as the rollout is, whatever is said later.
//   - What is kept in memory (when the bake began, what was refused) is asked again by
//     another leader. All else is in the log.
//
// # Goroutines
//
// Run is a job of the leader and has one goroutine, which decides. All other methods may be
// called from any goroutine.
package rollout
