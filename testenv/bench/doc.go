// Command bench measures a real agent process beside what is the best that a Go
// program could do, and prints the ratios as a table. `make bench` runs it.
//
// Every ratio is taken within one run on one machine: the two sides take turns
// (A B A B ...) and the medians are compared, so that a slow or a busy machine
// shifts both. The other side of a read is a bare net/http server in a process of
// its own that writes the same bytes and headers; the client is this program, over
// raw connections with an HTTP/1.1 reader of its own, so that it is not what is
// measured.
//
// It never fails because of a number: targets stand beside the results, for a
// person to judge. Beside the standard library it uses only what signs and verifies,
// to measure that, since the bare server is this same binary.
package main
