// Package connlimit bounds the open connections of a port: in all, and of one
// client address. The cluster port counts with a Limiter; the local API and the
// admin API wrap their listeners with Listen, which also answers rejected HTTP
// connections.
//
// Invariants:
//
//   - A connection is counted from Acquire (or Accept) to Release (or Close), once.
//   - An IPv4 address counts by itself, an IPv6 address by its /64, which one host
//     usually has whole. Connections that are not TCP count for one source.
//   - Rejecting is cheap: at most 64 goroutines of half a second answer, and
//     further connections are closed without a response.
//
// All methods are safe for concurrent use. Accept runs on the goroutine of the
// HTTP server, Release and Close on that of the connection.
package connlimit
