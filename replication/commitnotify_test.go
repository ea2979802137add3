package replication

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/testenv/base"
)

// wire is a TCP transport that can drop commit notifications.
type wire struct {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
	drop    *atomic.Bool
	dropped *atomic.Int64
}

func (w wire) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if w.drop.Load() && len(req.Entries) == 0 && req.PrevLogEntry > 0 && req.LeaderCommitIndex == req.PrevLogEntry {
		w.dropped.Add(1)
		return errors.New("dropped")
	}
	return w.Transport.AppendEntries(id, to, req, resp)
}

// TestFollowersSeeCommitsAtOnce: with a CommitTimeout of an hour nothing else
// sends a follower the last commit; without notifications it stays behind.
func TestFollowersSeeCommitsAtOnce(t *testing.T) {
	var drop atomic.Bool
	var dropped atomic.Int64
	nodes := make([]*node, 3)
	for i := range nodes {
		nodes[i] = start(t, t.TempDir(), func(o *Options) {
			o.NodeID, o.Join = fmt.Sprintf("n%d", i+1), i > 0
			o.Heartbeat, o.Lease, o.Commit = 10*time.Second, 10*time.Second, time.Hour // a busy machine must not depose the leader
			o.Transport = tcpWire(t, &drop, &dropped)
		})
	}
	leader := nodes[0].lead(t)
	leader.must(t, &command.Genesis{Epoch: testEpoch, At: testTime, NodeID: "n1", Reason: "test"})
	// One voter, one non-voter. The last entry of a change of membership is no
	// command, and is sent too.
	for _, n := range nodes[1:] {
		if err := leader.AddNonvoter(t.Context(), string(n.id), n.Addr()); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the replica of n2", func() bool { _, a := nodes[1].Indexes(); l, _ := leader.Indexes(); return a > 0 && l > 0 })
	if err := leader.Promote(t.Context(), "n2"); err != nil {
		t.Fatal(err)
	}
	for v := uint64(1); v <= 20; v++ {
		leader.write(t, "router", v, v)
		wantVersion(t, nodes[1], "router", v)
		wantVersion(t, nodes[2], "router", v)
	}
	drop.Store(true)
	leader.write(t, "router", 21, 21)
	eventually(t, "notifications to be dropped", func() bool { return dropped.Load() >= 2 })
	base.Holds(t, 200*time.Millisecond, "without a notification the followers stay at version 20, else this test shows nothing", func() bool {
		return version(t, nodes[1].st, "router") == 20 && version(t, nodes[2].st, "router") == 20
	})
	drop.Store(false)
	leader.write(t, "router", 22, 22)
	wantVersion(t, nodes[1], "router", 22)
	wantVersion(t, nodes[2], "router", 22)
}

func tcpWire(tb testing.TB, drop *atomic.Bool, dropped *atomic.Int64) raft.Transport {
	tb.Helper()
	t := transport(tb)
	return wire{Transport: t, WithPreVote: t, WithClose: t, drop: drop, dropped: dropped}
}
