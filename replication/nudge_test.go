package replication

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/command"
)

// fakeGroup is a raft that is what the test says.
type fakeGroup struct {
	state   atomic.Uint32
	term    atomic.Uint64
	mu      sync.Mutex
	servers []raft.Server
}

type fakeConfiguration struct {
	raft.ConfigurationFuture
	servers []raft.Server
}

func (f fakeConfiguration) Configuration() raft.Configuration {
	return raft.Configuration{Servers: f.servers}
}

func (g *fakeGroup) State() raft.RaftState { return raft.RaftState(g.state.Load()) }
func (g *fakeGroup) CurrentTerm() uint64   { return g.term.Load() }

func (g *fakeGroup) GetConfiguration() raft.ConfigurationFuture {
	g.mu.Lock()
	defer g.mu.Unlock()
	return fakeConfiguration{servers: g.servers}
}

func (g *fakeGroup) set(servers ...raft.Server) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.servers = servers
}

// fakeWire is a transport that shows what is sent to each peer, and answers when
// the test lets it.
type fakeWire struct {
	raft.Transport
	mu       sync.Mutex
	requests map[raft.ServerID][]raft.AppendEntriesRequest
	sent     chan raft.ServerID
	answer   map[raft.ServerID]chan error // a peer that is absent answers at once
	early    int                          // so many nudges come before their entry
}

func (*fakeWire) LocalAddr() raft.ServerAddress                           { return "leader:1" }
func (*fakeWire) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }
func (w *fakeWire) count(id raft.ServerID) int                            { return len(w.of(id)) }

// last is the index that was sent last, 0 before any.
func (w *fakeWire) last(id raft.ServerID) (index uint64) {
	if s := w.of(id); len(s) > 0 {
		index = s[len(s)-1].LeaderCommitIndex
	}
	return index
}

func (w *fakeWire) of(id raft.ServerID) []raft.AppendEntriesRequest {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.requests[id]
}

func (w *fakeWire) AppendEntries(id raft.ServerID, _ raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	w.mu.Lock()
	resp.Term, resp.Success = req.Term, w.early == 0
	if w.early > 0 {
		w.early--
	}
	w.requests[id] = append(w.requests[id], *req)
	ch := w.answer[id]
	w.mu.Unlock()
	select {
	case w.sent <- id:
	default: // the test does not look
	}
	if ch != nil {
		return <-ch
	}
	return nil
}

func fakeNudger(t *testing.T, slow ...raft.ServerID) (*nudger, *fakeGroup, *fakeWire) {
	t.Helper()
	w := &fakeWire{
		requests: map[raft.ServerID][]raft.AppendEntriesRequest{},
		answer:   map[raft.ServerID]chan error{}, sent: make(chan raft.ServerID, 1000),
	}
	for _, id := range slow {
		w.answer[id] = make(chan error)
	}
	g := &fakeGroup{}
	g.state.Store(uint32(raft.Leader))
	g.term.Store(7)
	g.set(
		raft.Server{ID: "leader", Address: "leader:1"}, raft.Server{ID: "voter", Address: "voter:1"},
		raft.Server{ID: "sidecar", Address: "sidecar:1", Suffrage: raft.Nonvoter},
	)
	n := newNudger("leader", w)
	n.follow(g)
	t.Cleanup(func() {
		for _, ch := range w.answer {
			close(ch)
		}
		n.close()
	})
	return n, g, w
}

// idle waits until no nudge is under way.
func (n *nudger) idle(t *testing.T) {
	t.Helper()
	eventually(t, "all nudges sent", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, p := range n.peers {
			if p.busy {
				return false
			}
		}
		return true
	})
}

func TestNudgeReachesEveryMember(t *testing.T) {
	n, _, w := fakeNudger(t)
	n.committed(40, 7)
	n.idle(t)
	for _, id := range []raft.ServerID{"voter", "sidecar"} {
		s := w.of(id)
		if len(s) != 1 {
			t.Fatalf("%d nudges to the %s", len(s), id)
		}
		r := s[0]
		if r.Term != 7 || r.PrevLogEntry != 40 || r.PrevLogTerm != 7 || r.LeaderCommitIndex != 40 || len(r.Entries) != 0 ||
			string(r.ID) != "leader" || string(r.Addr) != "leader:1" || r.ProtocolVersion != raft.ProtocolVersionMax {
			t.Fatalf("nudge %+v", r)
		}
	}
	if w.count("leader") != 0 {
		t.Fatal("the leader nudged itself")
	}
}

func TestNudgeOnlyOfTheLeaderOfTheTerm(t *testing.T) {
	n, g, w := fakeNudger(t)
	for _, s := range []raft.RaftState{raft.Follower, raft.Candidate, raft.Shutdown} {
		g.state.Store(uint32(s))
		n.committed(40, 7)
	}
	g.state.Store(uint32(raft.Leader))
	n.committed(40, 6) // of an older term: committed by its number in that term, not in this one
	g.term.Store(9)
	n.committed(41, 7)
	n.idle(t)
	if got := w.count("voter") + w.count("sidecar"); got != 0 {
		t.Fatalf("%d nudges of who does not lead", got)
	}
	n.committed(42, 9)
	n.idle(t)
	if w.count("voter") != 1 {
		t.Fatal("no nudge of who leads")
	}
}

func TestNudgeBeforeRaftRuns(t *testing.T) {
	newNudger("leader", nil).committed(1, 1)
}

func TestNudgeStopsWithLeadership(t *testing.T) {
	n, g, w := fakeNudger(t, "voter")
	n.committed(40, 7)
	for id := range w.sent {
		if id == "voter" {
			break
		}
	}
	n.committed(41, 7) // waits behind the one that is under way
	g.state.Store(uint32(raft.Follower))
	w.answer["voter"] <- nil
	n.idle(t)
	if w.count("voter") != 1 {
		t.Fatalf("%d nudges, the second one after the loss of leadership", w.count("voter"))
	}
}

// TestSlowPeer: a peer that does not answer holds up neither the machine's
// goroutine nor another peer, costs one goroutine, and gets only the newest.
func TestSlowPeer(t *testing.T) {
	n, _, w := fakeNudger(t, "voter")
	const last = 10_000
	for i := uint64(1); i <= last; i++ {
		n.committed(i, 7) // would never return if it waited
		if i%100 == 0 {
			eventually(t, "the other peer to have the newest", func() bool { return w.last("sidecar") == i })
		}
	}
	if w.count("voter") != 1 {
		t.Fatalf("%d nudges under way to one peer", w.count("voter"))
	}
	w.answer["voter"] <- nil
	w.answer["voter"] <- nil
	n.idle(t)
	if w.count("voter") != 2 || w.last("voter") != last {
		t.Fatalf("%d nudges, the last of %d", w.count("voter"), w.last("voter"))
	}
}

// TestNudgeBeforeItsEntry: a peer that does not have the entry yet is asked again,
// a few times.
func TestNudgeBeforeItsEntry(t *testing.T) {
	n, g, w := fakeNudger(t)
	g.set(raft.Server{ID: "leader", Address: "leader:1"}, raft.Server{ID: "voter", Address: "voter:1"})
	w.early = 3
	n.committed(40, 7)
	n.idle(t)
	if w.count("voter") != 4 || w.last("voter") != 40 {
		t.Fatalf("%d nudges, the last of %d", w.count("voter"), w.last("voter"))
	}
	w.early = 1000 // it has another log: raft's replication is for that
	n.committed(41, 7)
	n.idle(t)
	if got := w.count("voter"); got != 4+1+nudgeTries {
		t.Fatalf("%d nudges to who refuses all", got)
	}
}

func TestNudgeSparesWhoIsAway(t *testing.T) {
	n, g, w := fakeNudger(t, "voter")
	i := uint64(0)
	busy := func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.peers["voter"] != nil && n.peers["voter"].busy
	}
	call := func() {
		eventually(t, "a call", func() bool { i++; n.committed(i, 7); return busy() })
	}
	eventually(t, "a commit within the pause", func() bool { // the test itself may be held up
		call()
		began := time.Now()
		w.answer["voter"] <- errors.New("refused")
		n.idle(t)
		i++
		n.committed(i, 7)
		again := busy()
		if time.Since(began) < nudgePause {
			if again {
				t.Fatal("called again at once")
			}
			return true
		}
		if again {
			w.answer["voter"] <- errors.New("refused")
			n.idle(t)
		}
		return false
	})
	call()
	w.answer["voter"] <- nil
	g.set(raft.Server{ID: "leader", Address: "leader:1"}, raft.Server{ID: "sidecar", Address: "sidecar:1"})
	eventually(t, "the removed peer to be forgotten", func() bool {
		select {
		case w.answer["voter"] <- nil:
		default:
		}
		n.committed(i, 7)
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.peers) == 1 && n.peers["voter"] == nil
	})
}

// wire is a TCP transport that can drop nudges.
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

// TestFollowersSeeCommitsByNudge: with a CommitTimeout of an hour nothing else
// tells a follower of the last commit; and without nudges it indeed stays behind.
func TestFollowersSeeCommitsByNudge(t *testing.T) {
	var drop atomic.Bool
	var dropped atomic.Int64
	nodes := make([]*node, 3)
	for i := range nodes {
		nodes[i] = start(t, t.TempDir(), func(o *Options) {
			o.NodeID, o.Join = fmt.Sprintf("n%d", i+1), i > 0
			o.Heartbeat, o.Lease, o.Commit = 10*time.Second, 10*time.Second, time.Hour // a busy machine must not depose the leader
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			o.Transport = tcpWire(l, &drop, &dropped)
		})
	}
	leader := nodes[0].lead(t)
	leader.must(t, &command.Genesis{Epoch: testEpoch, At: testTime, NodeID: "n1", Reason: "test"})
	// One voter, one non-voter. The last entry of a change of membership is no
	// command, and is told too.
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
	eventually(t, "nudges to be dropped", func() bool { return dropped.Load() >= 2 })
	<-time.After(200 * time.Millisecond)
	if a, b := version(t, nodes[1].st, "router"), version(t, nodes[2].st, "router"); a != 20 || b != 20 {
		t.Fatalf("without a nudge the followers are at %d and %d: this test shows nothing", a, b)
	}
	drop.Store(false)
	leader.write(t, "router", 22, 22)
	wantVersion(t, nodes[1], "router", 22)
	wantVersion(t, nodes[2], "router", 22)
}

func tcpWire(l net.Listener, drop *atomic.Bool, dropped *atomic.Int64) raft.Transport {
	layer := &tcpLayer{Listener: l, addr: reachable(l.Addr().(*net.TCPAddr)), conns: map[net.Conn]bool{}}
	t := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: layer, MaxPool: 3, Timeout: 10 * time.Second, Logger: newHCLog(slog.New(slog.DiscardHandler)),
	})
	return wire{Transport: t, WithPreVote: t, WithClose: t, drop: drop, dropped: dropped}
}
