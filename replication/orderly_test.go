package replication

import (
	"bytes"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/store"
)

// lateSnapshot gives a follower a snapshot, then entries that it promises to keep,
// then that same snapshot again. It returns where the follower's log ends.
func lateSnapshot(t *testing.T, guard bool) (last uint64) {
	t.Helper()
	trans, leader := slowHeartbeats{transport(t)}, transport(t)
	defer slowHeartbeats{leader}.Close()
	logs, _ := openLogs(t)
	o := Options{Dir: "unused", NodeID: "n1", Machine: &store.Store{}}
	if err := o.setDefaults(); err != nil {
		t.Fatal(err)
	}
	c := o.raftConfig()
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = time.Hour, time.Hour, time.Hour
	var requests raft.Transport = trans
	guarded := newOrderly(trans, discard)
	if guard {
		requests = guarded
	}
	r, err := raft.NewRaft(c, &raft.MockFSM{}, logs, logs, raft.NewInmemSnapshotStore(), requests)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if guard {
			guarded.run(func() bool { return r.State() == raft.Leader })
		}
	}()
	defer func() {
		_ = r.Shutdown().Error()
		close(guarded.done)
		<-ended
	}()
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n2"), Addr: []byte(leader.LocalAddr())}
	members := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{
		{ID: "n1", Address: trans.LocalAddr()}, {ID: "n2", Address: leader.LocalAddr()},
	}})
	install := func() {
		var state bytes.Buffer // of a MockFSM, msgpack: an empty list
		state.WriteByte(0x90)
		req := &raft.InstallSnapshotRequest{
			RPCHeader: header, SnapshotVersion: raft.SnapshotVersionMax, Term: 2, LastLogIndex: 5, LastLogTerm: 1, Configuration: members, ConfigurationIndex: 1, Size: int64(state.Len()),
		}
		var resp raft.InstallSnapshotResponse
		if err := leader.InstallSnapshot("n1", trans.LocalAddr(), req, &resp, &state); err != nil || !resp.Success {
			t.Fatalf("snapshot: %+v, %v", resp, err)
		}
	}
	install()
	var entries []*raft.Log
	for i := uint64(6); i <= 8; i++ {
		entries = append(entries, &raft.Log{Index: i, Term: 2, Data: []byte("promised")})
	}
	var resp raft.AppendEntriesResponse
	err = leader.AppendEntries("n1", trans.LocalAddr(), &raft.AppendEntriesRequest{
		RPCHeader: header, Term: 2, PrevLogEntry: 5, PrevLogTerm: 1, Entries: entries, LeaderCommitIndex: 5,
	}, &resp)
	if err != nil || !resp.Success {
		t.Fatalf("entries: %+v, %v", resp, err)
	}
	install()
	if last, err = logs.LastIndex(); err != nil {
		t.Fatal(err)
	}
	return last
}

// TestLateSnapshot: a snapshot that was held up on its way does not take back what
// the follower has promised since. Without the guard raft drops the whole log.
func TestLateSnapshot(t *testing.T) {
	if last := lateSnapshot(t, true); last != 8 {
		t.Fatalf("entries 6 to 8 were promised, and the log ends at %d", last)
	}
	if last := lateSnapshot(t, false); last >= 8 {
		t.Fatal("without the guard nothing happened: the test proves nothing")
	}
}

// TestSnapshotThatIsNeeded: what is behind, or of another leader, is let through.
func TestSnapshotThatIsNeeded(t *testing.T) {
	o := newOrderly(slowHeartbeats{}, discard)
	entries := func(term, prev uint64, n int, ok bool) {
		o.note(&raft.AppendEntriesResponse{Success: ok}, &raft.AppendEntriesRequest{Term: term, PrevLogEntry: prev, Entries: make([]*raft.Log, n)})
	}
	want := func(what string, term, matched uint64) {
		t.Helper()
		if o.term != term || o.matched != matched {
			t.Errorf("%s: term %d, up to %d; want %d, %d", what, o.term, o.matched, term, matched)
		}
	}
	entries(3, 10, 5, false)
	want("refused entries say nothing", 0, 0)
	entries(3, 10, 5, true)
	want("entries", 3, 15)
	entries(3, 11, 0, true)
	want("older ones", 3, 15)
	entries(4, 9, 0, true)
	want("another leader: only what it has shown", 4, 9)
	entries(3, 20, 0, true)
	want("the leader of before", 4, 9)
	o.note(&raft.InstallSnapshotResponse{Success: true}, &raft.InstallSnapshotRequest{Term: 4, LastLogIndex: 30})
	want("a snapshot", 4, 30)
}

// TestLeaderStandsForNoElection: the order to stand that reaches a leader, late or not,
// does not cost it its leadership.
func TestLeaderStandsForNoElection(t *testing.T) {
	n := fresh(t, t.TempDir(), nil)
	defer n.close(t)
	n.lead(t)
	term := n.Term()
	req := raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.id), Addr: n.trans.EncodePeer(n.id, n.addr)}}
	err := n.trans.TimeoutNow(n.id, n.addr, &req, &raft.TimeoutNowResponse{})
	if err == nil || err.Error() != errLeads.Error() {
		t.Errorf("a leader was told to stand: %v", err)
	}
	if n.raft.State() != raft.Leader || n.Term() != term {
		t.Errorf("it is %v in term %d, and led term %d", n.raft.State(), n.Term(), term)
	}
}
