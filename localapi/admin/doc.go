// Package admin is the authenticated REST API under /api/config: it reads and
// changes everything that an agent has.
//
// A Handler finds the route of a request, admits the caller (admission), decodes
// (call), queues, forwards, and calls the route. Each part of the API is a room: a
// small type with the backends that it needs, which registers its routes. A new
// part is a file with a room, its interface, and one row in rooms. Rooms decide
// nothing about configuration; their backends do (see Options). Invariants:
//
//   - One table of routes (Routes) drives the router, the 405s, the role that
//     each route needs, the OpenAPI document and the reference in docs/http.md.
//   - Deny by default: only the routes that the table marks as open answer
//     without a token. Without one, an unknown path is a 401 like any other.
//   - A malformed request never reaches a backend.
//   - A token never reaches a log, an error, an audit row or a backend other
//     than the Authenticator and the Forwarder (and the Rebuilder, for its own).
//   - Writes are executed by the leader. Every other agent forwards a write once,
//     after it admitted the caller and before it looks anything up. The leader
//     admits the caller again by the same token. An agent without a list of tokens
//     (Options.Relay) leaves all of that to the leader.
//   - Errors are JSON with a code of the closed set of conf and a hint; the
//     message of an internal error stays in the log, under its request id.
//
// A Handler is safe for concurrent use. Each request runs on the goroutine of its
// connection; the package starts none. Backends are called from there and must
// honor the context; Auditor.Record and HealthReporter.Health must not block for
// longer than a moment.
package admin
