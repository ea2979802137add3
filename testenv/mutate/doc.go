// Package mutate makes requests that nobody would send on purpose out of ones that
// are sent every day, for tests that hand them to a handler in great numbers.
//
// What it makes follows from its seed alone. A Mutator is used by one goroutine.
package mutate
