// Package front answers plain reads on the connection itself, from bytes that are there,
// and hands every other connection on to net/http. A plain read is a GET or HEAD of a whole
// document over HTTP/1.1 whose every byte is as most clients write it: see parse. Parsing
// and answering a request in net/http costs twice as much as the system calls that carry
// it.
//
// # Invariants
//
//   - What a client gets does not depend on this package: a request is answered here only
//     when net/http and the handler behind it would write the same bytes. Whatever is
//     unusual in a request goes to them untouched, with all bytes that were read and not
//     answered. From then on the connection is theirs until it closes.
//   - Only headers that decide nothing are accepted, besides Host and If-None-Match: a list
//     of names. So a mark of a proxy, a token, an origin or a body is never looked at here.
//   - A Caller has the guards and the documents, and says no where it is not sure.
//   - Deadlines are those of net/http, up to a second later: a timer that is set once a
//     second costs nothing.
//   - The limits on connections are those of the connlimit.Listener below: a connection
//     with a request in progress is not closed to make room.
//
// # Goroutines
//
// One accepts, and each connection has one until it closes or is handed on. Accept is
// called by net/http's Serve, Stop from anywhere.
package front
