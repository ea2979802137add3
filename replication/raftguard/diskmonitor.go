// Guard: a node whose disk is slow or hangs does not lead.
//
// Upstream: hashicorp/raft#503. Raft lets it lead, because heartbeats need no disk.
//
// Tests: TestSlowDiskDoesNotLead, TestHungDiskDoesNotLead (replication). Known-bad
// build: TestSlowDiskLeadsWithoutTheGuard (replication), with limits of an hour.

package raftguard

import (
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// DiskMonitor measures appends to the log, and acts when one is slow or hangs.
type DiskMonitor struct {
	Slow, Hung time.Duration // limits of an append
	ID         raft.ServerID // of this node
	Log        *slog.Logger
	Fault      *Fault
	Raft       *raft.Raft // set before the first Check

	CloseTransport func() error
	Go             func(func()) bool // runs a function on a goroutine that the node waits for

	appends appendTimer
}

// appendTimer measures appends to the log. One goroutine of raft appends.
type appendTimer struct {
	since atomic.Int64 // unix nanoseconds: start of the append that runs; 0 = none
	worst atomic.Int64 // nanoseconds: the longest append since the last Check
}

func (t *appendTimer) begin() (done func()) {
	start := time.Now()
	t.since.Store(start.UnixNano())
	return func() {
		t.since.Store(0)
		if took := time.Since(start).Nanoseconds(); took > t.worst.Load() {
			t.worst.Store(took)
		}
	}
}

// Interval returns how often Check must be called.
func (d *DiskMonitor) Interval() time.Duration { return min(d.Slow, d.Hung) / 4 }

// Check transfers the leadership when an append took longer than Slow, and cuts this
// node off when one runs for longer than Hung.
func (d *DiskMonitor) Check() {
	worst := time.Duration(d.appends.worst.Swap(0))
	if since := d.appends.since.Load(); since != 0 && d.Fault.Err() == nil {
		if took := time.Since(time.Unix(0, since)); took > d.Hung {
			// Raft's main loop hangs in the append and can transfer nothing. Without
			// connections to it, the other members elect another leader.
			d.Fault.Trip(conf.Errorf(conf.CodeInternal, "the disk of the Raft log hangs: an append takes more than %s", d.Hung).
				WithHint("check the disk; the agent continues when it responds"))
			alarm.AppendHangs.Report(d.Log, "took", took)
			_ = d.CloseTransport()
			return
		}
	}
	if worst <= d.Slow || d.Raft.State() != raft.Leader || !HasOtherVoter(d.Raft, d.ID) {
		return
	}
	d.Log.Warn("log append is slow, transferring leadership", "took", worst)
	d.Go(func() {
		if err := d.Raft.LeadershipTransfer().Error(); err != nil {
			d.Log.Warn("leadership transfer failed", "err", err)
		}
	})
}

// HasOtherVoter reports whether a member other than id votes.
func HasOtherVoter(r *raft.Raft, id raft.ServerID) bool {
	return slices.ContainsFunc(r.GetConfiguration().Configuration().Servers, func(s raft.Server) bool {
		return s.Suffrage == raft.Voter && s.ID != id
	})
}
