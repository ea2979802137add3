// Package process holds what one agent process takes from its machine: the lock on
// the data directory, its listeners, its logger, and the one-line files with its
// node id and tokens. Members, observers and the offline commands share it.
//
// Invariants: one process at a time uses a data directory; a one-line file is
// replaced whole or not at all.
//
// Callers: New of the agent and of the observer, and the offline commands of
// recovery, before any other goroutine runs; ReplaceLine also by membership, on the
// replica's goroutines.
package process
