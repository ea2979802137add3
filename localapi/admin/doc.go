// Package admin is the authenticated REST API under /api/config: it reads and
// changes everything that an agent holds.
//
// The package is an edge. It authenticates, decodes strictly, and hands what it
// decoded to small backends that it declares itself (see Options); it decides
// nothing about configuration. What holds at every commit:
//
//   - One table of routes (Routes) drives the router, the 405s, the role that
//     each route needs, the OpenAPI document and the reference in docs/http.md.
//   - Deny by default: only the routes that the table marks as open answer
//     without a token. Without one, an unknown path is a 401 like any other.
//   - A request that is malformed never reaches a backend.
//   - A token never reaches a log, an error, an audit row or a backend other
//     than the Authenticator and the Forwarder (and the Rebuilder, for its own).
//   - What changes something is made by the leader: on any other agent it is
//     forwarded once, after the caller was admitted here and before anything is
//     looked up. The leader admits the caller again by the same token. An agent
//     that knows no tokens (Options.Relay) leaves all of that to the leader.
//   - Errors are JSON with a code of the closed set of conf and a hint; the
//     message of an internal error stays in the log, under its request id.
//
// A Handler is safe for concurrent use. Each request runs on the goroutine of
// its connection; the package starts none. Backends are called from there and
// must honour the context; Auditor.Record and HealthReporter.Health must not
// block for longer than a moment.
package admin
