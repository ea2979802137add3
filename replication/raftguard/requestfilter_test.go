package raftguard

import (
	"bytes"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// lateSnapshot sends a follower a snapshot, then entries that it confirms, then the same
// snapshot again. It returns where the follower's log ends.
func lateSnapshot(t *testing.T, guard bool) (last uint64) {
	t.Helper()
	wire := newPipeNet()
	trans, leader := noHeartbeatFastPath{wire.open("n1")}, wire.open("n2")
	defer leader.Close()
	logs, _ := openLogs(t)
	c := testConfig("n1")
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = time.Hour, time.Hour, time.Hour
	var requests raft.Transport = trans
	guarded := newRequestFilter(trans, discard)
	if guard {
		requests = guarded
	}
	r, err := raft.NewRaft(c, &raft.MockFSM{}, logs, logs, raft.NewInmemSnapshotStore(), requests)
	if err != nil {
		t.Fatal(err)
	}
	defer serve(r, guarded, guard)()
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
		entries = append(entries, &raft.Log{Index: i, Term: 2, Data: []byte("confirmed")})
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

// TestLateSnapshot: a delayed snapshot does not drop entries that the follower has
// confirmed since. Without the guard raft drops the whole log.
func TestLateSnapshot(t *testing.T) {
	if last := lateSnapshot(t, true); last != 8 {
		t.Fatalf("entries 6 to 8 were confirmed, and the log ends at %d", last)
	}
	if last := lateSnapshot(t, false); last >= 8 {
		t.Fatal("without the guard nothing happened: the test proves nothing")
	}
}

// TestSnapshotThatIsNeeded: snapshots for a log that is behind, or of another leader,
// are installed.
func TestSnapshotThatIsNeeded(t *testing.T) {
	o := newRequestFilter(noHeartbeatFastPath{}, discard)
	entries := func(term, prev uint64, n int, ok bool) {
		o.updateMatch(&raft.AppendEntriesResponse{Success: ok}, &raft.AppendEntriesRequest{Term: term, PrevLogEntry: prev, Entries: make([]*raft.Log, n)})
	}
	want := func(what string, term, matched uint64) {
		t.Helper()
		if o.term != term || o.matched != matched {
			t.Errorf("%s: term %d, up to %d; want %d, %d", what, o.term, o.matched, term, matched)
		}
	}
	entries(3, 10, 5, false)
	want("rejected entries prove nothing", 0, 0)
	entries(3, 10, 5, true)
	want("entries", 3, 15)
	entries(3, 11, 0, true)
	want("older ones", 3, 15)
	entries(4, 9, 0, true)
	want("another leader: only what it has shown", 4, 9)
	entries(3, 20, 0, true)
	want("the previous leader", 4, 9)
	o.updateMatch(&raft.InstallSnapshotResponse{Success: true}, &raft.InstallSnapshotRequest{Term: 4, LastLogIndex: 30})
	want("a snapshot", 4, 30)
}

// timeoutNow sends a single voter that leads a TimeoutNow request, and returns its state
// after it, how many terms it cost, and the response.
func timeoutNow(t *testing.T, guard bool) (state raft.RaftState, terms uint64, response error) {
	t.Helper()
	trans := noHeartbeatFastPath{newPipeNet().open("n1")}
	var requests raft.Transport = trans
	guarded := newRequestFilter(trans, discard)
	if guard {
		requests = guarded
	}
	logs, snaps := raft.NewInmemStore(), raft.NewInmemSnapshotStore()
	c := testConfig("n1")
	self := raft.Configuration{Servers: []raft.Server{{ID: "n1", Address: trans.LocalAddr()}}}
	if err := raft.BootstrapCluster(c, logs, logs, snaps, requests, self); err != nil {
		t.Fatal(err)
	}
	r, err := raft.NewRaft(c, &raft.MockFSM{}, logs, logs, snaps, requests)
	if err != nil {
		t.Fatal(err)
	}
	defer serve(r, guarded, guard)()
	eventually(t, "leading", func() bool { return r.State() == raft.Leader })
	term := r.CurrentTerm()
	req := raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n1"), Addr: []byte(trans.LocalAddr())}}
	response = trans.TimeoutNow("n1", trans.LocalAddr(), &req, &raft.TimeoutNowResponse{})
	return r.State(), r.CurrentTerm() - term, response
}

// TestLateTimeoutNow: a TimeoutNow request that reaches a leader does not cost it its
// leadership. Without the guard raft steps down.
func TestLateTimeoutNow(t *testing.T) {
	state, terms, err := timeoutNow(t, true)
	if err == nil || err.Error() != errAlreadyLeader.Error() {
		t.Errorf("response to a TimeoutNow request to the leader: %v", err)
	}
	if state != raft.Leader || terms != 0 {
		t.Errorf("it is %v, %d terms later", state, terms)
	}
	unseated := false
	for try := 0; try < 20 && !unseated; try++ { // it may lead again before the test looks
		state, terms, err := timeoutNow(t, false)
		unseated = err == nil && (state != raft.Leader || terms > 0)
	}
	if !unseated {
		t.Error("without the guard nothing happened: the test proves nothing")
	}
}

// serve runs the filter when guard is set. The function it returns stops raft, then the filter.
func serve(r *raft.Raft, f *requestFilter, guard bool) func() {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if guard {
			f.Serve(func() bool { return r.State() == raft.Leader })
		}
	}()
	return func() {
		_ = r.Shutdown().Error()
		f.Stop()
		<-ended
	}
}
