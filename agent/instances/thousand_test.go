package instances

import (
	"fmt"
	"testing"
	"time"
)

// A thousand instances: a report of one that says the same, and one that says something
// else, cost the same as with ten. The table holds them in less than 2 MiB.
func TestThousandInstances(t *testing.T) {
	table, c := newTable(t, 1)
	allocs := map[int]float64{}
	seq := uint64(1)
	for _, n := range []int{10, 1000} {
		for i := range n {
			r := report(fmt.Sprint("o", i), 7, seq)
			hear(t, table, KindObserver, r)
		}
		allocs[n] = testing.AllocsPerRun(100, func() {
			seq++
			hear(t, table, KindObserver, report("o5", 7+seq%2, seq))
		})
	}
	if allocs[1000] > allocs[10]+2 {
		t.Errorf("a report costs %v allocations among 10, and %v among 1000", allocs[10], allocs[1000])
	}
	if table.bytes > 2<<20 {
		t.Errorf("%d bytes", table.bytes)
	}
	// A sweep looks at those that are silent, and at one more.
	c.advance(lostAfter / 2)
	for i := range 990 {
		seq++
		hear(t, table, KindObserver, report(fmt.Sprint("o", i), 7, seq))
	}
	c.advance(lostAfter / 2)
	before := table.Since(t.Context(), 1, 0, 0).Position
	table.sweep(nil)
	if got := table.Since(t.Context(), 1, 0, 0).Position - before; got != 10 {
		t.Errorf("%d are lost, want 10", got)
	}
	started := time.Now()
	const rounds = 100
	for range rounds {
		_ = table.Answer("stt", nil, false, nil)
	}
	t.Logf("%v allocations for each report, %d bytes of reports, %s for an answer", allocs[1000], table.bytes, time.Since(started)/rounds)
}
