// Guard: followers get the commit index at once.
//
// Upstream: hashicorp/raft, by design. The leader sends the commit index with its
// next message, which on an idle cluster is CommitTimeout later. Followers, and
// watches there, would see each change tens of milliseconds after it was
// acknowledged.
//
// A commit notification is an AppendEntries request without entries. The leader of
// term t may send it at any time: entry i is of its own term t and committed, because
// raft has passed it to this node's state machine, and a follower advances to i only
// if its own log has (i, t), so that its log is the leader's up to there. Late,
// repeated, reordered and lost notifications change nothing: requests of older terms
// are rejected, and commit indexes do not go back.
//
// Only entries of the leader's own term are sent. Raft's commitment rule demands it
// for entries of older terms, and it ensures that this node led the term of the
// request.
//
// Tests: TestNotifiesOnlyAsLeaderOfTheTerm; TestFollowersSeeCommitsAtOnce (replication).
// Known-bad builds: the latter drops all notifications; "a leader that tells of
// commits too early" of TestSimulationFinds (replication) sends uncommitted indexes.

package raftguard

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// failureBackoff is how long a peer that cannot be reached gets no notification.
	// Raft's own replication finds the peer again.
	failureBackoff = 100 * time.Millisecond

	// A notification may overtake its entry, which travels on another connection. The
	// peer rejects it then, and it is sent again.
	resendDelay = 2 * time.Millisecond // doubled each time
	maxResends  = 5
)

// CommitNotifier sends commit notifications to the other members.
type CommitNotifier struct {
	id    raft.ServerID
	trans raft.Transport
	raft  atomic.Pointer[raftState] // nil until Start

	mu     sync.Mutex
	peers  map[raft.ServerID]*peerQueue
	closed bool
	wg     sync.WaitGroup
}

// raftState is what a CommitNotifier needs of *raft.Raft.
type raftState interface {
	State() raft.RaftState
	CurrentTerm() uint64
	GetConfiguration() raft.ConfigurationFuture
}

// peerQueue has the newest notification of a peer. One request is in progress at a time.
type peerQueue struct {
	busy      bool
	addr      raft.ServerAddress
	next      commit    // index 0: none
	notBefore time.Time // after a failure
}

type commit struct{ index, term uint64 }

// NewCommitNotifier returns a notifier that sends nothing before Start.
func NewCommitNotifier(id raft.ServerID, trans raft.Transport) *CommitNotifier {
	return &CommitNotifier{id: id, trans: trans, peers: map[raft.ServerID]*peerQueue{}}
}

// Start enables notifications.
func (n *CommitNotifier) Start(r raftState) { n.raft.Store(&r) }

// Committed is called on every member by the goroutine of the state machine, before
// each batch is applied, so that the members apply it at the same time. It never blocks.
func (n *CommitNotifier) Committed(index, term uint64) {
	if !n.leads(term) {
		return
	}
	servers := (*n.raft.Load()).GetConfiguration().Configuration().Servers
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	if len(n.peers) >= len(servers) { // this node is not one of the peers
		n.removeFormerPeers(servers)
	}
	for _, s := range servers {
		if s.ID != n.id {
			n.enqueue(s, commit{index, term})
		}
	}
}

// leads reports whether this node led term, of which it has a committed entry, just
// now. The order matters: that entry raised this node's term to at least term before,
// so a node that is leader and then finds its term unchanged led term.
func (n *CommitNotifier) leads(term uint64) bool {
	r := n.raft.Load()
	return r != nil && (*r).State() == raft.Leader && (*r).CurrentTerm() == term
}

// removeFormerPeers drops the queues of removed members. The caller holds mu.
func (n *CommitNotifier) removeFormerPeers(servers []raft.Server) {
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

// enqueue replaces what the peer's queue has, and starts its goroutine if none runs.
// The caller holds mu.
func (n *CommitNotifier) enqueue(s raft.Server, c commit) {
	p := n.peers[s.ID]
	if p == nil {
		p = &peerQueue{}
		n.peers[s.ID] = p
	}
	p.addr, p.next = s.Address, c
	if p.busy || (!p.notBefore.IsZero() && time.Now().Before(p.notBefore)) {
		return
	}
	p.busy = true
	n.wg.Go(func() { n.send(s.ID, p) })
}

// send sends what p has, until it is empty.
func (n *CommitNotifier) send(id raft.ServerID, p *peerQueue) {
	for resends := 0; ; {
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
		p.notBefore = time.Time{}
		if err != nil {
			p.notBefore, p.next = time.Now().Add(failureBackoff), commit{}
		}
		early := err == nil && !resp.Success && resp.Term == c.term && p.next.index == 0 && resends < maxResends
		if early {
			p.next = c
		}
		n.mu.Unlock()
		if !early {
			resends = 0
			continue
		}
		time.Sleep(resendDelay << resends)
		resends++
	}
}

// Close ends all notifications. The transport must be closed before, which ends
// requests in progress.
func (n *CommitNotifier) Close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.wg.Wait()
}
