package replica

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// monitorLeadership runs what leading asks for, and ends it when the leadership is lost.
// It is woken by each change of leadership and each second; what it does is safe to
// repeat.
func (r *Replica) monitorLeadership(ctx context.Context) {
	jobs := leaderJobs{r: r}
	defer jobs.end()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		r.sup.o.Status.NoteLeader(r.HasLeader())
		switch {
		case !r.node.IsLeader():
			if r.readyTerm.Swap(0) != 0 {
				r.sup.o.Cluster.NotifyLeadership()
			}
			jobs.end()
		case r.readyTerm.Load() != r.node.Term():
			jobs.end()
			if r.establishLeadership(ctx) {
				jobs.begin(ctx)
			}
		}
		for _, job := range r.sup.o.Jobs.Leadership {
			job(ctx, r)
		}
		select {
		case _, open := <-r.node.LeaderCh():
			if !open {
				return
			}
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// leaderJobs run while this node is the ready leader.
type leaderJobs struct {
	r    *Replica
	stop context.CancelFunc
	done sync.WaitGroup
}

func (j *leaderJobs) begin(ctx context.Context) {
	ctx, j.stop = context.WithCancel(ctx)
	j.done.Go(func() { j.r.digest.run(ctx) })
	for _, job := range j.r.sup.o.Jobs.Leader {
		j.done.Go(func() { job(ctx, j.r) })
	}
}

func (j *leaderJobs) end() {
	if j.stop != nil {
		j.stop()
		j.done.Wait()
		j.stop = nil
	}
}

// establishLeadership makes a new leader ready: it passes a barrier before its first
// change, so that it has applied all that its predecessors acknowledged.
func (r *Replica) establishLeadership(ctx context.Context) bool {
	term := r.node.Term()
	bctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := r.node.Barrier(bctx); err != nil || r.node.Term() != term {
		return false
	}
	if err := r.sup.o.Keys.LoadKeyring(bctx, r.store); err != nil { // it signs by the active key
		return false
	}
	r.readyTerm.Store(term)
	r.sup.o.Cluster.NotifyLeadership()
	return true
}

// catchUp waits until this replica is as new as the cluster, as far as that can be found
// out: it leads, or it has applied what the leader had committed when it was asked.
// Without a leader it continues with what it has after two seconds, when it has
// anything: that is what services need in an outage.
func (r *Replica) catchUp(ctx context.Context) error {
	s := r.sup
	patience := time.NewTimer(2 * time.Second)
	defer patience.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var want uint64
	for {
		if r.IsReadyLeader() {
			return nil
		}
		if leader, ok := r.leader(); ok && want == 0 {
			rctx, cancel := context.WithTimeout(ctx, time.Second)
			var at readIndex
			if err := s.o.Cluster.Call(rctx, leader, routeReadIndex, nil, &at); err == nil {
				want = max(at.Index, 1)
			}
			cancel()
		}
		if applied, _ := r.store.Applied(); want > 0 && applied >= want && r.store.Epoch() != "" {
			return nil
		}
		select {
		case <-tick.C:
		case <-patience.C:
			if r.store.Epoch() != "" {
				err := r.checkNotOlderThanServed(ctx)
				if err == nil {
					s.log.Warn("no leader answers: going on with what this replica has")
					return nil
				}
				s.log.Warn("no leader answers, and this replica is older than what was served already: waiting for a leader", "err", err)
			}
			s.o.Status.SetUnlessLocked(conf.DatabaseHealthy, conf.ModeReadOnly, "waiting for a leader", nil)
		case err := <-r.node.Fault():
			return err
		case err := <-r.faults:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
