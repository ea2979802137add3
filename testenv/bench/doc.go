// Command bench measures a real agent process beside what is the best that a Go
// program could do, and prints the ratios as a table. `make bench` runs it.
//
// Every ratio is taken within one run on one machine. The sides take turns, another one
// begins each round, and the ratio is the median of the ratios of the rounds, so that a slow
// or a busy machine shifts both. The other sides of a read are a bare net/http server, in a
// process of its own, that writes the same bytes and headers, and nginx. The load is one
// thread with sockets of its own and a processor of its own, so that it is not what is
// measured. The table also has what a request costs the server in processor time, which
// depends least on who else uses the machine.
//
// What it prints is Markdown: the machine, the versions of the peers, the table.
//
// It never fails because of a number: targets stand beside the results, for a
// person to judge. Beside the standard library it uses only what signs and verifies,
// to measure that, since the bare server is this same binary.
package main
