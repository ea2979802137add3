package raftguard

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// strayTerm sends a leader a heartbeat of a later term and then proposes an entry. It
// returns the term under which the entry was stored, 0 when it was rejected, and the
// term that the node led.
func strayTerm(t *testing.T, guard bool) (stored, led uint64) {
	t.Helper()
	wire := newPipeNet()
	var trans raft.Transport = wire.open("n1")
	other := wire.open("n2")
	defer other.Close()
	if guard {
		trans = noHeartbeatFastPath{trans}
	}
	logs := raft.NewInmemStore()
	c := testConfig("n1")
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	snaps := raft.NewInmemSnapshotStore()
	self := raft.Configuration{Servers: []raft.Server{{ID: "n1", Address: trans.LocalAddr()}}}
	if err := raft.BootstrapCluster(c, logs, logs, snaps, trans, self); err != nil {
		t.Fatal(err)
	}
	r, err := raft.NewRaft(c, &raft.MockFSM{}, logs, logs, snaps, trans)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Shutdown().Error() }()
	eventually(t, "leading", func() bool { return r.State() == raft.Leader })
	if err := r.Barrier(patience).Error(); err != nil {
		t.Fatal(err)
	}
	led = r.CurrentTerm()
	// The lease of a lone voter is checked every 50 ms at most: the loop sleeps in
	// its select when this arrives.
	beat := &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n2"), Addr: []byte(other.LocalAddr())},
		Term:      led + 10,
	}
	if err := other.AppendEntries("n1", trans.LocalAddr(), beat, &raft.AppendEntriesResponse{}); err != nil {
		t.Fatal(err)
	}
	f := r.Apply([]byte("x"), patience)
	_ = f.Error()
	var l raft.Log
	if i := f.Index(); i > 0 && logs.GetLog(i, &l) == nil && string(l.Data) == "x" {
		return l.Term, led
	}
	return 0, led
}

// TestHeartbeatFastPath shows the guard at work, and that without it an entry is
// stored under a term that the node never led.
func TestHeartbeatFastPath(t *testing.T) {
	strays := 0
	for range 10 {
		// It may win another election, and then leads a later term than led+10.
		if stored, led := strayTerm(t, false); stored == led+10 {
			strays++
		}
		if stored, led := strayTerm(t, true); stored == led+10 {
			t.Fatalf("stored under term %d, but led term %d", stored, led)
		}
	}
	if strays == 0 {
		t.Fatal("without the guard nothing happened: the test proves nothing")
	}
}
