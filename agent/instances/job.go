package instances

import (
	"context"
	"time"
)

// sweepEvery is how often the table looks for instances that are silent.
const sweepEvery = time.Second

// Lead keeps the table of one term until ctx ends. It is a job of the leader.
func (t *Table) Lead(ctx context.Context, term uint64, members func() []Member) {
	t.Begin(term)
	defer t.Begin(0)
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			t.sweep(members())
		case <-ctx.Done():
			return
		}
	}
}
