package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// statusTimeout is how long a member may take to say how it is.
const statusTimeout = time.Second

// Status is admin.Cluster: it asks all members at once. Without a leader it
// answers too, as far as this agent can see.
func (c *cluster) Status(ctx context.Context) (conf.ClusterStatus, error) {
	id := c.port.Identity()
	out := conf.ClusterStatus{ClusterID: id.ClusterID, ConfigEpoch: c.s.view.Load().Epoch, Nodes: []conf.NodeStatus{}}
	voter := map[string]bool{}
	raftAddr := map[string]string{}
	for _, s := range c.servers() {
		voter[s.ID], raftAddr[s.ID] = s.Voter, s.Addr
		if s.Voter {
			out.Voters++
		}
	}
	if ss := c.s.cur.Load(); ss != nil {
		out.Leader, _ = ss.member.Leader()
		out.Term = ss.member.Term()
		_, out.Index = ss.member.Indexes()
	}
	members := c.members()
	for node, addr := range raftAddr { // whom Raft knows and the list does not, yet
		if !slices.ContainsFunc(members, func(m conf.Member) bool { return m.NodeID == node }) {
			members = append(members, conf.Member{NodeID: node, Addr: addr})
		}
	}
	if len(members) == 0 {
		members = []conf.Member{{NodeID: id.NodeID, Role: string(id.Role), Addr: c.port.Addr(), Service: c.o.ServiceName}}
	}
	out.Nodes = make([]conf.NodeStatus, len(members))
	reports := make([]nodeReport, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() { out.Nodes[i], reports[i] = c.node(ctx, m) })
	}
	wg.Wait()
	alive := 0
	for i := range out.Nodes {
		if n := &out.Nodes[i]; n.Reachable && reports[i].LastIndex > out.Index {
			out.Index = reports[i].LastIndex
		}
	}
	for i := range out.Nodes {
		n := &out.Nodes[i]
		switch {
		case !n.Reachable:
			n.State = conf.NodeUnreachable
			continue
		case n.Mode == conf.ModeRebuilding:
			n.State = conf.NodeRebuilding
		case n.NodeID == out.Leader:
			n.State = conf.NodeLeader
		case voter[n.NodeID]:
			n.State = conf.NodeVoter
		default:
			n.State = conf.NodeNonVoter
		}
		if voter[n.NodeID] && n.State != conf.NodeRebuilding {
			alive++
		}
		if out.Index > reports[i].Applied {
			n.LagEntries = out.Index - reports[i].Applied
		}
		n.LagSeconds = reports[i].LastContact.Seconds()
	}
	out.Quorum = out.Leader != "" && 2*alive > out.Voters
	slices.SortFunc(out.Nodes, func(a, b conf.NodeStatus) int {
		if a.NodeID < b.NodeID {
			return -1
		}
		return 1
	})
	return out, nil
}

func (c *cluster) node(ctx context.Context, m conf.Member) (conf.NodeStatus, nodeReport) {
	n := conf.NodeStatus{NodeID: m.NodeID, Role: m.Role, Service: m.Service, Addr: m.Addr, Version: m.Version}
	var r nodeReport
	if m.NodeID == c.self() {
		r = c.report()
	} else {
		ctx, cancel := context.WithTimeout(ctx, statusTimeout)
		defer cancel()
		if err := c.call(ctx, m.NodeID, "/status", nil, &r); err != nil {
			n.Err = err.Error()
			return n, r
		}
	}
	n.Reachable, n.ConfigEpoch, n.Digest, n.Services = true, r.Epoch, r.Digest, r.Services
	n.CertificateExpires, n.Version = r.CertExpires, r.Version
	n.Mode, n.Since = r.Health.OperationalMode, r.Since
	if r.Health.Event != nil {
		n.Event = *r.Health.Event
	}
	if r.Health.Err != nil {
		n.Err = *r.Health.Err
	}
	n.UpdatedAt = conf.FormatTime(time.Now())
	return n, r
}

// Tokens lists the join tokens, without anything to join with.
func (c *cluster) Tokens(ctx context.Context) ([]conf.JoinTokenInfo, error) {
	return ask(c.s, func(ss *session) ([]conf.JoinTokenInfo, error) { return ss.store.JoinTokens(ctx) })
}

// CreateToken makes a join token. It is shown once.
func (c *cluster) CreateToken(ctx context.Context, who conf.Principal, req conf.JoinTokenRequest) (conf.NewJoinToken, error) {
	ss, err := c.own()
	if err != nil {
		return conf.NewJoinToken{}, err
	}
	return c.newToken(ctx, ss, who.Name, req)
}

// RevokeToken ends a join token. Who has joined by it stays.
func (c *cluster) RevokeToken(ctx context.Context, who conf.Principal, id string) error {
	ss, err := c.own()
	if err != nil {
		return err
	}
	at := conf.FormatTime(time.Now())
	return c.propose(ctx, ss, &command.Cluster{
		At: at, By: who.Name, TokenRevokes: []string{id},
		Audit: []conf.Access{{UserID: who.Name, Action: "write", Success: true, Reason: "join token " + id + " revoked", Timestamp: at}},
	})
}

func (c *cluster) propose(ctx context.Context, ss *session, cmd *command.Cluster) error {
	res, err := ss.member.Propose(ctx, cmd)
	if err == nil && res.Err != nil {
		return res.Err
	}
	return err
}

// Change makes a change of the membership.
func (c *cluster) Change(ctx context.Context, who conf.Principal, change, node string) error {
	if change == conf.ChangeLeave {
		return c.leave(ctx, who)
	}
	ss, err := c.own()
	if err != nil {
		return err
	}
	switch change {
	case conf.ChangePromote:
		for _, m := range c.members() {
			if m.NodeID == node && m.Role != string(transport.RoleServer) {
				return conf.Errorf(conf.CodeInvalid, "%s is a %s and never votes", node, m.Role).WithHint("join it as a server instead")
			}
		}
		err = ss.member.Promote(ctx, node)
	case conf.ChangeDemote:
		if node == c.self() {
			return conf.Errorf(conf.CodeConflict, "%s leads", node).WithHint("give the leadership away first: holdfast cluster transfer")
		}
		err = ss.member.Demote(ctx, node)
	case conf.ChangeTransfer:
		err = ss.member.Transfer(ctx, node)
	case conf.ChangeRemove:
		return c.remove(ctx, ss, who.Name, node)
	default:
		return conf.Errorf(conf.CodeUsage, "unknown change %q", change)
	}
	if err == nil {
		at := conf.FormatTime(time.Now())
		c.s.auditRow(conf.Access{UserID: who.Name, Action: "write", Success: true, Reason: "cluster " + change + " " + node, Timestamp: at})
	}
	return err
}

const leaveTimeout = 10 * time.Second

// leave takes this agent out. It keeps serving what it has until it is stopped.
func (c *cluster) leave(ctx context.Context, who conf.Principal) error {
	if c.alone() {
		return conf.Errorf(conf.CodeConflict, "this agent is the whole cluster").WithHint("stop it instead")
	}
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if ss, err := c.own(); err == nil {
			if err := ss.member.Transfer(ctx, ""); err != nil {
				return conf.Errorf(conf.CodeConflict, "the leader cannot leave before another voter can lead: %w", err).
					WithHint("wait until another server is a voter: holdfast cluster status")
			}
		}
		leader, err := c.awaitLeader(ctx)
		if err != nil {
			return err
		}
		err = conf.Errorf(conf.CodeNoQuorum, "nobody took the leadership over").WithHint("send it again when there is a leader: holdfast cluster status")
		if leader != c.self() {
			err = c.call(ctx, leader, "/leave", struct{}{}, nil)
			switch code := conf.CodeOf(err); {
			case err == nil:
				return nil
			case code == conf.CodeInternal: // the answer was lost, or nobody is there
				if c.out(ctx, leader) {
					return nil
				}
			case code != conf.CodeNoQuorum: // who is the leader now may not know it yet
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
