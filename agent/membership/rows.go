package membership

import (
	"context"
	"time"

	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/replication"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// RunAutopilot is a leader job: raft-autopilot promotes and removes members.
func (m *Manager) RunAutopilot(ctx context.Context, rep *replica.Replica) {
	m.members.Features().Reset()
	rep.Node().Autopilot(ctx, replication.AutopilotOptions{
		Voters: m.o.Voters, DeadAfter: m.o.DeadAfter, Stats: m.cluster.NodeStats,
		Eligible: func(id string) bool {
			row, ok := m.members.Find(id)
			return ok && row.Role == conf.MemberServer
		},
		Removed: func(id string) { m.writeRemoval(rep, id) },
	})
}

// writeRemoval records that a member was removed, so that its certificate opens
// nothing.
func (m *Manager) writeRemoval(rep *replica.Replica, id string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	now := conf.FormatTime(m.o.Clock())
	_, err := rep.Node().Propose(ctx, &command.Cluster{At: now, By: "autopilot", MemberRemoves: []string{id}})
	if err != nil {
		m.log.Warn("the removal of a member was not recorded", "node", id, "err", err)
	}
}

// RegisterSelf keeps this agent's row in the list of members current: the leader writes
// its own, the other members ask it to write theirs when their address or build changed.
// It takes the list over from the store too, but not from one that is still being rebuilt
// from the log: it has no members yet, or earlier ones, and a restart in that moment would
// leave this agent with nobody to ask.
func (m *Manager) RegisterSelf(ctx context.Context, rep *replica.Replica) {
	c := m.cluster
	if m.pending() || !rep.IsCurrent() {
		return
	}
	members, ok := loadMembers(ctx, rep, c.MemberList)
	if !ok {
		return
	}
	id := c.Port.Identity()
	if last, _ := rep.Node().Indexes(); last > 0 {
		if err := c.SetLogOwner(id.NodeID); err != nil {
			m.log.Warn("cluster.json was not written", "err", err)
		}
	}
	m.removePredecessors(ctx, rep, members)
	self := selfRow(m)
	for _, row := range members {
		if row.NodeID == self.NodeID && row.RemovedAt == "" && row.Addr == self.Addr && row.Version == self.Version && row.Service == self.Service {
			return
		}
	}
	cctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var err error
	if rep.IsReadyLeader() {
		err = m.registerMember(cctx, rep, self)
	} else if leader, ok := c.Leader(); ok {
		err = c.Call(cctx, leader, routeHello, self, nil)
	}
	if code := conf.CodeOf(err); (code == conf.CodeDenied || code == conf.CodeInvalid) && ctx.Err() == nil {
		c.LogRefused("this member's address or build", id.NodeID, err)
	} else if err != nil && ctx.Err() == nil {
		m.log.Debug("this member's row was not written yet", "err", err)
	}
}

// registerMember records a member, and its address for Raft. Only the leader can.
func (m *Manager) registerMember(ctx context.Context, rep *replica.Replica, row command.Member) error {
	if row.NodeID != m.cluster.Self() {
		if err := rep.Node().AddNonvoter(ctx, row.NodeID, row.Addr); err != nil {
			return err
		}
	}
	return rep.Propose(ctx, &command.Cluster{At: conf.FormatTime(m.o.Clock()), By: row.NodeID, Members: []command.Member{row}})
}
