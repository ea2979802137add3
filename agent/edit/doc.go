// Package edit is the only way into the store: it authorises a draft, decodes
// it strictly, validates it, computes the effective document, signs it and
// proposes the finished bytes to the log.
//
// Invariants:
//
//   - Nothing below Propose decides anything: time, signature, version and
//     effective document are fixed here, by the leader, and never change again.
//   - At most one edit of a service is under way at a time; edits of different
//     services never wait for each other. An edit of several services takes
//     their locks in the order of their names.
//   - A refused draft changes nothing. A proposal that was lost on the way is
//     reported as conf.CodeOutcomeUnknown, never as failed.
//   - Secret values reach the log sealed, and nothing else but the log: no signed
//     document, no profile, no history row, no error and no audit row has one.
//
// Every method of Editor may be called from any goroutine.
package edit
