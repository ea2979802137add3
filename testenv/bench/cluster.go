package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	clusterClients = 64
	clusterRounds  = 3
	clusterTurn    = 1500 * time.Millisecond
	seenWrites     = 300
	seenFloor      = 200 * time.Microsecond // less is the noise of who runs first
	kills          = 10
	transfers      = 5
	settleFor      = 12 * time.Second // idle begins when both sides have moved their last writes to where they stay
	idleFor        = 20 * time.Second
)

// group is a cluster of three processes.
type group interface {
	name() string
	pid(i int) int
	start(i int) error
	kill(i int)
	ready(i int) bool
	leader() (int, error)
	transfer(ctx context.Context, from, to int) error
	writer(member, key int) writer
	watch(ctx context.Context, member, key int, seen func(n int)) error
}

// writer writes a document that tells n, on a connection of its own.
type writer struct {
	write func(ctx context.Context, n int) error
	close func()
}

// cluster measures three servers beside three etcd, which take turns. The agents
// are asked by HTTP, check a schema, sign, store and speak mTLS among themselves;
// etcd is asked by gRPC and speaks clear text, its fastest. Clients on both sides
// are net/http's, a connection each, to the leader.
func (b *bench) cluster() error {
	for _, a := range []*agent{b.small, b.front, b.plain, b.large} { // they would take from both sides
		if a != nil {
			a.kill()
		}
	}
	b.small, b.front, b.plain, b.large = nil, nil, nil, nil
	ours, err := startAgents(b, clusterClients, false)
	if err != nil {
		return err
	}
	groups := []group{ours}
	e, err := startEtcd(b)
	switch {
	case err != nil:
		return err
	case e == nil:
		fmt.Fprintln(os.Stderr, "cluster: etcd is NOT installed (apt-get install etcd-server): numbers of the agents only, no ratios")
	default:
		groups = append(groups, e)
	}
	for _, part := range []struct {
		name string
		run  func([]group) error
	}{{"writes", b.clusterWrites}, {"seen", b.clusterSeen}, {"idle", b.clusterIdle}, {"transfers", b.clusterTransfers}, {"kills", b.clusterKills}} {
		if !slices.Contains(strings.Split(b.options.cluster, ","), part.name) {
			continue
		}
		if err := part.run(groups); err != nil {
			return err
		}
	}
	for _, g := range groups {
		for i := range 3 {
			g.kill(i)
		}
	}
	return nil
}

// await is like an agent's.
func (b *bench) await(what string, patience time.Duration, cond func() bool) error {
	return (&agent{bench: b, name: "none"}).await(what, patience, cond)
}

// versus adds a row. Without a second number there is no ratio.
func (b *bench) versus(what string, show func(float64) string, target float64, atLeast bool, v []float64) {
	r := row{what: what, ours: show(v[0])}
	if len(v) > 1 {
		r.other = show(v[1])
		r.ratio, r.target = judge(v[0]/v[1], target, atLeast)
	}
	b.add(r)
}

// beside adds a row without a target.
func (b *bench) beside(what string, show func(float64) string, v []float64) {
	r := row{what: what, ours: show(v[0])}
	if len(v) > 1 {
		r.other, r.ratio = show(v[1]), fmt.Sprintf("%.2f", v[0]/v[1])
	}
	b.add(r)
}

func showRate(v float64) string { return fmt.Sprintf("%.0f", v) }
func showMS(v float64) string   { return fmt.Sprintf("%.2f ms", v) }

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// clusterSeen writes at the leader, and takes the time from the acknowledgement
// to the event at a follower's watcher.
func (b *bench) clusterSeen(groups []group) error {
	var p50, p99 []float64
	for _, g := range groups {
		took, err := b.seen(g)
		if err != nil {
			return err
		}
		p50, p99 = append(p50, millis(quantile(took, 0.5))), append(p99, millis(quantile(took, 0.99)))
	}
	b.versus("acknowledged -> seen at a follower, p50", showMS, 1.5, false, p50)
	b.versus("acknowledged -> seen at a follower, p99", showMS, 1.5, false, p99)
	return nil
}

func (b *bench) seen(g group) ([]time.Duration, error) {
	leader, err := g.leader()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	type event struct {
		n  int
		at time.Time
	}
	events := make(chan event, 2*seenWrites)
	ended := make(chan error, 1)
	go func() {
		ended <- g.watch(ctx, (leader+1)%3, 0, func(n int) { events <- event{n, time.Now()} })
	}()
	w := g.writer(leader, 0)
	defer w.close()
	const first = 500_000_000
	// The watch stands when it tells of a write.
	probe := time.NewTicker(20 * time.Millisecond)
	defer probe.Stop()
	for n, standing := first-1000, false; !standing; n++ {
		if err := w.write(ctx, n); err != nil {
			return nil, err
		}
		select {
		case e := <-events:
			standing = e.n >= first-1000
		case <-probe.C:
		case err := <-ended:
			return nil, fmt.Errorf("the watch ended: %w", err)
		}
	}
	var took []time.Duration
	for n := first; n < first+seenWrites; n++ {
		if err := w.write(ctx, n); err != nil {
			return nil, err
		}
		acked := time.Now()
		for last := 0; last < n; {
			select {
			case e := <-events:
				if last = e.n; last == n {
					took = append(took, max(seenFloor, e.at.Sub(acked)))
				}
			case <-ctx.Done():
				return nil, fmt.Errorf("%s: write %d was not seen at a follower", g.name(), n)
			}
		}
	}
	return took, nil
}

func (b *bench) clusterIdle(groups []group) error {
	measure := func() (cpu [][3]float64, err error) {
		for _, g := range groups {
			of, err := cpuOfGroup(g)
			if err != nil {
				return nil, err
			}
			cpu = append(cpu, of)
		}
		return cpu, nil
	}
	wait := func(d time.Duration) error {
		select {
		case <-time.After(d):
			return nil
		case <-b.ctx.Done():
			return b.ctx.Err()
		}
	}
	if err := wait(settleFor); err != nil {
		return err
	}
	before, err := measure()
	if err != nil {
		return err
	}
	if err := wait(idleFor); err != nil {
		return err
	}
	after, err := measure()
	if err != nil {
		return err
	}
	var cpu, memory []float64
	for k, g := range groups {
		var used, mb float64
		for i := range 3 {
			used += after[k][i] - before[k][i]
			m, err := rssOf(g.pid(i))
			if err != nil {
				return err
			}
			mb += m / 3
		}
		cpu, memory = append(cpu, 100*used/3/idleFor.Seconds()), append(memory, mb)
	}
	b.versus("idle processor per member", func(v float64) string { return fmt.Sprintf("%.2f %%", v) }, 1, false, cpu)
	b.versus("memory per member after the writes (RSS)", func(v float64) string { return fmt.Sprintf("%.1f MB", v) }, 1, false, memory)
	return nil
}

// clusterTransfers hands the leadership over and takes the time, from asking for
// it, to the first write that was begun after the answer and is acknowledged.
func (b *bench) clusterTransfers(groups []group) error {
	var p50 []float64
	for _, g := range groups {
		var took []time.Duration
		for n := range transfers {
			from, err := g.leader()
			if err != nil {
				return err
			}
			to := (from + 1) % 3
			start := time.Now()
			if err := g.transfer(b.ctx, from, to); err != nil {
				return err
			}
			if _, err := b.firstWrite(g, []int{to}, start, 600_000_000+n); err != nil {
				return err
			}
			took = append(took, time.Since(start))
			if err := b.settled(g); err != nil {
				return err
			}
		}
		p50 = append(p50, millis(median(took)))
	}
	b.versus("planned change of leader -> next write acknowledged, p50", showMS, 1, false, p50)
	return nil
}

// firstWrite tries at all members given, until one acknowledges.
func (b *bench) firstWrite(g group, members []int, since time.Time, n int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	acked := make(chan time.Duration, len(members))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for k, m := range members {
		wg.Go(func() {
			w := g.writer(m, k)
			defer w.close()
			for ctx.Err() == nil {
				try, done := context.WithTimeout(ctx, 300*time.Millisecond)
				err := w.write(try, n)
				done()
				if err == nil {
					acked <- time.Since(since)
					return
				}
				select {
				case <-time.After(2 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	select {
	case d := <-acked:
		return d, nil
	case <-ctx.Done():
		return 0, fmt.Errorf("%s: no write was acknowledged in 30 s", g.name())
	}
}

// settled waits until all members take part and agree on a leader.
func (b *bench) settled(g group) error {
	return b.await(g.name()+" to settle", 30*time.Second, func() bool {
		_, err := g.leader()
		return err == nil && g.ready(0) && g.ready(1) && g.ready(2)
	})
}

// clusterKills kills the leader again and again, and takes the time to the next
// acknowledged write at a survivor. Meanwhile each agent that lives is read.
func (b *bench) clusterKills(groups []group) error {
	var p50, worst []float64
	for _, g := range groups {
		var r *readers
		if ours, ok := g.(*agentGroup); ok {
			r = b.readAll(ours)
		}
		var took []time.Duration
		for n := range kills {
			if err := b.settled(g); err != nil {
				return err
			}
			leader, err := g.leader()
			if err != nil {
				return err
			}
			if r != nil {
				r.live[leader].Store(false)
			}
			start := time.Now()
			g.kill(leader)
			d, err := b.firstWrite(g, []int{(leader + 1) % 3, (leader + 2) % 3}, start, 700_000_000+n)
			if err != nil {
				return err
			}
			took = append(took, d)
			if err := g.start(leader); err != nil {
				return err
			}
			if err := b.await("the killed member", 30*time.Second, func() bool { return g.ready(leader) }); err != nil {
				return err
			}
			if r != nil {
				r.live[leader].Store(true)
			}
		}
		p50, worst = append(p50, millis(median(took))), append(worst, millis(quantile(took, 1)))
		if r != nil {
			r.stop()
			goal := "0  met"
			if r.failed.Load() > 0 {
				goal = fmt.Sprintf("0  NOT met: %v", r.why.Load())
			}
			b.add(row{what: fmt.Sprintf("failed reads of %d during %d kills", r.made.Load(), kills), ours: fmt.Sprint(r.failed.Load()), target: goal})
		}
	}
	b.versus(fmt.Sprintf("leader killed -> next write acknowledged, p50 of %d", kills), showMS, 0.6, false, p50)
	b.versus("leader killed -> next write acknowledged, worst", showMS, 1, false, worst)
	return nil
}

// readers read one document of each live agent, a thousand times a second at most.
type readers struct {
	live         [3]atomic.Bool
	made, failed atomic.Int64
	why          atomic.Value
	cancel       context.CancelFunc
	wg           sync.WaitGroup
}

func (b *bench) readAll(g *agentGroup) *readers {
	r := &readers{}
	ctx, cancel := context.WithCancel(b.ctx)
	r.cancel = cancel
	for i := range r.live {
		r.live[i].Store(true)
		r.wg.Go(func() {
			t := get("agent", g.members[i].local, "/v1/config/"+service(1), "")
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			var c *conn
			for ctx.Err() == nil {
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
				before := r.live[i].Load()
				var err error
				if c == nil {
					c, err = dial(ctx, t.addr)
				}
				if err == nil {
					err = c.roundTrip(t)
				}
				if err != nil && c != nil {
					_ = c.Close()
					c = nil
				}
				// A failure counts when the agent lived all the while.
				if before && r.live[i].Load() && ctx.Err() == nil {
					r.made.Add(1)
					if err != nil {
						r.failed.Add(1)
						r.why.Store(err.Error())
					}
				}
			}
			if c != nil {
				_ = c.Close()
			}
		})
	}
	return r
}

func (r *readers) stop() { r.cancel(); r.wg.Wait() }
