// Package fallback serves the last-known-good file while an agent cannot start: its keys,
// its certificate, its settings or its disk are damaged, or a port is taken. Reads go on
// from memory, everything else is rejected with what keeps the agent from starting; the
// page is served, and says it. The start is tried again until it succeeds, and then the agent takes the ports over.
//
// Invariants: nothing is served that a key of the last-known-good file does not
// verify; nothing is written but the files of CONFIG_RENDER; the local API stays open from
// one attempt to the next.
//
// Callers: Run, once, on the goroutine of cmd. The servers' goroutines only read.
package fallback
