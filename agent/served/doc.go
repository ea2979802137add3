// Package served decides what this agent serves, which is not always what the cluster has:
// the candidate of a rollout while this agent is one of its targets, and the revert of a
// candidate that the service beside it refused. It owns the marks, the files that say what
// was refused. See docs/design/decisions/0022-staged-rollout.md, whose rules have numbers.
//
// Two views come out of it. The stable view has the records as the log has them. The
// served view has what this agent serves, rendered. A service without a rollout and
// without a mark is the same *conf.Record in both.
//
// Invariants:
//
//   - What a reader of the served view has seen never goes back in (epoch, version),
//     restarts included.
//   - A candidate is served by targets only, and only after it, its revert and the fact of
//     being a target are synced in the last-known-good file.
//   - A refusal is synced in its mark before Refuse returns and before the revert is
//     served. Content that was refused is not served again in that epoch, unless an
//     operator makes it stable in a version of its own.
//   - A refusal needs no leader, no quorum and no network.
//   - A damaged mark is set aside, and stops nothing.
//
// Advance and Reset are called by the goroutine that advances the views, with its lock
// held. Everything else may be called from any goroutine. Run has a goroutine of its own.
package served
