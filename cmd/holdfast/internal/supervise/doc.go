// Package supervise runs one command as a child that is replaced when its environment
// changes. It is holdfast exec without the configuration.
//
// Invariants:
//
//   - No two children at a time: the next one starts when the process that was started
//     before has ended and its group was killed.
//   - Signals reach the child's process group once; on a terminal the group is in the
//     foreground, so that the terminal sends them.
//   - Every process that ends below this one is reaped, so it can be process 1.
//
// Run blocks and uses one goroutine for the child; the caller sends new environments on a
// channel from its own goroutine.
package supervise
