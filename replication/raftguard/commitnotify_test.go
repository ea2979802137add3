package raftguard

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// fakeRaft has the state that the test sets.
type fakeRaft struct {
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

func (g *fakeRaft) State() raft.RaftState { return raft.RaftState(g.state.Load()) }
func (g *fakeRaft) CurrentTerm() uint64   { return g.term.Load() }

func (g *fakeRaft) GetConfiguration() raft.ConfigurationFuture {
	g.mu.Lock()
	defer g.mu.Unlock()
	return fakeConfiguration{servers: g.servers}
}

func (g *fakeRaft) set(servers ...raft.Server) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.servers = servers
}

// fakeWire is a transport that records what is sent to each peer, and responds when
// the test allows it.
type fakeWire struct {
	raft.Transport
	mu       sync.Mutex
	requests map[raft.ServerID][]raft.AppendEntriesRequest
	sent     chan raft.ServerID
	answer   map[raft.ServerID]chan error // a peer that is absent answers at once
	early    int                          // this many notifications arrive before their entry
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

func fakeNotifier(t *testing.T, slow ...raft.ServerID) (*CommitNotifier, *fakeRaft, *fakeWire) {
	t.Helper()
	w := &fakeWire{
		requests: map[raft.ServerID][]raft.AppendEntriesRequest{},
		answer:   map[raft.ServerID]chan error{}, sent: make(chan raft.ServerID, 1000),
	}
	for _, id := range slow {
		w.answer[id] = make(chan error)
	}
	g := &fakeRaft{}
	g.state.Store(uint32(raft.Leader))
	g.term.Store(7)
	g.set(
		raft.Server{ID: "leader", Address: "leader:1"}, raft.Server{ID: "voter", Address: "voter:1"},
		raft.Server{ID: "sidecar", Address: "sidecar:1", Suffrage: raft.Nonvoter},
	)
	n := NewCommitNotifier("leader", w)
	n.Start(g)
	t.Cleanup(func() {
		for _, ch := range w.answer {
			close(ch)
		}
		n.Close()
	})
	return n, g, w
}

// idle waits until no notification is in progress.
func (n *CommitNotifier) idle(t *testing.T) {
	t.Helper()
	eventually(t, "all notifications sent", func() bool {
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

func TestNotificationReachesEveryMember(t *testing.T) {
	n, _, w := fakeNotifier(t)
	n.Committed(40, 7)
	n.idle(t)
	for _, id := range []raft.ServerID{"voter", "sidecar"} {
		s := w.of(id)
		if len(s) != 1 {
			t.Fatalf("%d notifications to the %s", len(s), id)
		}
		r := s[0]
		if r.Term != 7 || r.PrevLogEntry != 40 || r.PrevLogTerm != 7 || r.LeaderCommitIndex != 40 || len(r.Entries) != 0 ||
			string(r.ID) != "leader" || string(r.Addr) != "leader:1" || r.ProtocolVersion != raft.ProtocolVersionMax {
			t.Fatalf("notification %+v", r)
		}
	}
	if w.count("leader") != 0 {
		t.Fatal("the leader notified itself")
	}
}

func TestNotifiesOnlyAsLeaderOfTheTerm(t *testing.T) {
	n, g, w := fakeNotifier(t)
	for _, s := range []raft.RaftState{raft.Follower, raft.Candidate, raft.Shutdown} {
		g.state.Store(uint32(s))
		n.Committed(40, 7)
	}
	g.state.Store(uint32(raft.Leader))
	n.Committed(40, 6) // of an older term: committed by its number in that term, not in this one
	g.term.Store(9)
	n.Committed(41, 7)
	n.idle(t)
	if got := w.count("voter") + w.count("sidecar"); got != 0 {
		t.Fatalf("%d notifications without leadership", got)
	}
	n.Committed(42, 9)
	n.idle(t)
	if w.count("voter") != 1 {
		t.Fatal("no notification of the leader")
	}
}

func TestCommittedBeforeStart(t *testing.T) {
	NewCommitNotifier("leader", nil).Committed(1, 1)
}

func TestNotificationsStopWithLeadership(t *testing.T) {
	n, g, w := fakeNotifier(t, "voter")
	n.Committed(40, 7)
	for id := range w.sent {
		if id == "voter" {
			break
		}
	}
	n.Committed(41, 7) // waits behind the one in progress
	g.state.Store(uint32(raft.Follower))
	w.answer["voter"] <- nil
	n.idle(t)
	if w.count("voter") != 1 {
		t.Fatalf("%d notifications, the second one after the loss of leadership", w.count("voter"))
	}
}

// TestSlowPeer: a peer that does not respond delays neither the goroutine of the state
// machine nor another peer, costs one goroutine, and gets only the newest.
func TestSlowPeer(t *testing.T) {
	n, _, w := fakeNotifier(t, "voter")
	const last = 10_000
	for i := uint64(1); i <= last; i++ {
		n.Committed(i, 7) // would never return if it waited
		if i%100 == 0 {
			eventually(t, "the other peer to have the newest", func() bool { return w.last("sidecar") == i })
		}
	}
	if w.count("voter") != 1 {
		t.Fatalf("%d notifications in progress to one peer", w.count("voter"))
	}
	w.answer["voter"] <- nil
	w.answer["voter"] <- nil
	n.idle(t)
	if w.count("voter") != 2 || w.last("voter") != last {
		t.Fatalf("%d notifications, the last of %d", w.count("voter"), w.last("voter"))
	}
}

// TestNotificationBeforeItsEntry: a notification is sent again, a few times, to a peer
// that does not have the entry yet.
func TestNotificationBeforeItsEntry(t *testing.T) {
	n, g, w := fakeNotifier(t)
	g.set(raft.Server{ID: "leader", Address: "leader:1"}, raft.Server{ID: "voter", Address: "voter:1"})
	w.early = 3
	n.Committed(40, 7)
	n.idle(t)
	if w.count("voter") != 4 || w.last("voter") != 40 {
		t.Fatalf("%d notifications, the last of %d", w.count("voter"), w.last("voter"))
	}
	w.early = 1000 // it has another log: raft's replication handles that
	n.Committed(41, 7)
	n.idle(t)
	if got := w.count("voter"); got != 4+1+maxResends {
		t.Fatalf("%d notifications to a peer that rejects all", got)
	}
}

func TestUnreachablePeerIsNotCalledAtOnce(t *testing.T) {
	n, g, w := fakeNotifier(t, "voter")
	i := uint64(0)
	busy := func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.peers["voter"] != nil && n.peers["voter"].busy
	}
	call := func() {
		eventually(t, "a call", func() bool { i++; n.Committed(i, 7); return busy() })
	}
	eventually(t, "a commit within the pause", func() bool { // the test itself may be held up
		call()
		began := time.Now()
		w.answer["voter"] <- errors.New("refused")
		n.idle(t)
		i++
		n.Committed(i, 7)
		again := busy()
		if time.Since(began) < failureBackoff {
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
	eventually(t, "the removed peer to be dropped", func() bool {
		select {
		case w.answer["voter"] <- nil:
		default:
		}
		n.Committed(i, 7)
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.peers) == 1 && n.peers["voter"] == nil
	})
}
