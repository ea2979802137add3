// Package schemas reads the schema directory of an agent, and makes from a schema
// what other packages need of it: default records, search items, and the options with
// which a database is opened.
//
// Invariants: a file of the directory is <service>.json; one that is not, or is damaged,
// is named in an error and holds up no other; a stored schema that does
// not compile never stops the log; a schema that breaks stored values is reported
// and not stored.
//
// Callers: the replica (on its own goroutine, once each time it becomes ready as
// leader), recovery and the observer at start. All functions are safe for
// concurrent use.
package schemas
