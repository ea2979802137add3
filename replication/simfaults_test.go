package replication

import (
	"context"
	"flag"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/conf"
)

var (
	simTime = flag.Duration("sim", 6*time.Minute, "virtual time that TestSimulation takes")
	simSeed = flag.Uint64("simseed", 0, "of TestSimulation; 0 makes one")
)

// TestSimulation breaks a cluster of five at random, for hours of virtual time when
// asked: go test ./replication -run TestSimulation -v -args -sim=5h -simseed=7.
func TestSimulation(t *testing.T) {
	seed := *simSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	simulate(t, seed, *simTime)
}

// Histories of a few minutes that once found a fault.
func TestSimulationFoundBefore(t *testing.T) {
	for seed, what := range map[uint64]string{
		12793632176514214502: "entries of before a snapshot stayed in the log, with a gap behind them",
	} {
		t.Run(what, func(t *testing.T) { simulate(t, seed, 6*time.Minute) })
	}
}

func simulate(t *testing.T, seed uint64, d time.Duration) {
	t.Logf("seed %d", seed)
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, seed, 3, 2)
		steps := s.run(seed, d)
		for _, p := range s.finish() {
			t.Error(p)
		}
		t.Logf("%d steps; %s", steps, s.report())
		if s.count["acknowledged"] < steps || steps < int(d/time.Minute) || s.net.count["lost"] == 0 {
			t.Errorf("too little happened to mean anything")
		}
	})
	t.Logf("%v of virtual time in %v", d, time.Since(began).Round(time.Millisecond))
}

// run breaks the cluster for a time, or until something is wrong.
func (s *sim) run(seed uint64, d time.Duration) (steps int) {
	for i := range 4 {
		s.wg.Go(func() { s.client(i, seed, time.Second) })
	}
	for end := time.Now().Add(d); time.Now().Before(end) && !s.failed(); steps++ {
		s.step()
		if steps%8 == 7 {
			s.converge()
		}
	}
	s.converge()
	return steps
}

// TestSimulationFinds removes a guard, and the simulation must find the consequences:
// if it found nothing here, it would prove nothing above.
func TestSimulationFinds(t *testing.T) {
	if racing {
		t.Log("all computing: make test runs it without the race detector")
		return
	}
	for name, tc := range map[string]struct {
		voters int
		harm   func(*sim)
	}{
		// A server that lost its log is otherwise removed and admitted under another id.
		"a voter that comes back with an empty log": {3, func(s *sim) { s.forgetful = true }},
		// As with bbolt's NoSync: a crash loses entries that the log has confirmed.
		"a log that is not flushed": {3, func(s *sim) { s.lazy = true }},
		// As a commit notification of an entry that is not committed.
		"a leader that tells of commits too early": {5, func(s *sim) { s.net.hasty = true }},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= 20; seed++ {
				var found []string
				synctest.Test(t, func(t *testing.T) {
					s := newSim(t, seed, tc.voters, 0)
					tc.harm(s)
					s.run(seed, 15*time.Minute)
					found = slices.DeleteFunc(s.finish(), func(p string) bool { return strings.HasPrefix(p, stuck) })
				})
				if len(found) > 0 {
					t.Logf("seed %d: %s", seed, found[0])
					return
				}
			}
			t.Error("not found")
		})
	}
}

// faults are what step draws from.
var simFaults = []struct {
	name string
	do   func(*sim)
}{
	{"partition", (*sim).partition},
	{"isolate the leader", func(s *sim) { s.isolate(true, true) }},
	{"leader is not heard", func(s *sim) { s.isolate(false, true) }},
	{"leader does not hear", func(s *sim) { s.isolate(true, false) }},
	{"noise", (*sim).noise},
	{"crash", func(s *sim) { s.crashSome(false) }},
	{"crash and lose writes", func(s *sim) { s.crashSome(true) }},
	{"crash the leader", (*sim).crashLeader},
	{"crash all", (*sim).crashAll},
	{"restart", (*sim).restartSome},
	{"start", func(s *sim) { s.startSome() }},
	{"transfer", (*sim).transfer},
	{"snapshot", (*sim).snapshot},
	{"replace", (*sim).replace},
	{"promote or demote", (*sim).vote},
	{"heal", (*sim).heal},
}

// step breaks or repairs one thing, and lets some time pass.
func (s *sim) step() {
	f := simFaults[s.rnd.IntN(len(simFaults))]
	f.do(s)
	s.note("fault: " + f.name)
	if live := s.live(); len(live) > 0 && s.rnd.IntN(3) == 0 {
		s.keepImage(live[s.rnd.IntN(len(live))])
	}
	s.pass(time.Duration(s.rnd.Int64N(int64(15 * time.Second))))
}

func (s *sim) some() *simNode {
	live := s.live()
	if len(live) == 0 {
		return nil
	}
	return live[s.rnd.IntN(len(live))]
}

func (s *sim) cutOff(from, to raft.ServerAddress) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.net.cut[[2]raft.ServerAddress{from, to}] = true
}

// partition splits the nodes in two.
func (s *sim) partition() {
	side := map[string]bool{}
	for _, n := range s.nodes {
		side[n.id] = s.rnd.IntN(2) == 0
	}
	for _, a := range s.nodes {
		for _, b := range s.nodes {
			if side[a.id] != side[b.id] {
				s.cutOff(raft.ServerAddress(a.id), raft.ServerAddress(b.id))
			}
		}
	}
}

// isolate cuts off what the leader receives, what it sends, or both.
func (s *sim) isolate(hears, says bool) {
	l := s.leader()
	if l == nil {
		return
	}
	for _, n := range s.nodes {
		if n == l {
			continue
		}
		if hears {
			s.cutOff(raft.ServerAddress(n.id), raft.ServerAddress(l.id))
		}
		if says {
			s.cutOff(raft.ServerAddress(l.id), raft.ServerAddress(n.id))
		}
	}
}

// noise loses, repeats and delays messages.
func (s *sim) noise() {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.net.loss, s.net.twice = s.rnd.Float64()*0.2, s.rnd.Float64()*0.3
	s.net.delay = time.Duration(s.rnd.Int64N(int64(300*time.Millisecond))) + time.Millisecond
}

func (s *sim) crashSome(lose bool) {
	if n := s.some(); n != nil {
		s.crash(n, lose)
		if s.rnd.IntN(2) == 0 {
			s.pass(time.Duration(s.rnd.Int64N(int64(3 * time.Second))))
			s.start(n, true)
		}
	}
}

func (s *sim) crashLeader() {
	if l := s.leader(); l != nil {
		s.crash(l, false)
	}
}

func (s *sim) crashAll() {
	if s.forgetful {
		return // no member would have the data
	}
	for _, n := range s.live() {
		s.crash(n, s.rnd.IntN(2) == 0)
	}
	for _, n := range s.nodes {
		s.start(n, true)
	}
}

func (s *sim) restartSome() {
	if n := s.some(); n != nil {
		s.halt(n)
		s.start(n, true)
	}
}

func (s *sim) startSome() bool {
	for _, n := range s.nodes {
		if n.life == nil {
			s.start(n, true)
			return true
		}
	}
	return false
}

// lead calls f with the leader, when there is one.
func (s *sim) lead(f func(ctx context.Context, l *simNode)) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if l := s.leader(); l != nil {
		f(ctx, l)
	}
}

func (s *sim) transfer() {
	s.lead(func(ctx context.Context, l *simNode) { _ = l.life.Transfer(ctx, "") })
}

func (s *sim) snapshot() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if n := s.some(); n != nil {
		_ = n.life.Snapshot(ctx)
	}
}

// replace loses the disk of a node that does not lead: it is removed, and
// returns under another id, as a non-voter that is promoted.
func (s *sim) replace() {
	n := s.some()
	if n == nil || n == s.leader() {
		return
	}
	s.lead(func(ctx context.Context, l *simNode) {
		if n.going = true; l.life.Remove(ctx, n.id) == nil {
			s.bury(n)
		}
	})
	s.vote()
}

// bury drops a node that was removed, and adds another one in its place.
func (s *sim) bury(n *simNode) {
	if n.life != nil {
		s.crash(n, false)
	}
	s.mu.Lock()
	s.nodes = slices.DeleteFunc(s.nodes, func(o *simNode) bool { return o == n })
	s.mu.Unlock()
	s.note("replaced")
	s.join()
}

// settle removes nodes whose removal had an unknown outcome.
func (s *sim) settle() {
	for _, n := range slices.Clone(s.nodes) {
		if n.going && s.await(n.id+" to be taken out", 5*time.Minute, func() (out bool) {
			s.lead(func(ctx context.Context, l *simNode) {
				if l == n {
					_ = l.life.Transfer(ctx, "")
					return
				}
				err := l.life.Remove(ctx, n.id)
				out = err == nil || conf.CodeOf(err) == conf.CodeNotFound
			})
			return out
		}) {
			s.bury(n)
		}
	}
}

// join adds a node with a new id. If the outcome is unknown it stays, and vote asks
// the leader again.
func (s *sim) join() {
	n := s.add(true)
	s.await("the new node to be added", 5*time.Minute, func() (in bool) {
		s.lead(func(ctx context.Context, l *simNode) { in = l.life.AddNonvoter(ctx, n.id, n.id) == nil })
		if !in {
			s.heal()
		}
		return in
	})
}

// vote brings the number of voters to three or five, or towards it.
func (s *sim) vote() {
	s.lead(func(ctx context.Context, l *simNode) {
		servers, _, err := l.life.Servers()
		if err != nil {
			return
		}
		voters := 0
		for _, m := range servers {
			if m.Voter {
				voters++
			}
		}
		promote := voters < 3 || s.rnd.IntN(2) == 0
		s.rnd.Shuffle(len(servers), func(i, j int) { servers[i], servers[j] = servers[j], servers[i] })
		for _, m := range servers {
			switch {
			case promote && !m.Voter:
				_ = l.life.Promote(ctx, m.ID)
				return
			case !promote && m.Voter && voters > 3 && m.ID != l.id:
				_ = l.life.Demote(ctx, m.ID)
				return
			}
		}
	})
}
