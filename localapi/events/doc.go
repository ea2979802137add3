// Package events streams what changes at an agent to the pages that show it, as server-sent
// events: service, schema, health, cluster and instances. An event has names and versions only; who
// hears one reads again.
//
// # Invariants
//
//   - No writer waits for a reader. A stream looks at the newest state each time it is woken,
//     so a slow one skips what is outdated, and nothing is queued.
//   - There are at most Max streams. One more is refused.
//   - A stream ends with what allowed it: it is checked again every few seconds.
//   - A stream tells what changed after it began. A page opens its stream first, and reads then.
//
// Serve runs on the goroutine of its request; the package starts none. A Hub is safe for
// concurrent use.
package events
