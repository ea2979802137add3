package agent

import "testing"

// TestRest: memory is given back after the start and after many changes, not while
// they come, not twice, and not for a few.
func TestRest(t *testing.T) {
	freed := 0
	r := rest{free: func() { freed++ }}
	look := func(n int, index uint64) {
		for range n {
			r.look(index, 1)
		}
	}
	for i := range uint64(3 * restAfter) { // a change at each look
		r.look(i+1, 1)
	}
	if freed != 0 {
		t.Fatalf("given back %d times while changes come", freed)
	}
	index := uint64(3 * restAfter)
	look(5*restAfter, index)
	if freed != 1 {
		t.Fatalf("given back %d times after the start, want once", freed)
	}
	look(5*restAfter, index+restWorth-1)
	if freed != 1 {
		t.Fatalf("given back for %d changes", restWorth-1)
	}
	look(restAfter, index+restWorth) // the look that sees it is not a calm one
	if freed != 1 {
		t.Fatal("given back too early")
	}
	look(1, index+restWorth)
	if freed != 2 {
		t.Fatalf("given back %d times after many changes, want twice", freed)
	}
}
