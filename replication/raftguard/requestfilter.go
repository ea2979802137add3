// Guard: a late snapshot or TimeoutNow request does not reach raft.
//
// Upstream: hashicorp/raft, no issue known. Raft installs every snapshot of its
// term, also one that was delayed on a connection that the leader has given up. It
// then goes back to the index of that snapshot and drops its log, with entries that
// it has confirmed to the leader. They may be committed, and the next leader need
// not have them. (Raft may also end the process, because entries are missing.) And
// a leader that gets a TimeoutNow request steps down. On a busy machine a single
// voter has often won by its timeouts when its own request arrives.
//
// A log that matches the leader's up to some index, in the leader's own term, needs
// no snapshot of that term that ends there or before. The leader sends none any
// more, and success is the correct response to a late one.
//
// Tests: TestLateSnapshot, TestLateTimeoutNow. Known-bad build: both run without the
// guard too.

package raftguard

import (
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
)

// requestFilter passes requests of other nodes to raft one at a time, as raft
// handles them, and responds to late ones itself.
type requestFilter struct {
	noHeartbeatFastPath
	log   *slog.Logger
	terms *termGuard    // nil for none
	own   chan raft.RPC // requests of this node to itself
	out   chan raft.RPC
	done  chan struct{} // closed when raft has ended

	// Used by Serve only: up to matched the log is that of the leader of term.
	term, matched uint64
}

var errAlreadyLeader = errors.New("this node is already the leader")

func newRequestFilter(t noHeartbeatFastPath, log *slog.Logger) *requestFilter {
	return &requestFilter{
		noHeartbeatFastPath: t, log: log,
		own: make(chan raft.RPC), out: make(chan raft.RPC), done: make(chan struct{}),
	}
}

// Consumer returns the channel from which raft reads requests.
func (f *requestFilter) Consumer() <-chan raft.RPC { return f.out }

// Stop ends Serve. It is called once, after raft has ended.
func (f *requestFilter) Stop() { close(f.done) }

// StartElection makes this node a candidate, unless it is the leader, by a TimeoutNow
// request of its own. It blocks until raft responds.
func (f *requestFilter) StartElection() error {
	responses := make(chan raft.RPCResponse, 1)
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}
	select {
	case f.own <- raft.RPC{Command: &raft.TimeoutNowRequest{RPCHeader: header}, RespChan: responses}:
	case <-f.done:
		return raft.ErrRaftShutdown
	}
	select {
	case r := <-responses:
		return r.Error
	case <-f.done:
		return raft.ErrRaftShutdown
	}
}

// Serve passes requests to raft until Stop. isLeader reports whether this node is
// the leader.
func (f *requestFilter) Serve(isLeader func() bool) {
	in := f.noHeartbeatFastPath.Consumer()
	for {
		var rpc raft.RPC
		select {
		case rpc = <-in:
			if err := f.terms.rejectRequest(rpc); err != nil {
				rpc.Respond(nil, err)
				continue
			}
		case rpc = <-f.own:
		case <-f.done:
			return
		}
		if s, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok && s.Term == f.term && s.LastLogIndex <= f.matched {
			f.log.Warn("ignored a stale snapshot", "index", s.LastLogIndex, "matched", f.matched, "term", s.Term)
			_, _ = io.Copy(io.Discard, rpc.Reader) // the next request follows on the same connection
			rpc.Respond(&raft.InstallSnapshotResponse{Term: s.Term, Success: true}, nil)
			continue
		}
		responses := make(chan raft.RPCResponse, 1)
		forwarded := rpc
		forwarded.RespChan = responses
		if _, ok := rpc.Command.(*raft.TimeoutNowRequest); ok {
			if !f.forwardTimeoutNow(forwarded, isLeader) {
				rpc.Respond(&raft.TimeoutNowResponse{}, errAlreadyLeader)
				continue
			}
		} else {
			select {
			case f.out <- forwarded:
			case <-f.done:
				return
			}
		}
		select {
		case r := <-responses:
			f.updateMatch(r.Response, rpc.Command)
			f.terms.observe(rpc.Command, r.Response)
			rpc.RespChan <- r // it has room for one
		case <-f.done:
			return
		}
	}
}

// forwardTimeoutNow passes a TimeoutNow request to raft, unless this node is the
// leader. The state can change until raft takes the request, so each attempt checks
// it, and an attempt does not block.
func (f *requestFilter) forwardTimeoutNow(rpc raft.RPC, isLeader func() bool) bool {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !isLeader() {
		select {
		case f.out <- rpc:
			return true
		default:
		}
		select {
		case <-tick.C:
		case <-f.done:
			return false
		}
	}
	return false
}

// updateMatch derives from a response up to which index the log is the leader's.
func (f *requestFilter) updateMatch(response, request any) {
	var term, index uint64
	switch a := response.(type) {
	case *raft.AppendEntriesResponse:
		r, ok := request.(*raft.AppendEntriesRequest)
		if !ok || !a.Success {
			return
		}
		term, index = r.Term, r.PrevLogEntry+uint64(len(r.Entries))
	case *raft.InstallSnapshotResponse:
		r, ok := request.(*raft.InstallSnapshotRequest)
		if !ok || !a.Success {
			return
		}
		term, index = r.Term, r.LastLogIndex
	default:
		return
	}
	if term > f.term {
		f.term, f.matched = term, 0
	}
	if term == f.term {
		f.matched = max(f.matched, index)
	}
}
