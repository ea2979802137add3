// Package edit is the only way into the store. It authorizes a draft, decodes it
// strictly, validates it, computes the effective document, signs it and proposes
// the result to the Raft log.
//
// Invariants:
//
//   - Everything is decided before Propose: the leader fixes time, signature,
//     version and effective document here, and the state machine only applies them.
//   - A service has at most one edit in progress; edits of different services run
//     concurrently. An edit of several services locks them in the order of their names.
//   - While a rollout of a service runs, nothing else changes it unless it says that it
//     replaces the rollout. A rollout is signed whole: the candidate and the revert, in one entry.
//   - A rejected draft changes nothing. A proposal with an unknown outcome returns
//     conf.CodeOutcomeUnknown, never a failure.
//   - Secret values are sealed before they enter the log, and are nowhere else: not in
//     signed documents, profiles, history rows, errors or rows of the access log.
//
// The HTTP handlers of the admin API, the leader jobs that reissue signatures, and a
// rebuild call it. Every method of Editor may be called from any goroutine.
package edit
