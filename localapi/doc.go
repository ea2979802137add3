// Package localapi is what the service beside an agent reads: its document, one
// key, its environment, and every change of them, over HTTP on the loopback
// interface and on a unix socket. It reads only; docs/http.md is its reference.
//
// # Data flow
//
// A Renderer turns each applied *conf.Record into a *Document once, on the
// goroutine that applies; the agent keeps the documents in its view and gives
// them back through Source. A request is then one lookup and one write of bytes
// that exist already: no lock, no encoding, no disk, no network, and not one
// allocation more than a bare net/http handler that writes the same bytes. What
// fewer callers ask for (single keys, the environment) is derived from the
// document at its first use and kept.
//
// # Invariants
//
//   - A Document is immutable. Its header values are shared []string slices that
//     are assigned into header maps and never appended to.
//   - ETags identify what a document says (epoch, version, values), not the bytes
//     that say it: a document that is only signed anew keeps its ETag and wakes
//     nobody. They are weak for that reason.
//   - Secret values leave only to a caller that proved itself: the local token,
//     or the right uid on the unix socket. A wrong token is refused, and never
//     answered as if it had not been there.
//   - A request with a foreign Host or the marks of a proxy is refused, so that
//     neither a web page (DNS rebinding) nor another program's request forgery
//     reads the configuration.
//   - Waiting requests are level-triggered: each loads the newest document and
//     may skip revisions. None of them holds up the writer or another reader.
//
// # Goroutines
//
// Renderer.Render runs on the applying goroutine. The methods of Source and the
// functions in Options are called from any number of request goroutines at once.
// Serve blocks, one call a listener; Stop may be called from anywhere, once or
// more.
package localapi
