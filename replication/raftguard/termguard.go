// Guard: only members that vote raise the term.
//
// Upstream: hashicorp/raft, by design (hashicorp/raft#525, #526). Raft takes over a
// higher term from any sender: a response to entries or to a snapshot deposes the
// leader, a vote request its receiver, a TimeoutNow request makes any member a candidate.
// So one member that does not vote, and that sends a higher term each time, keeps a
// healthy cluster without a leader.
//
// A member votes when the newest configuration of this node says so, as in raft. What
// another one sends is handled thus:
//
//   - A response with a higher term is an error, and the member is cut off: it is sent
//     nothing for cutOffTime, then asked again. Raft needs no response of it.
//   - Vote requests and TimeoutNow requests are rejected. Raft would not grant the vote
//     either, but would raise its term.
//   - Entries and snapshots of a higher term are rejected while a leader is known. A node
//     whose configuration is old may not know that their sender votes by now: it accepts
//     them once its own leader is gone, which is at most an election timeout later.
//
// None of it costs safety: raft must not depend on messages that arrive. A member that is
// honestly ahead, such as a former voter that was a candidate when it was demoted, would
// be cut off permanently, because it rejects entries of the lower term. It sees the leader
// continue although it has responded with its own term, which no leader does to a voter.
// It then gives its log up (Fault) and comes back as a member without one: under a new id
// if it is a server, since it may have voted in the term that it gives up.
//
// Tests: TestOnlyVotersRaiseTheTerm, TestMemberThatIsAheadComesBack (replication),
// TestTermOfAMemberThatDoesNotVote. Known-bad build: the last one without the guard.

package raftguard

import (
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	cutOffTime     = time.Second     // how long a member that raised the term is sent nothing
	cutOffLogEvery = time.Minute     // for each member
	aheadTime      = 5 * time.Second // how long the leader must have ignored this node's term
	aheadRequests  = 3
)

// CutOff is a member that does not vote and sent a higher term.
type CutOff struct {
	ID    string
	Term  uint64 // the highest that it sent
	Since time.Time
}

// termGuard is a transport that filters the responses of members that do not vote. The
// requestFilter asks it about their requests. The methods that start with a nil check
// work without a guard.
type termGuard struct {
	raft.Transport
	log *slog.Logger

	node    atomic.Pointer[termState] // nil until start
	refused atomic.Uint64             // terms that were not taken over
	cuts    atomic.Int32              // len(cut)

	mu  sync.Mutex
	cut map[raft.ServerID]*cutOff

	ahead aheadOf // used by requestFilter.Serve only
}

// termState is what the guard knows of its node.
type termState struct {
	id    raft.ServerID
	raft  termRaft
	fault *Fault
}

// termRaft is what a termGuard needs of *raft.Raft.
type termRaft interface {
	CurrentTerm() uint64
	LeaderWithID() (raft.ServerAddress, raft.ServerID)
	GetConfiguration() raft.ConfigurationFuture
}

type cutOff struct {
	CutOff
	until, logged time.Time
}

// aheadOf is a leader whose requests this node rejects because of their old term.
type aheadOf struct {
	leader   string
	term     uint64
	since    time.Time
	requests int
}

func newTermGuard(t raft.Transport, log *slog.Logger) *termGuard {
	return &termGuard{Transport: t, log: log, cut: map[raft.ServerID]*cutOff{}}
}

// start tells the guard about its node. Before it nobody votes.
func (g *termGuard) start(id raft.ServerID, r termRaft, fault *Fault) {
	g.node.Store(&termState{id, r, fault})
}

// votes reports whether a member votes; everybody does in a configuration that is empty,
// which is that of a node that joins.
func (s *termState) votes(id raft.ServerID) bool {
	servers := s.raft.GetConfiguration().Configuration().Servers
	return len(servers) == 0 || slices.ContainsFunc(servers, func(m raft.Server) bool { return m.ID == id && m.Suffrage == raft.Voter })
}

// rejectResponse returns an error if a member that does not vote responded with a higher
// term than it was asked in.
func (g *termGuard) rejectResponse(id raft.ServerID, asked, answered uint64) error {
	if g == nil || answered <= asked && g.cuts.Load() == 0 {
		return nil
	}
	if answered <= asked {
		g.forget(id, "this member responds in the term of its leader again")
		return nil
	}
	s := g.node.Load()
	if s != nil && s.votes(id) {
		return nil
	}
	g.refused.Add(1)
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.cut[id]
	if c == nil {
		c = &cutOff{CutOff: CutOff{ID: string(id), Since: now}}
		g.cut[id] = c
		g.cuts.Store(int32(len(g.cut)))
	}
	c.Term, c.until = max(c.Term, answered), now.Add(cutOffTime)
	if now.Sub(c.logged) >= cutOffLogEvery {
		c.logged = now
		g.log.Warn("cut off a member that does not vote: it responds with a higher term, which would depose the leader",
			"node", id, "term", answered, "asked_in", asked, "hint", "if it does not come back by itself: holdfast cluster remove "+string(id))
	}
	return errCutOff(c.CutOff)
}

func errCutOff(c CutOff) error {
	return conf.Errorf(conf.CodeDenied, "member %s is cut off: it does not vote, and responded with the term %d", c.ID, c.Term).
		WithHint("if it does not come back by itself, remove it: holdfast cluster remove %s", c.ID)
}

// barred returns an error while a member is cut off.
func (g *termGuard) barred(id raft.ServerID) error {
	if g.cuts.Load() == 0 {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.cut[id]; c != nil && time.Now().Before(c.until) {
		return errCutOff(c.CutOff)
	}
	return nil
}

func (g *termGuard) forget(id raft.ServerID, why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cut[id] == nil {
		return
	}
	delete(g.cut, id)
	g.cuts.Store(int32(len(g.cut)))
	if why != "" {
		g.log.Info(why, "node", id)
	}
}

// list returns who is cut off. It forgets former members and those that vote by now.
func (g *termGuard) list() (out []CutOff) {
	s := g.node.Load()
	if s == nil || g.cuts.Load() == 0 {
		return nil
	}
	member := map[raft.ServerID]bool{}
	for _, m := range s.raft.GetConfiguration().Configuration().Servers {
		member[m.ID] = m.Suffrage != raft.Voter
	}
	g.mu.Lock()
	for _, c := range g.cut {
		out = append(out, c.CutOff)
	}
	g.mu.Unlock()
	out = slices.DeleteFunc(out, func(c CutOff) bool {
		gone := !member[raft.ServerID(c.ID)]
		if gone {
			g.forget(raft.ServerID(c.ID), "")
		}
		return gone
	})
	slices.SortFunc(out, func(a, b CutOff) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// rejectRequest returns an error if a request must not reach raft.
func (g *termGuard) rejectRequest(rpc raft.RPC) error {
	if g == nil {
		return nil
	}
	s := g.node.Load()
	head, ok := rpc.Command.(raft.WithRPCHeader)
	if s == nil || !ok {
		return conf.Errorf(conf.CodeInternal, "a request of type %T", rpc.Command)
	}
	from := raft.ServerID(head.GetRPCHeader().ID)
	switch req := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		return g.rejectLeader(s, from, req.Term)
	case *raft.InstallSnapshotRequest:
		err := g.rejectLeader(s, from, req.Term)
		if err != nil {
			_, _ = io.Copy(io.Discard, rpc.Reader) // the next request follows on the same connection
		}
		return err
	case *raft.TimeoutNowRequest:
		if !s.votes(s.id) {
			return conf.Errorf(conf.CodeDenied, "node %s does not vote, and cannot become a candidate", s.id)
		}
	}
	if !s.votes(from) {
		g.refused.Add(1)
		return conf.Errorf(conf.CodeDenied, "node %s does not vote here, and can neither be elected nor start an election", from)
	}
	return nil
}

// rejectLeader returns an error if a member that does not vote claims to lead a later term
// than that of a leader which is there.
func (g *termGuard) rejectLeader(s *termState, from raft.ServerID, term uint64) error {
	if term <= s.raft.CurrentTerm() || s.votes(from) {
		return nil
	}
	if _, leader := s.raft.LeaderWithID(); leader == "" || leader == from {
		return nil
	}
	g.refused.Add(1)
	return conf.Errorf(conf.CodeDenied, "node %s does not vote here, and cannot lead the term %d", from, term)
}

// observe notes this node's response to a request, and gives the log up when the leader
// ignores this node's term.
func (g *termGuard) observe(request, response any) {
	req, ok := request.(*raft.AppendEntriesRequest)
	resp, isResp := response.(*raft.AppendEntriesResponse)
	if g == nil || !ok || !isResp {
		return
	}
	if resp.Term <= req.Term {
		g.ahead = aheadOf{}
		return
	}
	now := time.Now()
	if leader := string(req.ID); g.ahead.leader != leader || g.ahead.term != req.Term {
		g.ahead = aheadOf{leader: leader, term: req.Term, since: now}
	}
	g.ahead.requests++
	if s := g.node.Load(); s != nil && g.ahead.requests >= aheadRequests && now.Sub(g.ahead.since) >= aheadTime {
		s.fault.Trip(Corrupt("the log of this member is of the term %d, and the leader %s leads the term %d without it: a member that does not vote raises no term",
			resp.Term, g.ahead.leader, req.Term))
	}
}

// AppendEntries implements raft.Transport.
func (g *termGuard) AppendEntries(id raft.ServerID, target raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if err := g.barred(id); err != nil {
		return err
	}
	if err := g.Transport.AppendEntries(id, target, req, resp); err != nil {
		return err
	}
	return g.rejectResponse(id, req.Term, resp.Term)
}

// AppendEntriesPipeline implements raft.Transport. The failFastPipeline checks the
// responses.
func (g *termGuard) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	if err := g.barred(id); err != nil {
		return nil, err
	}
	return g.Transport.AppendEntriesPipeline(id, target)
}

// InstallSnapshot implements raft.Transport.
func (g *termGuard) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if err := g.barred(id); err != nil {
		return err
	}
	if err := g.Transport.InstallSnapshot(id, target, req, resp, data); err != nil {
		return err
	}
	return g.rejectResponse(id, req.Term, resp.Term)
}

// RequestVote implements raft.Transport.
func (g *termGuard) RequestVote(id raft.ServerID, target raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if err := g.Transport.RequestVote(id, target, req, resp); err != nil {
		return err
	}
	return g.rejectResponse(id, req.Term, resp.Term)
}

// RequestPreVote implements raft.WithPreVote, which NewTransport has checked for.
func (g *termGuard) RequestPreVote(id raft.ServerID, target raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := g.Transport.(raft.WithPreVote).RequestPreVote(id, target, req, resp); err != nil {
		return err
	}
	return g.rejectResponse(id, req.Term, resp.Term)
}

// Close implements raft.WithClose, if the wrapped transport does.
func (g *termGuard) Close() error {
	if c, ok := g.Transport.(raft.WithClose); ok {
		return c.Close()
	}
	return nil
}
