// Guard: heartbeats are queued with all other requests.
//
// Upstream: hashicorp/raft#695. On the fast path a heartbeat changes the term on
// the transport's goroutine while the leader's loop waits in its select. The next
// entry is then stored under a term that this node never led.
//
// Test: TestHeartbeatFastPath. Known-bad build: the same test without the guard.

package raftguard

import (
	"log/slog"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Transport is a raft.Transport behind the guards of this package: termGuard,
// noHeartbeatFastPath, requestFilter, failFastTransport and patientTransport.
type Transport struct{ *patientTransport }

// NewTransport returns t behind the guards. Raft gets no request before Serve runs.
func NewTransport(t raft.Transport, log *slog.Logger) (*Transport, error) {
	if _, err := disableHeartbeatFastPath(t); err != nil {
		return nil, err
	}
	terms := newTermGuard(t, log)
	f := newRequestFilter(noHeartbeatFastPath{terms}, log)
	f.terms = terms
	return &Transport{newPatientTransport(failFastTransport{f})}, nil
}

// GuardTerms tells the transport about its node, before Serve.
func (t *Transport) GuardTerms(id raft.ServerID, r *raft.Raft, fault *Fault) {
	t.terms.start(id, r, fault)
}

// CutOff returns the members that are sent nothing at present, because they do not vote
// and sent a higher term.
func (t *Transport) CutOff() []CutOff { return t.terms.list() }

// RefusedTerms returns how many higher terms were not taken over.
func (t *Transport) RefusedTerms() uint64 { return t.terms.refused.Load() }

// noHeartbeatFastPath is a transport without the fast path for heartbeats.
type noHeartbeatFastPath struct{ raft.Transport }

// disableHeartbeatFastPath returns t without the fast path. t must support pre-votes.
func disableHeartbeatFastPath(t raft.Transport) (noHeartbeatFastPath, error) {
	if _, ok := t.(raft.WithPreVote); !ok {
		return noHeartbeatFastPath{}, conf.Errorf(conf.CodeInternal, "the transport cannot send pre-votes")
	}
	return noHeartbeatFastPath{t}, nil
}

// SetHeartbeatHandler does nothing: this is the guard.
func (noHeartbeatFastPath) SetHeartbeatHandler(func(raft.RPC)) {}

// RequestPreVote implements raft.WithPreVote, which raft looks for by a type assertion.
func (t noHeartbeatFastPath) RequestPreVote(id raft.ServerID, target raft.ServerAddress,
	req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse,
) error {
	return t.Transport.(raft.WithPreVote).RequestPreVote(id, target, req, resp)
}

// Close implements raft.WithClose, if the wrapped transport does.
func (t noHeartbeatFastPath) Close() error {
	if c, ok := t.Transport.(raft.WithClose); ok {
		return c.Close()
	}
	return nil
}
