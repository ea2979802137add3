// Package testenv is how Holdfast is tested as its users meet it: real agent
// processes made from the real binary, real clients, real damage.
//
// It holds the harness (Agent, Await, Binary), the acceptance tests, the sample
// schemas under schemas, the sample services in several languages under
// services, and the benchmarks under bench.
//
// Invariants: no product package imports this one; every process that a test
// starts dies with the test, and with the test process even when that is
// killed; nothing sleeps, conditions are awaited by name with a deadline; every
// agent has its own directory and its own loopback ports, so tests may run in
// parallel.
//
// Methods of Agent are called from one goroutine of the test at a time, except
// those that only make requests, which any goroutine may call.
package testenv
