package raftguard

import (
	"log/slog"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-config/holdfast/replication/alarm"
)

// awayGrace is how long a member may be out of reach before it is an alarm: one that
// joins, or that is started again, is for a moment.
const awayGrace = 3 * time.Second

// AwayMembers raises an alarm for each member that this one, as the leader, cannot reach.
type AwayMembers struct {
	alarms *alarm.Set
	now    func() time.Time
	failed map[raft.ServerID]time.Time // since when
}

// NewAwayMembers returns AwayMembers that log to l.
func NewAwayMembers(l *slog.Logger) *AwayMembers {
	return &AwayMembers{alarms: alarm.NewSet(l), now: time.Now, failed: map[raft.ServerID]time.Time{}}
}

// Run follows r until stop is closed.
func (a *AwayMembers) Run(r *raft.Raft, stop <-chan struct{}) {
	seen := make(chan raft.Observation, 256) // two a second and member: enough for a member that is slow to take them
	o := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.FailedHeartbeatObservation, raft.ResumedHeartbeatObservation, raft.PeerObservation, raft.RaftState:
			return true
		}
		return false
	})
	r.RegisterObserver(o)
	defer r.DeregisterObserver(o)
	for {
		select {
		case s := <-seen:
			a.observe(s.Data)
		case <-stop:
			return
		}
	}
}

func (a *AwayMembers) observe(data any) {
	switch d := data.(type) {
	case raft.FailedHeartbeatObservation:
		since, known := a.failed[d.PeerID]
		if !known {
			since = a.now()
			a.failed[d.PeerID] = since
		}
		if a.now().Sub(since) >= awayGrace {
			a.alarms.Raise(alarm.MemberAway, string(d.PeerID), nil, "node", d.PeerID)
		}
	case raft.ResumedHeartbeatObservation:
		a.end(d.PeerID)
	case raft.PeerObservation:
		if d.Removed {
			a.end(d.Peer.ID)
		}
	case raft.RaftState:
		clear(a.failed)
		a.alarms.Only("")
	}
}

func (a *AwayMembers) end(id raft.ServerID) {
	delete(a.failed, id)
	a.alarms.Clear(string(id))
}
