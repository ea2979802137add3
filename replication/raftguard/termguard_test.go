package raftguard

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// raisedTerm starts a leader and a member that does not vote, which responds with a higher
// term to entries. It returns how many terms that cost, and who is cut off.
func raisedTerm(t *testing.T, guard bool) (terms uint64, cut []CutOff) {
	t.Helper()
	wire := newPipeNet()
	near, far := wire.open("leader"), wire.open("member")
	trans, err := NewTransport(near, discard)
	if err != nil {
		t.Fatal(err)
	}
	var requests raft.Transport = trans
	if !guard {
		requests = noHeartbeatFastPath{near}
	}
	logs, snaps := raft.NewInmemStore(), raft.NewInmemSnapshotStore()
	c := testConfig("leader")
	members := raft.Configuration{Servers: []raft.Server{{ID: "leader", Address: "leader"}, {ID: "member", Address: "member", Suffrage: raft.Nonvoter}}}
	if err := raft.BootstrapCluster(c, logs, logs, snaps, requests, members); err != nil {
		t.Fatal(err)
	}
	r, err := raft.NewRaft(c, &raft.MockFSM{}, logs, logs, snaps, requests)
	if err != nil {
		t.Fatal(err)
	}
	trans.GuardTerms("leader", r, NewFault())
	stopFilter := serve(r, trans.requestFilter, guard)
	var raise atomic.Bool
	var raised atomic.Int64
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case rpc := <-far.Consumer():
				req := rpc.Command.(*raft.AppendEntriesRequest)
				resp := &raft.AppendEntriesResponse{RPCHeader: req.RPCHeader, Term: req.Term, Success: true, LastLog: req.PrevLogEntry + uint64(len(req.Entries))}
				if raise.Load() {
					resp.Term, resp.Success = req.Term+7, false
					raised.Add(1)
				}
				rpc.Respond(resp, nil)
			case <-stop:
				return
			}
		}
	}()
	defer func() {
		stopFilter()
		close(stop)
		<-ended
		_ = far.Close()
	}()
	eventually(t, "leading", func() bool { return r.State() == raft.Leader })
	if err := r.Apply([]byte("x"), time.Second).Error(); err != nil {
		t.Fatal(err)
	}
	term := r.CurrentTerm()
	raise.Store(true)
	// A leader that is deposed begins its next term by itself: it is the only voter.
	eventually(t, "higher terms to be sent", func() bool {
		_ = r.Apply([]byte("x"), time.Second).Error()
		return raised.Load() >= 3 && (!guard || trans.CutOff() != nil) && (guard || r.CurrentTerm() > term)
	})
	return r.CurrentTerm() - term, trans.CutOff()
}

// TestTermOfAMemberThatDoesNotVote: it deposes nobody. Without the guard raft takes it over.
func TestTermOfAMemberThatDoesNotVote(t *testing.T) {
	terms, cut := raisedTerm(t, true)
	if terms != 0 || len(cut) != 1 || cut[0].ID != "member" || cut[0].Term < 7 {
		t.Errorf("%d terms; cut off: %v", terms, cut)
	}
	if terms, _ := raisedTerm(t, false); terms == 0 {
		t.Error("without the guard nothing happened: the test proves nothing")
	}
}
