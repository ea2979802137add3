// Package renderjob writes configuration into files beside an agent, as CONFIG_RENDER says.
// It joins package render to the view of the agent: what is rendered comes from memory, from
// the last-known-good file too while there is nothing newer.
//
// Invariants: a fault of it is in the health, the log and the metrics, and harms nothing
// else of the agent; it reads the view only, and never waits for it.
//
// Callers: an agent, an observer and the server that stands in for an agent that cannot
// start make one, and run it on a goroutine of its own. Health and scrapes call Err and the
// Collector concurrently.
package renderjob
