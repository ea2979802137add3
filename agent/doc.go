// Package agent wires the rooms of one Holdfast agent together, in the order that data
// flows, and runs them.
//
//   - New loads the keys and the last-known-good file, fills the view from it and opens
//     the listeners. From there on services read, whatever else is broken.
//   - Run serves, and runs the replicas, the brokers, the writer of the last-known-good
//     file and the access log. When its context ends, all is undone in reverse.
//
// Invariants: nothing here decides anything; a feature has a room of its own, which brings
// its routes, jobs and metrics, and is added to the lists in rooms.go. Readers never wait
// for a replica.
//
// Goroutines: New and Run are called once, one after the other. Info, Health and AwaitReady
// may be called at any time.
package agent
