// Package instances has what the leader knows of the instances of each service: which
// version they run, and what became of it. Members report on the cluster port, observers
// by the admin API and over MQTT.
//
// # Invariants
//
//   - All is in memory, and begins empty at each term: nobody is asked, all report again.
//   - A report costs what it says, not what there is. The table is bounded in instances and
//     in bytes; the word of a member is never refused for what others have reported.
//   - A member speaks for itself alone, by its certificate. What an observer says never
//     takes the place of what a member says, and what comes over MQTT never that of what
//     came with a token.
//   - Reports are states. One that is repeated, late, or of another term changes nothing.
//
// # Goroutines
//
// A Table is safe for concurrent use: handlers of the cluster port and of the admin API
// report, the controller of rollouts and handlers read. Run is a job of the leader.
package instances
