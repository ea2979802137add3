// Package reporter is this agent as an instance of the services beside it: it knows which
// version each of them has been given, takes what they say of it, asks whether they are
// well, and reports all of it to the leader.
//
// # Invariants
//
//   - A report is of what this agent serves, which is not always what the cluster has.
//   - What a service refuses goes to the room of rollouts first: it is on the disk, and the
//     revert is served, before the service has its 202 and before anybody is told. Without
//     a candidate a refusal is recorded and reported, and nothing else happens.
//   - A service that was unwell before it got a version does not refuse it by that.
//   - Nothing here is on the path of a read. A read sets a mark in its document, which is
//     looked at five times a second.
//   - A leader that does not answer delays no acknowledgement.
//
// # Goroutines
//
// Run has one goroutine for the reports and one for the health. Acknowledge and Local are
// called from any goroutine.
package reporter
