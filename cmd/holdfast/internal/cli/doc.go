// Package cli is what the commands of holdfast share: App, which holds the
// streams, the flags of every command and the connection to an agent, and the
// printing of results.
//
// Results go to App.Out and everything else to App.Err. An error is one
// "holdfast: ..." line with its details and a hint, and its exit code comes from
// the table in exit.go. Text of other people passes Clean before it is printed.
//
// root.go calls the constructors of the commands, and cobra runs the one that was
// named, all on one goroutine. A command keeps no state between two runs.
package cli
