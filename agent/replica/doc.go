// Package replica runs the replicas of an agent, one after the other. A Replica is one
// life of the SQLite store and the Raft node, opened and closed together, and the jobs
// that other rooms hand in for it; the Supervisor opens the next one when one fails.
//
// What damaged files need is decided here, in this order: opening repairs a database
// from the log or the log from the database; a member whose replica cannot be repaired
// rejoins; a single node is rebuilt. Package recovery has the table of these ways.
//
// Invariants:
//   - The view outlives the replicas: readers never wait for one.
//   - A Replica accepts changes only as the ready leader: it has passed a barrier in
//     its term.
//   - A replica that is older than what this agent has served is not served.
//   - Jobs end before the store closes; leader jobs end when the leadership does.
//
// Goroutines: Run has the supervisor's goroutine, on which replicas open, are watched
// and close. Each Replica has one goroutine that monitors the leadership, one for each
// job, one for the digest check and one for the disk. Raft calls onApplied, onDigest,
// onRestored and onBlocked on its own. Everything exported is safe for concurrent use.
package replica
