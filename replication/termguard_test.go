package replication

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv/base"
)

// raising is the transport of a node whose responses carry a higher term while it is on.
type raising struct {
	raft.Transport
	on    atomic.Bool
	count atomic.Int64
	out   chan raft.RPC
	done  chan struct{}
}

func newRaising(tb testing.TB) *raising {
	r := &raising{Transport: transport(tb), out: make(chan raft.RPC), done: make(chan struct{})}
	go func() {
		for {
			select {
			case rpc := <-r.Transport.Consumer():
				go r.pass(rpc)
			case <-r.done:
				return
			}
		}
	}()
	return r
}

func (r *raising) pass(rpc raft.RPC) {
	responses := make(chan raft.RPCResponse, 1)
	forwarded := rpc
	forwarded.RespChan = responses
	select {
	case r.out <- forwarded:
	case <-r.done:
		return
	}
	select {
	case got := <-responses:
		if r.on.Load() {
			switch a := got.Response.(type) {
			case *raft.AppendEntriesResponse:
				a.Term = rpc.Command.(*raft.AppendEntriesRequest).Term + 1
				r.count.Add(1)
			case *raft.InstallSnapshotResponse:
				a.Term = rpc.Command.(*raft.InstallSnapshotRequest).Term + 1
				r.count.Add(1)
			}
		}
		rpc.RespChan <- got
	case <-r.done:
	}
}

func (r *raising) Consumer() <-chan raft.RPC { return r.out }

func (r *raising) RequestPreVote(id raft.ServerID, target raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return r.Transport.(raft.WithPreVote).RequestPreVote(id, target, req, resp)
}

func (r *raising) Close() error {
	close(r.done)
	return r.Transport.(raft.WithClose).Close()
}

// TestOnlyVotersRaiseTheTerm: a member that does not vote responds with a higher term to
// all that the leader sends, and sends elections. Writes go on, the term stays, it is
// named, and it can be removed; it is taken back when it stops.
func TestOnlyVotersRaiseTheTerm(t *testing.T) {
	leader := fresh(t, t.TempDir(), nil)
	evil := newRaising(t)
	bad := start(t, t.TempDir(), func(o *Options) { o.NodeID, o.Join, o.Transport = "bad", true, evil })
	if err := leader.AddNonvoter(t.Context(), "bad", bad.Addr()); err != nil {
		t.Fatal(err)
	}
	leader.write(t, "router", 1, 10)
	wantVersion(t, bad, "router", 10)
	term := leader.Term()

	evil.on.Store(true)
	for v := uint64(11); evil.count.Load() < 4 || len(CutOff(leader.Node)) == 0; v++ {
		leader.write(t, "router", v, v)
	}
	base.Await(t, "the member to be named", func() bool {
		list := CutOff(leader.Node)
		return len(list) == 1 && list[0].NodeID == "bad" && list[0].Term > term && RefusedTerms(leader.Node) > 0
	})
	if err := leader.Promote(t.Context(), "bad"); conf.CodeOf(err) != conf.CodeConflict || conf.HintOf(err) == "" {
		t.Errorf("promoted: %v", err)
	}
	// What it sends unasked.
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("bad"), Addr: []byte(bad.Addr())}
	to := raft.ServerAddress(leader.Addr())
	for _, from := range []string{"bad", "stranger", ""} {
		header.ID = []byte(from)
		last, _ := leader.Indexes()
		for what, err := range map[string]error{
			"vote":     evil.RequestVote("n1", to, &raft.RequestVoteRequest{RPCHeader: header, Term: term + 9, LastLogIndex: last + 9, LastLogTerm: term + 9, LeadershipTransfer: true}, &raft.RequestVoteResponse{}),
			"pre-vote": evil.RequestPreVote("n1", to, &raft.RequestPreVoteRequest{RPCHeader: header, Term: term + 9, LastLogIndex: last + 9, LastLogTerm: term + 9}, &raft.RequestPreVoteResponse{}),
			"timeout":  evil.TimeoutNow("n1", to, &raft.TimeoutNowRequest{RPCHeader: header}, &raft.TimeoutNowResponse{}),
			"entries":  evil.AppendEntries("n1", to, &raft.AppendEntriesRequest{RPCHeader: header, Term: term + 9, PrevLogEntry: last, PrevLogTerm: term}, &raft.AppendEntriesResponse{}),
			"snapshot": evil.InstallSnapshot("n1", to, &raft.InstallSnapshotRequest{RPCHeader: header, SnapshotVersion: 1, Term: term + 9, LastLogIndex: last + 9, Size: 3}, &raft.InstallSnapshotResponse{}, strings.NewReader("abc")),
		} {
			if err == nil {
				t.Errorf("%s of %q: no error", what, from)
			}
		}
	}
	if !leader.IsLeader() || leader.Term() != term {
		t.Fatalf("leads: %v, term %d after %d", leader.IsLeader(), leader.Term(), term)
	}
	evil.on.Store(false)
	base.Await(t, "the member to be taken back", func() bool { return CutOff(leader.Node) == nil })
	evil.on.Store(true)
	base.Await(t, "the member to be cut off again", func() bool { return CutOff(leader.Node) != nil })
	if err := leader.Remove(t.Context(), "bad"); err != nil {
		t.Fatal(err)
	}
	base.Await(t, "a former member not to be named", func() bool { return CutOff(leader.Node) == nil })
	if leader.Term() != term {
		t.Errorf("term %d after %d", leader.Term(), term)
	}
}

// TestMemberThatIsAheadComesBack: a voter that was a candidate, in a higher term, when it
// was demoted gives its log up, because the leader goes on without it. A voter in the same
// place does not: its term is taken over.
func TestMemberThatIsAheadComesBack(t *testing.T) {
	leader := fresh(t, t.TempDir(), nil)
	ahead := start(t, t.TempDir(), func(o *Options) { o.NodeID, o.Join = "ahead", true })
	if err := leader.AddNonvoter(t.Context(), "ahead", ahead.Addr()); err != nil {
		t.Fatal(err)
	}
	leader.write(t, "router", 1, 3)
	wantVersion(t, ahead, "router", 3)
	term := leader.Term()
	// As if it had voted, and been a candidate.
	if err := ahead.trans.StartElection(); err != nil {
		t.Fatal(err)
	}
	base.Await(t, "it to be ahead", func() bool { return ahead.Term() > term })
	leader.write(t, "router", 4, 20)
	select {
	case err := <-ahead.Fault():
		wantCode(t, err, conf.CodeCorrupt)
	case <-time.After(patience):
		t.Fatal("it keeps a log that the cluster does not continue")
	}
	if !leader.IsLeader() || leader.Term() != term {
		t.Fatalf("leads: %v, term %d after %d", leader.IsLeader(), leader.Term(), term)
	}
	// It begins again, as the agent does for a member that never votes.
	ahead.close(t)
	if err := leader.Remove(t.Context(), "ahead"); err != nil {
		t.Fatal(err)
	}
	fresh := start(t, t.TempDir(), func(o *Options) { o.NodeID, o.Join = "ahead-r2", true })
	if err := leader.AddNonvoter(t.Context(), "ahead-r2", fresh.Addr()); err != nil {
		t.Fatal(err)
	}
	wantVersion(t, fresh, "router", 20)
	if err := leader.Promote(t.Context(), "ahead-r2"); err != nil {
		t.Fatal(err)
	}
	base.Await(t, "it to know that it votes", func() bool {
		servers, _, err := fresh.Servers()
		return err == nil && len(servers) == 2 && servers[1].Voter
	})
	if err := fresh.trans.StartElection(); err != nil {
		t.Fatal(err)
	}
	base.Await(t, "the term of a voter to be taken over", func() bool { return leader.Term() > term })
	if err := fresh.Err(); err != nil {
		t.Error(err)
	}
}
