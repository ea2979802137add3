// Package client is the Go client of an agent's two HTTP APIs: the admin REST
// API (with a token) and the local API that services read.
//
// The command line, observers and the tests use it. Invariants:
//
//   - Errors are *conf.Error with the code, hint, details and current version
//     that the agent sent, so that errors.Is works across the wire.
//   - A change whose response was lost is conf.CodeOutcomeUnknown, never a plain
//     failure. Every change has an Idempotency-Key, so repeating the same call
//     with the same key is safe.
//   - Tokens are sent to the configured addresses only: redirects are not
//     followed, and no error contains a token.
//
// A Client is safe for concurrent use. It starts no goroutine; Watch runs on the
// goroutine that ranges over it.
package client
