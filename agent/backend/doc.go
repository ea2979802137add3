// Package backend implements what the APIs of an agent call: reads of current and earlier
// values, health, the source of each value, API tokens, the state for the brokers, and
// their metrics.
//
// Invariants: current values come from the view, in every mode; the rest needs the store
// of the current replica. Values of secrets are masked unless an authorized caller
// requests them. The secret of an API token is in one response and nowhere else.
//
// Callers: HTTP handlers, brokers and scrapes, concurrently. It starts no goroutine.
package backend
