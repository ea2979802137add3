package testenv

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// TestLeaderKills kills the leader again and again while clients work. Nothing
// acknowledged is lost or doubled, the history is that of one place, and no read of
// a living agent fails. make chaos does it for longer.
func TestLeaderKills(t *testing.T) {
	c := StartCluster(t, 3, 1)
	l := StartLoad(t, c, LoadOptions{Seed: 1, Retry: true})
	kills := 3
	if testing.Short() {
		kills = 2
	}
	for range kills {
		l.AwaitWrites(30)
		leader := c.Leader()
		leader.Kill()
		l.AwaitWrites(10) // without it
		leader.Start()
		leader.AwaitUp()
	}
	l.AwaitWrites(30)
	Await(t, "traffic that means something", func() bool {
		return l.Count("reads") >= 500 && l.Count(opGet) >= 50 && l.Count("watch events") >= 50
	})
	c.CheckInvariants(t, l)
	t.Logf("%d kills; %s", kills, l.Counts())
}

// reader reads as fast as it can from one agent and counts what fails.
type reader struct {
	stop        chan struct{}
	wg          sync.WaitGroup
	reads, fail atomic.Int64
	last        atomic.Value
}

func startReader(n *Node, service string, parallel int) *reader {
	r := &reader{stop: make(chan struct{})}
	for range parallel {
		r.wg.Go(func() {
			for {
				select {
				case <-r.stop:
					return
				default:
				}
				reply := n.Local("/v1/config/" + service)
				r.reads.Add(1)
				if reply.Err != nil || reply.Status != http.StatusOK {
					r.fail.Add(1)
					r.last.Store(reply.String())
				}
			}
		})
	}
	return r
}

func (r *reader) end(t *testing.T, least int64) {
	t.Helper()
	close(r.stop)
	r.wg.Wait()
	if r.fail.Load() > 0 {
		t.Errorf("%d of %d reads failed, such as: %v", r.fail.Load(), r.reads.Load(), r.last.Load())
	}
	if r.reads.Load() < least {
		t.Errorf("only %d reads were made", r.reads.Load())
	}
}

// TestQuorumLost takes two of three servers away. The third and the sidecar serve
// all reads; writes are refused within a second, and work again when the others
// are back.
func TestQuorumLost(t *testing.T) {
	c := StartCluster(t, 3, 1)
	v := c.Nodes[0].Patch("router", `{"router_stream_min_chars":41}`)
	for _, n := range c.Nodes {
		awaitVersion(t, n, "router", v)
	}
	leader, followers := c.Servers()
	gone := []*Node{leader, followers[0]}
	left := c.Except(gone...)
	var readers []*reader
	for _, n := range left {
		readers = append(readers, startReader(n, "router", 2))
	}
	for _, n := range gone {
		n.Kill()
	}
	for _, n := range left {
		// Until it notices that the leader is gone it may try to reach it.
		Await(t, n.ID+" to refuse writes for want of a quorum", func() bool {
			r := patchRouter(n, 42)
			return r.Status == http.StatusServiceUnavailable && r.Failure().Code == conf.CodeNoQuorum
		})
		quickest := Patience // of a few: the machine may be busy with something else
		for range 5 {
			var r Reply
			Await(t, n.ID+" to refuse another one", func() bool { // not one that went to the old leader
				began := time.Now()
				r = patchRouter(n, 43)
				quickest = min(quickest, time.Since(began))
				return r.Failure().Code == conf.CodeNoQuorum
			})
			if r.Header.Get("Retry-After") == "" || r.Failure().Hint == "" {
				t.Errorf("the refusal has no Retry-After or no hint: %s", r)
			}
		}
		if quickest > 1500*time.Millisecond {
			t.Errorf("%s took %v at least to say that there is no quorum", n.ID, quickest)
		}
		r := n.Admin("GET", "/api/config/services/router?consistent=1", "")
		if r.Status != http.StatusServiceUnavailable {
			t.Errorf("a consistent read without a quorum: %s", r)
		}
		if d := n.Document("router"); d.Metadata.Version != v {
			t.Errorf("%s serves version %d, want %d", n.ID, d.Metadata.Version, v)
		}
	}
	out, code := left[0].Holdfast("cluster", "status")
	if code != 6 || !strings.Contains(out, "no quorum: reads go on, changes are refused") {
		t.Errorf("cluster status without a quorum: exit %d\n%s", code, out)
	}

	for _, n := range left {
		n.AwaitHealth("the fallback", func(h conf.Health) bool { return readOnly(h) && !h.OK })
		if out, code := n.Holdfast("health"); code != 6 || !strings.Contains(out, "no leader") {
			t.Errorf("health of %s without a quorum: exit %d\n%s", n.ID, code, out)
		}
	}

	// A service's agent restarts in the middle of it: it serves what it had.
	left[1].AwaitLKG(State{"router": left[1].Document("router")})
	left[1].Kill()
	readers[1].endAny()
	left[1].Start()
	if d := left[1].AwaitServing("router"); d.Metadata.Version != v {
		t.Errorf("restarted without a quorum, %s serves version %d, want %d", left[1].ID, d.Metadata.Version, v)
	}
	left[1].up()

	for _, n := range gone {
		n.Start()
	}
	for _, n := range c.Nodes {
		n.AwaitUp()
	}
	c.AwaitVoters(3)
	v = left[0].Patch("router", `{"router_stream_min_chars":44}`)
	for _, n := range c.Nodes {
		awaitVersion(t, n, "router", v)
	}
	readers[0].end(t, 500)
	c.CheckInvariants(t, nil)
}

// endAny ends a reader whose agent was killed.
func (r *reader) endAny() {
	close(r.stop)
	r.wg.Wait()
}

func patchRouter(n *Node, chars int, headers ...string) Reply {
	return n.Admin("PATCH", "/api/config/services/router", fmt.Sprintf(`{"router_stream_min_chars":%d}`, chars), headers...)
}

func awaitVersion(t *testing.T, n *Node, service string, v uint64) {
	t.Helper()
	Await(t, fmt.Sprintf("%s to serve version %d of %s", n.ID, v, service), func() bool {
		d, err := n.TryDocument(service)
		return err == nil && d.Metadata.Version >= v
	})
}

// TestPartitions cuts a follower off, then a leader, then one direction only. The
// side with the majority works on; when the network heals, all come together.
func TestPartitions(t *testing.T) {
	c := StartCluster(t, 3, 1)
	l := StartLoad(t, c, LoadOptions{Seed: 2})
	for _, tc := range []struct {
		name  string
		pick  func() *Node
		fault func(n *Node, rest []string)
	}{
		{"follower, silently", func() *Node { return c.Followers()[0] }, func(n *Node, rest []string) { c.Net.Each(IDs(n), rest, (*Link).Hold) }},
		{"leader, silently", c.Leader, func(n *Node, rest []string) { c.Net.Each(IDs(n), rest, (*Link).Hold) }},
		{"leader, with resets", c.Leader, func(n *Node, rest []string) { c.Net.Each(IDs(n), rest, (*Link).Cut) }},
		{"leader does not hear", c.Leader, func(n *Node, rest []string) {
			for _, id := range rest {
				c.Net.Link(id, n.ID).Hold()
			}
		}},
		{"leader is not heard", c.Leader, func(n *Node, rest []string) {
			for _, id := range rest {
				c.Net.Link(n.ID, id).Hold()
			}
		}},
	} {
		l.AwaitWrites(20)
		n := tc.pick()
		rest := IDs(c.Except(n)...)
		tc.fault(n, rest)
		// The majority finds a leader among itself and takes writes.
		Await(t, tc.name+": the others to take a write", func() bool {
			return patchRouter(c.Except(n)[rand.IntN(3)], 50+rand.IntN(50)).Status == http.StatusOK
		})
		// A member that is cut off says so, in time, and serves its reads (the load holds that).
		if tc.name != "follower, silently" {
			for try := 1; ; try++ {
				began := time.Now()
				r := patchRouter(n, 49)
				took := time.Since(began)
				t.Logf("%s: a write at the isolated agent was answered after %v", tc.name, took)
				if took < 15*time.Second { // it may wait ten seconds for another
					break
				}
				if try == 2 { // once it may be the machine
					t.Errorf("%s: a write at the isolated agent was answered after %v: %s", tc.name, took, r)
					break
				}
			}
		}
		c.Net.Heal()
		c.AwaitVoters(3)
	}
	l.AwaitWrites(20)
	c.CheckInvariants(t, l)
	t.Log(l.Counts())
}

// TestPausedLeader stops the leader's process for longer than an election takes.
// It comes back as a follower; what it had accepted and not told is not doubled.
// Then it stops a follower: nobody notices, and it does not unseat the leader when
// it is back, with its timeouts all over.
func TestPausedLeader(t *testing.T) {
	c := StartCluster(t, 3, 1)
	l := StartLoad(t, c, LoadOptions{Seed: 3, Retry: true})
	for range 2 {
		l.AwaitWrites(30)
		leader := c.Leader()
		term := status(t, leader).Term
		leader.Pause()
		l.AwaitWrites(20)
		if now := c.Leader(); now == leader {
			t.Fatal("a stopped process leads")
		}
		leader.Resume()
		Await(t, "the old leader to follow", func() bool {
			st, ok := leader.Status()
			row, in := leader.In(st)
			return ok && in && st.Quorum && (st.Leader != row.NodeID || st.Term > term) // it may lead again, later
		})
		c.AwaitVoters(3)
	}
	// A busy machine may have an election of its own meanwhile. One that the follower
	// brings about comes each time.
	for try := 1; ; try++ {
		follower := c.Followers()[0]
		follower.Pause()
		began := time.Now()
		Await(t, "an election's time to pass", func() bool { return time.Since(began) > 3*time.Second })
		l.AwaitWrites(20)
		leader := c.Leader()
		term := status(t, leader).Term
		follower.Resume()
		c.AwaitVoters(3)
		st := status(t, leader)
		if st.Term == term {
			break
		}
		t.Logf("try %d: a follower that was stopped comes back, and term %d is term %d", try, term, st.Term)
		if try == 3 {
			t.Error("a follower that was stopped unseats the leader")
			break
		}
	}
	l.AwaitWrites(20)
	c.CheckInvariants(t, l)
	t.Log(l.Counts())
}
