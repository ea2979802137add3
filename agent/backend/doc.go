// Package backend is what the APIs of an agent ask for: reads of the present and of the
// past, health, where values come from, API tokens, the state for the brokers, and the
// metrics of all that.
//
// Invariants: what is current comes from the view, in every mode; the rest needs the store
// of the replica that serves. Values of secrets are masked unless an authorized caller
// asks for them. The secret of an API token is in one reply and nowhere else.
//
// Callers: HTTP handlers, brokers and scrapes, concurrently. Nothing here runs on its own.
package backend
