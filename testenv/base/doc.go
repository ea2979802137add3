// Package base is the part of the test harness that knows no agent: conditions that
// are awaited by name, free ports, and the check for goroutines that never end.
//
// Tests inside the packages that the agent is made of import this package. They cannot
// import testenv: that imports the agent, and with it the package under test. All other
// tests find the same names in testenv.
//
// Invariants: nothing of Holdfast is imported; nothing sleeps; each function may be
// called from any goroutine of a test that may end the test.
package base
