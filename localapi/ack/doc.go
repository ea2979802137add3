// Package ack takes the word of a service beside the agent on what became of a version:
// POST /v1/ack/SERVICE. It is a room of the local API; docs/http.md is its reference. The
// agent and the observer register it.
//
// # Invariants
//
//   - A caller needs what a reader of secrets needs, the local token or an accepted uid on
//     the unix socket, unless the operator has opened the route.
//   - A body has 4 KiB at most, and is strict JSON: an unknown or a repeated member is an
//     error. A service has ten acknowledgements a second.
//   - 202 means that the word is taken; that of a refusal of a candidate is on the disk then.
//
// # Goroutines
//
// Handlers run on the goroutine of their connection, any number at once; the package
// starts none.
package ack
