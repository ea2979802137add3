package base

import (
	"testing"
	"time"
)

// Patience is how long Await waits. It is far beyond what a healthy machine
// needs, so that reaching it means that something is broken, not slow.
const Patience = 2 * time.Minute

// PollEvery is how often a condition is looked at.
const PollEvery = 5 * time.Millisecond

// Await looks at cond until it holds, and fails the test with the name of what
// it waited for when Patience ends first.
func Await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	AwaitWithin(t, Patience, what, cond)
}

// AwaitWithin is Await with another deadline.
func AwaitWithin(t testing.TB, patience time.Duration, what string, cond func() bool) {
	t.Helper()
	if !Poll(patience, cond) {
		t.Fatalf("waited %v in vain for: %s", patience, what)
	}
}

// Holds fails the test when cond does not hold at some moment of the time d. It is for
// what must not happen, which cannot be awaited.
func Holds(t testing.TB, d time.Duration, what string, cond func() bool) {
	t.Helper()
	if Poll(d, func() bool { return !cond() }) {
		t.Fatalf("it does not hold for %v: %s", d, what)
	}
}

// Poll says whether cond came to hold within patience.
func Poll(patience time.Duration, cond func() bool) bool {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(PollEvery)
	defer tick.Stop()
	for {
		if cond() {
			return true
		}
		select {
		case <-deadline.C:
			return cond()
		case <-tick.C:
		}
	}
}
