package replication

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/raftguard"
	"github.com/holdfast-config/holdfast/testenv/base"
)

// slowBolt is a log whose disk can be slow, or hangs while mu is held.
type slowBolt struct {
	raftguard.LogFile
	delay atomic.Int64 // nanoseconds
	mu    *sync.Mutex  // held: appends hang
}

func (s *slowBolt) StoreLogs(logs []*raft.Log) error {
	s.mu.Lock() // only the wait counts
	defer s.mu.Unlock()
	<-time.After(time.Duration(s.delay.Load()))
	return s.LogFile.StoreLogs(logs)
}

// pair is a leader on a disk that a test slows down, and two other voters.
func pair(t *testing.T, slow, hung time.Duration) (nodes []*node, disk *slowBolt) {
	t.Helper()
	disk = &slowBolt{mu: &sync.Mutex{}}
	nodes = make([]*node, 3)
	for i := range nodes {
		nodes[i] = start(t, t.TempDir(), func(o *Options) {
			o.NodeID, o.Join = fmt.Sprintf("n%d", i+1), i > 0
			o.Heartbeat, o.Lease = 3*time.Second, 3*time.Second // a busy machine must not depose the leader
			o.SlowDisk, o.HungDisk = slow, hung
			if i == 0 {
				o.wrapLog = func(b raftguard.LogFile) raftguard.LogFile { disk.LogFile = b; return disk }
			}
		})
	}
	leader := nodes[0].lead(t)
	leader.must(t, &command.Genesis{Epoch: testEpoch, At: testTime, NodeID: "n1", Reason: "test"})
	for _, n := range nodes[1:] {
		if err := leader.AddNonvoter(t.Context(), string(n.id), n.Addr()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a replica", func() bool { _, a := n.Indexes(); return a > 1 })
		if err := leader.Promote(t.Context(), string(n.id)); err != nil {
			t.Fatal(err)
		}
	}
	leader.write(t, "router", 1, 1)
	return nodes, disk
}

func otherLeads(nodes []*node) func() bool {
	return func() bool { return nodes[1].IsLeader() || nodes[2].IsLeader() }
}

const (
	slowLimit = 2 * time.Second
	hungLimit = 4 * time.Second
)

// TestSlowDiskLeadsWithoutTheGuard is the known-bad build of the two tests below: with
// limits of an hour a leader whose disk hangs, or is slow, still leads.
func TestSlowDiskLeadsWithoutTheGuard(t *testing.T) {
	nodes, disk := pair(t, time.Hour, time.Hour)
	term := nodes[0].Term()
	disk.mu.Lock()
	done := make(chan error, 1)
	go func() { _, err := nodes[0].Propose(t.Context(), edit("router", 2)); done <- err }()
	if base.Poll(hungLimit+time.Second, otherLeads(nodes)) { // no Fatal while the disk hangs
		t.Error("without the guard nothing happened: TestHungDiskDoesNotLead proves nothing")
	}
	disk.mu.Unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
	disk.delay.Store(int64(2500 * time.Millisecond))
	if _, err := nodes[0].Propose(t.Context(), edit("router", 3)); err != nil {
		t.Error(err)
	}
	disk.delay.Store(0)
	base.Holds(t, slowLimit, "without the guard nothing happens, else TestSlowDiskDoesNotLead proves nothing", func() bool {
		return nodes[0].IsLeader() && nodes[0].Term() == term
	})
}

func TestSlowDiskDoesNotLead(t *testing.T) {
	nodes, disk := pair(t, slowLimit, patience)
	disk.delay.Store(int64(2500 * time.Millisecond))
	_, _ = nodes[0].Propose(t.Context(), edit("router", 2))
	eventually(t, "another leader", otherLeads(nodes))
	disk.delay.Store(0)
	if err := nodes[0].Err(); err != nil {
		t.Fatalf("a slow disk is no fault: %v", err)
	}
}

func TestHungDiskDoesNotLead(t *testing.T) {
	nodes, disk := pair(t, slowLimit, hungLimit)
	disk.mu.Lock()
	done := make(chan error, 1)
	go func() { _, err := nodes[0].Propose(t.Context(), edit("router", 2)); done <- err }()
	eventually(t, "another leader", otherLeads(nodes))
	if err := <-done; err == nil {
		t.Fatal("acknowledged by a disk that hangs")
	}
	if nodes[0].Err() == nil || nodes[0].IsLeader() {
		t.Fatal("the node with the hung disk continues")
	}
	disk.mu.Unlock()
}
