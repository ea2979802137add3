package replication

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-config/holdfast/testenv/base"
)

// trio is three voters; n1 leads. No ordinary election happens within the test.
func trio(t *testing.T, refused func(string) bool) []*node {
	t.Helper()
	nodes := make([]*node, 3)
	for i := range nodes {
		nodes[i] = start(t, t.TempDir(), func(o *Options) {
			o.NodeID, o.Join, o.refused = fmt.Sprintf("n%d", i+1), i > 0, refused
			o.Heartbeat, o.Lease, o.Commit = time.Hour, time.Hour, 50*time.Millisecond
		})
	}
	leader := nodes[0].lead(t)
	for _, n := range nodes[1:] {
		if err := leader.AddNonvoter(t.Context(), string(n.id), n.Addr()); err != nil {
			t.Fatal(err)
		}
		if err := leader.Promote(t.Context(), string(n.id)); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range nodes[1:] {
		eventually(t, "all to follow as voters", func() bool {
			id, _ := n.Leader()
			servers, _, err := n.Servers()
			return err == nil && id == "n1" && len(servers) == 3 && servers[0].Voter && servers[1].Voter && servers[2].Voter
		})
	}
	return nodes
}

// die makes a node look to the other members as if its process had ended. It has no
// time and no connection to transfer its leadership.
func (n *node) die(t *testing.T) {
	t.Helper()
	n.stopped = true
	if err := n.trans.Close(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_ = n.Stop(ctx)
	t.Cleanup(func() {
		select {
		case <-n.Node.stopped:
		case <-time.After(patience):
			t.Error("a dead member did not end")
		}
		if err := n.st.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestDeadLeaderIsReplacedAtOnce(t *testing.T) {
	var nodes []*node
	for try := 0; nodes == nil; try++ { // both may be candidates: then the timeouts decide, here in an hour
		if nodes = afterDeath(t); nodes == nil && try == 20 {
			t.Fatal("both were candidates each time")
		}
	}
	leader, _ := nodes[1].Leader()
	// The second one dies, too: one voter of three must not lead, nor start elections without end.
	dead, left := nodes[1], nodes[2]
	if leader == "n3" {
		dead, left = left, dead
	}
	term := left.Term()
	dead.die(t)
	eventually(t, "a try", func() bool { return left.Term() > term })
	base.Holds(t, 4*250*time.Millisecond, "one of three neither leads nor starts elections without end", func() bool {
		return !left.IsLeader() && left.Term() <= term+3
	})
}

// afterDeath is a trio whose leader died, and that has a new one. It is nil when both
// others became candidates at the same time, or one when the other one led already.
func afterDeath(t *testing.T) []*node {
	t.Helper()
	nodes := trio(t, nil)
	nodes[0].die(t)
	var lost time.Time // since when the election is lost: for an hour, if it is
	settled := false
	eventually(t, "a new leader, an hour early", func() bool {
		a, _ := nodes[1].Leader()
		b, _ := nodes[2].Leader()
		leads := nodes[1].IsLeader() || nodes[2].IsLeader()
		settled = leads && a == b && a != "" && a != "n1"
		if leads || nodes[1].raft.State() != raft.Candidate && nodes[2].raft.State() != raft.Candidate {
			lost = time.Time{}
		} else if lost.IsZero() {
			lost = time.Now()
		}
		return settled || !lost.IsZero() && time.Since(lost) > 2*time.Second
	})
	if settled {
		return nodes
	}
	for _, n := range nodes[1:] { // a leader would transfer to the dead node, for an hour
		n.die(t)
	}
	return nil
}

func TestSilentLeaderIsLeftToTheTimeouts(t *testing.T) {
	asked := make(chan string, 1000)
	nodes := trio(t, func(addr string) bool { asked <- addr; return false })
	term := nodes[0].Term()
	nodes[0].die(t)
	for range 6 { // both probe repeatedly, and are not refused
		if addr := <-asked; addr != nodes[0].Addr() {
			t.Fatalf("asked %s", addr)
		}
	}
	if nodes[1].Term() != term || nodes[2].Term() != term || nodes[1].IsLeader() || nodes[2].IsLeader() {
		t.Fatal("an election of a leader that may be alive")
	}
}
