package replica

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// TestRest: memory is given back soon after the start, and after many changes, not while
// they come, not twice, and not for a few.
func TestRest(t *testing.T) {
	freed, given, waste := 0, 0, uint64(0)
	r := memoryReleaser{free: func() { freed++ }, give: func() { given++ }, waste: func() uint64 { return waste }}
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
	// What came without a change is given back too, when it is much.
	look(3*wasteEvery, index+releaseWorth)
	if given != 0 {
		t.Fatalf("little is given back %d times", given)
	}
	waste = wasteWorth
	look(wasteEvery, index+releaseWorth)
	if given != 1 || freed != 2 {
		t.Fatalf("given back %d times, and forgotten %d times", given, freed)
	}
}

// What is free and not given back is unused, and nothing else.
func TestUnusedMemory(t *testing.T) {
	debug.FreeOSMemory()
	if n := unused(); n > wasteWorth {
		t.Errorf("%d bytes are unused after all were given back", n)
	}
	held := make([]byte, 2*wasteWorth)
	runtime.GC()
	if n := unused(); n > wasteWorth {
		t.Errorf("%d bytes are unused, and they are held", n)
	}
	runtime.KeepAlive(held)
	runtime.GC()
	if n := unused(); n < wasteWorth {
		t.Errorf("%d bytes are unused, and %d were let go", n, len(held))
	}
}
