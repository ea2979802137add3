// Package fairqueue divides an agent among its callers. A bounded number of
// requests is in progress at once, at most half of them of one flow. Requests
// that wait are queued by flow, and the queues are served round-robin, so a flow
// that floods the agent delays only its own requests.
//
// Invariants:
//
//   - No request waits while there is room for it.
//   - A request that is rejected has not started.
//   - A flow without requests takes no memory.
//
// Acquire blocks on the goroutine of the request; the package starts none. All
// methods are safe for concurrent use.
package fairqueue
