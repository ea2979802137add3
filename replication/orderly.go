package replication

import (
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
)

// orderly hands requests of other members to raft one at a time, as raft takes
// them anyway, and answers those snapshots itself that come too late.
//
// Raft installs every snapshot of its term, also one that was held up on a
// connection which the leader has long given up. It then goes back to the index of
// that snapshot and drops its log, and with it entries that it had promised to
// keep: they may have been acknowledged by its word, and the next leader need not
// have them. (It may also end the process, for want of the entries between.)
//
// A log that was found equal to the leader's up to some index, in the leader's own
// term, needs no snapshot of that term that ends there or before: the leader sends
// none any more, and the answer to one that is late is that all of it is here.
//
// Nor does a leader stand for election when it is told to: that comes late, too, and
// it would step down for nothing, with what is on its way through the log. On a busy
// machine a lone voter has often won by its timeouts when its own word reaches it.
type orderly struct {
	slowHeartbeats
	log  *slog.Logger
	out  chan raft.RPC
	done chan struct{} // closed when raft has ended

	// What run knows of the log: up to matched it is that of the leader of term.
	term, matched uint64
}

func newOrderly(t slowHeartbeats, log *slog.Logger) *orderly {
	return &orderly{slowHeartbeats: t, log: log, out: make(chan raft.RPC), done: make(chan struct{})}
}

// Consumer is where raft takes requests from.
func (o *orderly) Consumer() <-chan raft.RPC { return o.out }

// run returns when done is closed. leads says whether this node is the leader.
func (o *orderly) run(leads func() bool) {
	in := o.slowHeartbeats.Consumer()
	for {
		var rpc raft.RPC
		select {
		case rpc = <-in:
		case <-o.done:
			return
		}
		if s, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok && s.Term == o.term && s.LastLogIndex <= o.matched {
			o.log.Warn("a snapshot came too late and is not needed", "index", s.LastLogIndex, "have", o.matched, "term", s.Term)
			_, _ = io.Copy(io.Discard, rpc.Reader) // the connection goes on behind it
			rpc.Respond(&raft.InstallSnapshotResponse{Term: s.Term, Success: true}, nil)
			continue
		}
		answer := make(chan raft.RPCResponse, 1)
		given := rpc
		given.RespChan = answer
		if _, ok := rpc.Command.(*raft.TimeoutNowRequest); ok {
			if !o.stand(given, leads) {
				rpc.Respond(&raft.TimeoutNowResponse{}, errLeads)
				continue
			}
		} else {
			select {
			case o.out <- given:
			case <-o.done:
				return
			}
		}
		select {
		case r := <-answer:
			o.note(r.Response, rpc.Command)
			rpc.RespChan <- r // it has room for one
		case <-o.done:
			return
		}
	}
}

var errLeads = errors.New("this node leads already")

// stand hands on the order to stand for election, unless this node leads. What it is
// can change until raft takes the order, so it is looked at anew for each try, and
// raft takes it at once or not at all.
func (o *orderly) stand(rpc raft.RPC, leads func() bool) bool {
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !leads() {
		select {
		case o.out <- rpc:
			return true
		default:
		}
		select {
		case <-again.C:
		case <-o.done:
			return false
		}
	}
	return false
}

// note learns from an answer how far the log is the leader's.
func (o *orderly) note(answer, request any) {
	var term, index uint64
	switch a := answer.(type) {
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
	if term > o.term {
		o.term, o.matched = term, 0
	}
	if term == o.term {
		o.matched = max(o.matched, index)
	}
}
