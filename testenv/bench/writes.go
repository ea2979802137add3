package main

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// clusterWrites writes to the leader, each client a service (a key) of its own.
func (b *bench) clusterWrites(groups []group) error {
	for _, c := range []struct {
		clients int
		target  float64
	}{{1, 0.8}, {16, 1}, {64, 1}} {
		rates, p50, p99 := make([][]float64, len(groups)), make([][]float64, len(groups)), make([][]float64, len(groups))
		lead, follow := make([][]float64, len(groups)), make([][]float64, len(groups))
		for round := range clusterRounds {
			for i, g := range groups {
				t, err := b.writeTurn(g, c.clients, round)
				if err != nil {
					return err
				}
				rates[i] = append(rates[i], t.perSecond)
				p50[i], p99[i] = append(p50[i], millis(t.p50)), append(p99[i], millis(t.p99))
				lead[i], follow[i] = append(lead[i], t.leadCPU), append(follow[i], t.followCPU)
			}
		}
		of := func(all [][]float64) (m []float64) {
			for _, s := range all {
				m = append(m, median(s))
			}
			return m
		}
		what := fmt.Sprintf("3 servers, 1 KB, %d clients: ", c.clients)
		b.versus(what+"writes/s", showRate, c.target, true, of(rates))
		b.versus(what+"p50", showMS, 1/c.target, false, of(p50))
		b.versus(what+"p99", showMS, 1/c.target, false, of(p99))
		b.beside(what+"processor a write, leader", showMS, of(lead))
		b.beside(what+"processor a write, follower", showMS, of(follow))
	}
	return nil
}

// writeTurn is a turn of one group.
type writeTurn struct {
	turn
	leadCPU, followCPU float64 // ms a write, of the leader and of one follower
}

func (b *bench) writeTurn(g group, clients, round int) (writeTurn, error) {
	leader, err := g.leader()
	if err != nil {
		return writeTurn{}, err
	}
	before, err := cpuOfGroup(g)
	if err != nil {
		return writeTurn{}, err
	}
	took, errs := make([][]time.Duration, clients), make([]error, clients)
	var failed atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for i := range clients {
		wg.Go(func() {
			w := g.writer(leader, i)
			defer w.close()
			for n := 0; b.ctx.Err() == nil; n++ {
				before := time.Now()
				err := w.write(b.ctx, 1_000_000*(round+1)+n)
				switch {
				case err != nil:
					failed.Add(1)
					errs[i] = err
				case n > 0: // the first one opens the connection
					took[i] = append(took[i], time.Since(before))
				}
				if time.Since(start) > clusterTurn {
					return
				}
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	var all []time.Duration
	for _, t := range took {
		all = append(all, t...)
	}
	if n := failed.Load(); n > 0 { // its leadership moved, which a healthy group on a free machine never does
		b.add(row{what: fmt.Sprintf("%s: writes that failed in a turn of %d clients", g.name(), clients), ours: fmt.Sprint(n), target: "0  NOT met"})
		fmt.Fprintf(os.Stderr, "cluster: %s: %d writes failed, such as: %v\n", g.name(), n, errors.Join(errs...))
	}
	if len(all) == 0 {
		return writeTurn{}, errors.Join(errs...)
	}
	after, err := cpuOfGroup(g)
	if err != nil {
		return writeTurn{}, err
	}
	t := writeTurn{turn: turn{perSecond: float64(len(all)) / elapsed.Seconds(), p50: quantile(all, 0.5), p99: quantile(all, 0.99)}}
	for i := range after {
		used := 1000 * (after[i] - before[i]) / float64(len(all)+clients)
		if i == leader {
			t.leadCPU = used
		} else {
			t.followCPU += used / 2
		}
	}
	return t, b.ctx.Err()
}

// cpuOfGroup is the processor time that each member has used, in seconds.
func cpuOfGroup(g group) (used [3]float64, err error) {
	for i := range used {
		if used[i], err = cpuOf(g.pid(i)); err != nil {
			return used, err
		}
	}
	return used, nil
}
