package replica

import "testing"

// TestRest: memory is given back soon after the start, and after many changes, not while
// they come, not twice, and not for a few.
func TestRest(t *testing.T) {
	freed := 0
	r := memoryReleaser{free: func() { freed++ }}
	look := func(n int, index uint64) {
		for range n {
			r.tick(index, 1)
		}
	}
	for i := range uint64(3 * releaseAfter) { // a change at each look
		r.tick(i+1, 1)
	}
	if freed != 0 {
		t.Fatalf("given back %d times while changes come", freed)
	}
	index := uint64(3 * releaseAfter)
	look(firstAfter, index)
	if freed != 1 {
		t.Fatal("not given back a few seconds after the start")
	}
	look(5*releaseAfter, index)
	if freed != 1 {
		t.Fatalf("given back %d times after the start, want once", freed)
	}
	look(5*releaseAfter, index+releaseWorth-1)
	if freed != 1 {
		t.Fatalf("given back for %d changes", releaseWorth-1)
	}
	look(releaseAfter, index+releaseWorth) // the look that sees it is not a calm one
	if freed != 1 {
		t.Fatal("given back too early")
	}
	look(1, index+releaseWorth)
	if freed != 2 {
		t.Fatalf("given back %d times after many changes, want twice", freed)
	}
}
