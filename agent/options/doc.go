// Package options has each setting of an agent and each path in its data directory,
// once: the flags, the environment lookup, the help and the documentation are made
// from the one list in Settings.
//
// Invariants: a flag wins over the environment, which wins over the .env file; after
// Complete every path is set and every value is in its range. Nothing here opens a
// port or writes a file.
//
// Callers: cmd resolves Options once at start, on the main goroutine; from then on
// they are read only, by any goroutine.
package options
