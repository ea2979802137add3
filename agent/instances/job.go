package instances

import (
	"context"
	"time"
)

// sweepEvery is how often the table looks for instances that are silent.
const sweepEvery = time.Second

// Lead keeps the table of one term until ctx ends. It is a job of the leader; isMember says
// who has not been removed.
func (t *Table) Lead(ctx context.Context, term uint64, isMember func(node string) bool) {
	t.Begin(term)
	defer t.Begin(0)
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			t.sweep(isMember)
		case <-ctx.Done():
			return
		}
	}
}
