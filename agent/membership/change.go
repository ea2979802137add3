package membership

import (
	"context"
	"time"

	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Change makes a change of the membership.
func (m *Manager) Change(ctx context.Context, who conf.Principal, change, node string) error {
	if change == conf.ChangeLeave {
		return m.leave(ctx, who)
	}
	rep, err := m.sup.LeaderReplica()
	if err != nil {
		return err
	}
	switch change {
	case conf.ChangePromote:
		if row, ok := m.members.Find(node); ok && row.Role != conf.MemberServer {
			return conf.Errorf(conf.CodeInvalid, "%s is a %s and never votes", node, row.Role).WithHint("join it as a server instead")
		}
		err = rep.Node().Promote(ctx, node)
	case conf.ChangeDemote:
		if node == m.cluster.Self() {
			return conf.Errorf(conf.CodeConflict, "%s leads", node).WithHint("give the leadership away first: holdfast cluster transfer")
		}
		err = rep.Node().Demote(ctx, node)
	case conf.ChangeTransfer:
		err = rep.Node().Transfer(ctx, node)
	case conf.ChangeRemove:
		return m.remove(ctx, rep, who.Name, node)
	default:
		return conf.Errorf(conf.CodeUsage, "unknown change %q", change)
	}
	if err == nil {
		at := conf.FormatTime(m.o.Clock())
		m.audit(conf.Access{UserID: who.Name, Action: "write", Success: true, Reason: "cluster " + change + " " + node, Timestamp: at})
	}
	return err
}

const leaveTimeout = 10 * time.Second

// leave removes this agent. It keeps serving what it has until it is stopped.
func (m *Manager) leave(ctx context.Context, who conf.Principal) error {
	if m.cluster.IsSingleNode() {
		return conf.Errorf(conf.CodeConflict, "this agent is the whole cluster").WithHint("stop it instead")
	}
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if rep, err := m.sup.LeaderReplica(); err == nil {
			if err := rep.Node().Transfer(ctx, ""); err != nil {
				return conf.Errorf(conf.CodeConflict, "the leader cannot leave before another voter can lead: %w", err).
					WithHint("wait until another server is a voter: holdfast cluster status")
			}
		}
		leader, err := m.cluster.AwaitLeader(ctx)
		if err != nil {
			return err
		}
		err = conf.Errorf(conf.CodeNoQuorum, "nobody took the leadership over").WithHint("send it again when there is a leader: holdfast cluster status")
		if leader != m.cluster.Self() {
			err = m.cluster.Call(ctx, leader, routeLeave, struct{}{}, nil)
			switch code := conf.CodeOf(err); {
			case err == nil:
				return nil
			case code == conf.CodeInternal, code == conf.CodeDenied: // the reply was lost, nobody is there, or an attempt before this one had an effect
				if m.cluster.IsRemovedBy(ctx, leader) {
					return nil
				}
				if code == conf.CodeDenied {
					return err
				}
			case code != conf.CodeNoQuorum: // the present leader may not be ready yet
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// remove removes a member: first from Raft, then its row, which closes the port to its
// certificate.
func (m *Manager) remove(ctx context.Context, rep *replica.Replica, by, node string) error {
	if node == m.cluster.Self() {
		if err := rep.Node().Transfer(ctx, ""); err != nil {
			return conf.Errorf(conf.CodeConflict, "the leader cannot leave before another voter leads: %w", err).
				WithHint("wait until another server is a voter: holdfast cluster status")
		}
		return conf.Errorf(conf.CodeNoQuorum, "leadership was given away first").WithHint("send it again")
	}
	if err := rep.Node().Remove(ctx, node); err != nil && conf.CodeOf(err) != conf.CodeNotFound {
		return err
	}
	at := conf.FormatTime(m.o.Clock())
	err := rep.Propose(ctx, &command.Cluster{
		At: at, By: by, MemberRemoves: []string{node},
		Audit: []conf.Access{{UserID: by, Action: "write", Success: true, Reason: "member " + node + " removed", Timestamp: at}},
	})
	if err != nil {
		return err
	}
	loadMembers(ctx, rep, m.members) // now, and not a second later: its certificate opens nothing any more
	return nil
}
