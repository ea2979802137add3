// Package localapi serves a service beside the agent: its document, single keys,
// its environment, and every change of them, over HTTP on the loopback interface
// and on a unix socket. It only reads; docs/http.md is its reference. A Room is a
// package that adds routes of its own: localapi/ofrep.
//
// # Data flow
//
// A Renderer turns each applied *conf.Record into a *Document once, on the
// goroutine that applies. The agent keeps the documents in its view and returns
// them through Source. A request is one lookup and one write of existing bytes: no
// lock, no encoding, no disk, no network, and no allocation more than a bare
// net/http handler that writes the same bytes. Single keys and the environment are
// derived from the document at their first use.
//
// # Invariants
//
//   - A Document is immutable. Its header values are shared []string slices that
//     are assigned into header maps and never appended to.
//   - An ETag identifies what a document says (epoch, version, values), not its
//     bytes: a reissued document keeps its ETag and wakes no waiter. ETags are weak
//     for that reason.
//   - Secret values leave only to an authenticated caller: by the local token, or
//     by the uid on the unix socket. A wrong token is rejected, and never treated
//     as a missing one.
//   - A request with a foreign Host or headers of a proxy is rejected, so that
//     neither a web page (DNS rebinding) nor request forgery through another
//     program reads the configuration.
//   - The paths of a Room have the same guards. Those that take POST read a body; no
//     other path does.
//   - Waiting requests are level-triggered: each loads the newest document and may
//     skip versions. None of them delays the writer or another client.
//
// # Goroutines
//
// Renderer.Render runs on the applying goroutine. The methods of Source and the
// functions in Options are called from any number of request goroutines at once.
// Serve blocks, one call a listener; Stop may be called from anywhere, more than
// once.
package localapi
