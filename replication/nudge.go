package replication

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// nudger tells the other members at once how far the log is committed. Raft
// itself tells them with its next message, which on an idle cluster is
// CommitTimeout later: followers, and whoever watches there, would see each
// change tens of milliseconds after it was acknowledged.
//
// A nudge is an AppendEntries request without entries. It is one that the leader
// of term t may send at any time: entry i is of its own term t and committed,
// because raft has handed it to this node's machine, and a follower advances to i only
// if its own log has (i, t), so that its log is the leader's up to there. Late,
// doubled, reordered and lost nudges change nothing: older terms are refused, and
// commit indexes do not go back.
//
// Only what was committed in the leader's own term is told. For the state of an
// older term that is what Raft's rule of commitment asks for; here it also makes
// sure that this node led the term in whose name it speaks.
type nudger struct {
	id    raft.ServerID
	trans raft.Transport
	group atomic.Pointer[group] // nil until raft runs

	mu     sync.Mutex
	peers  map[raft.ServerID]*nudged
	closed bool
	wg     sync.WaitGroup
}

// group is what the nudger asks of *raft.Raft.
type group interface {
	State() raft.RaftState
	CurrentTerm() uint64
	GetConfiguration() raft.ConfigurationFuture
}

// nudged is one peer. One nudge is under way at a time; meanwhile only the
// newest is kept.
type nudged struct {
	busy  bool
	addr  raft.ServerAddress
	next  commit    // index 0: nothing is waiting
	quiet time.Time // not before: the peer did not answer
}

type commit struct{ index, term uint64 }

// nudgePause spares a peer that cannot be reached, and this node the dialling.
// Raft's own replication finds the peer again.
const nudgePause = 100 * time.Millisecond

// A nudge may overtake the entry that it tells of, which travels on another
// connection: the peer refuses it then, and is asked again a little later.
const (
	nudgeAgain = 2 * time.Millisecond // twice as long each time
	nudgeTries = 5
)

// follow lets the nudges begin.
func (n *nudger) follow(g group) { n.group.Store(&g) }

func newNudger(id raft.ServerID, trans raft.Transport) *nudger {
	return &nudger{id: id, trans: trans, peers: map[raft.ServerID]*nudged{}}
}

// committed is called by the machine's goroutine before each batch is applied, on
// every member, and never blocks. The others apply it while this node does: who
// watches there need not wait for two stores one after the other.
func (n *nudger) committed(index, term uint64) {
	if !n.leads(term) {
		return
	}
	servers := (*n.group.Load()).GetConfiguration().Configuration().Servers
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	if len(n.peers) >= len(servers) { // this node is not one of the peers
		n.forget(servers)
	}
	for _, s := range servers {
		if s.ID != n.id {
			n.offer(s, commit{index, term})
		}
	}
}

// leads says whether this node led term, of which it has a committed entry, just
// now. In this order: that entry had raised this node's term to at least term
// before, so a node that is leader and then finds its term unchanged led term.
func (n *nudger) leads(term uint64) bool {
	g := n.group.Load()
	return g != nil && (*g).State() == raft.Leader && (*g).CurrentTerm() == term
}

// forget drops the peers that are not members any more. The caller holds mu.
func (n *nudger) forget(servers []raft.Server) {
	present := map[raft.ServerID]bool{}
	for _, s := range servers {
		present[s.ID] = true
	}
	for id, p := range n.peers {
		if !present[id] && !p.busy {
			delete(n.peers, id)
		}
	}
}

// offer gives c to the peer's goroutine, and starts it if there is none. The
// caller holds mu.
func (n *nudger) offer(s raft.Server, c commit) {
	p := n.peers[s.ID]
	if p == nil {
		p = &nudged{}
		n.peers[s.ID] = p
	}
	p.addr, p.next = s.Address, c
	if p.busy || (!p.quiet.IsZero() && time.Now().Before(p.quiet)) {
		return
	}
	p.busy = true
	n.wg.Go(func() { n.serve(s.ID, p) })
}

// serve sends what p has waiting, until nothing is.
func (n *nudger) serve(id raft.ServerID, p *nudged) {
	for tries := 0; ; {
		n.mu.Lock()
		c, addr := p.next, p.addr
		p.next = commit{}
		if c.index == 0 || n.closed || !n.leads(c.term) {
			p.busy = false
			n.mu.Unlock()
			return
		}
		n.mu.Unlock()
		self := n.trans.EncodePeer(n.id, n.trans.LocalAddr())
		var resp raft.AppendEntriesResponse
		err := n.trans.AppendEntries(id, addr, &raft.AppendEntriesRequest{
			RPCHeader:    raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.id), Addr: self},
			Term:         c.term,
			Leader:       self, //lint:ignore SA1019 raft 1.7.3 still sends it beside the header, for members that read it
			PrevLogEntry: c.index, PrevLogTerm: c.term, LeaderCommitIndex: c.index,
		}, &resp)
		n.mu.Lock()
		p.quiet = time.Time{}
		if err != nil {
			p.quiet, p.next = time.Now().Add(nudgePause), commit{}
		}
		early := err == nil && !resp.Success && resp.Term == c.term && p.next.index == 0 && tries < nudgeTries
		if early {
			p.next = c
		}
		n.mu.Unlock()
		if !early {
			tries = 0
			continue
		}
		time.Sleep(nudgeAgain << tries)
		tries++
	}
}

// close ends all nudges. The transport is closed already, which ends those that
// are under way.
func (n *nudger) close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.wg.Wait()
}
