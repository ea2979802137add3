package agent

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// reconcile is one goroutine a session that does what leading asks for, and
// undoes it when leadership is lost. It is woken by each change of leadership
// and each second; what it does is safe to repeat.
func (ss *session) reconcile(ctx context.Context) {
	var d duties
	defer d.end()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		switch {
		case !ss.member.Leading():
			if ss.ledTerm.Swap(0) != 0 {
				ss.s.cluster.turn()
			}
			d.end()
		case ss.ledTerm.Load() != ss.member.Term():
			d.end()
			if ss.take(ctx) {
				d.begin(ctx, func(ctx context.Context) { ss.member.Autopilot(ctx, ss.autopilot()) }, ss.compareOften, ss.rotateOften, ss.reissueOften, ss.pruneOften, ss.backUp)
			}
		}
		ss.announce(ctx)
		ss.s.cluster.renew(ctx)
		select {
		case _, open := <-ss.member.LeaderCh():
			if !open {
				return
			}
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// duties is what runs while this member leads.
type duties struct {
	stop context.CancelFunc
	done sync.WaitGroup
}

func (d *duties) begin(ctx context.Context, run ...func(context.Context)) {
	ctx, d.stop = context.WithCancel(ctx)
	for _, f := range run {
		d.done.Go(func() { f(ctx) })
	}
}

func (d *duties) end() {
	if d.stop != nil {
		d.stop()
		d.done.Wait()
		d.stop = nil
	}
}

// take makes a new leader ready: a barrier before its first edit, so that it has
// applied all that its predecessors acknowledged.
func (ss *session) take(ctx context.Context) bool {
	term := ss.member.Term()
	bctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := ss.member.Barrier(bctx); err != nil || ss.member.Term() != term {
		return false
	}
	if err := ss.loadRing(bctx); err != nil { // what it signs is by the key in use
		return false
	}
	ss.ledTerm.Store(term)
	ss.s.cluster.turn()
	return true
}

// leads says whether this session may take changes now.
func (ss *session) leads() bool {
	return ss.ledTerm.Load() != 0 && ss.ledTerm.Load() == ss.member.Term() && ss.member.Leading()
}

func (ss *session) autopilot() replication.AutopilotOptions {
	c := ss.s.cluster
	return replication.AutopilotOptions{
		Voters: ss.s.o.Voters, DeadAfter: ss.s.o.DeadAfter, Stats: c.nodeStats,
		Eligible: func(id string) bool {
			for _, m := range c.members() {
				if m.NodeID == id {
					return m.Role == string(transport.RoleServer)
				}
			}
			return false
		},
		Removed: func(id string) { ss.forget(id) },
	}
}

// forget records that a member is out, so that its certificate opens nothing.
func (ss *session) forget(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	now := conf.FormatTime(time.Now())
	_, err := ss.member.Propose(ctx, &command.Cluster{At: now, By: "autopilot", MemberRemoves: []string{id}})
	if err != nil {
		ss.s.log.Warn("the removal of a member was not recorded", "node", id, "err", err)
	}
}

// announce keeps the list of members true: the leader writes its own row, the
// others ask it to write theirs when their address or build changed.
func (ss *session) announce(ctx context.Context) {
	c := ss.s.cluster
	if ss.s.reviving.Load() {
		return
	}
	members, err := ss.store.Members(ctx)
	if err != nil {
		return
	}
	c.learn(members)
	id := c.port.Identity()
	if last, _ := ss.member.Indexes(); last > 0 {
		if err := c.begin(id.NodeID); err != nil {
			ss.s.log.Warn("cluster.json was not written", "err", err)
		}
	}
	ss.retire(ctx, members)
	self := command.Member{NodeID: id.NodeID, Role: string(id.Role), Service: ss.s.o.ServiceName, Addr: c.port.Addr(), Version: ss.s.o.Version}
	for _, m := range members {
		if m.NodeID == self.NodeID && m.RemovedAt == "" && m.Addr == self.Addr && m.Version == self.Version && m.Service == self.Service {
			return
		}
	}
	cctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if ss.leads() {
		err = ss.enroll(cctx, self)
	} else if leader, ok := c.leader(); ok {
		err = c.call(cctx, leader, "/hello", self, nil)
	}
	if err != nil && ctx.Err() == nil {
		ss.s.log.Debug("this member's row was not written yet", "err", err)
	}
}

// enroll records a member, and its address for Raft. Only the leader can.
func (ss *session) enroll(ctx context.Context, m command.Member) error {
	if m.NodeID != ss.s.cluster.self() {
		if err := ss.member.AddNonvoter(ctx, m.NodeID, m.Addr); err != nil {
			return err
		}
	}
	res, err := ss.member.Propose(ctx, &command.Cluster{At: conf.FormatTime(time.Now()), By: m.NodeID, Members: []command.Member{m}})
	if err == nil && res.Err != nil {
		err = res.Err
	}
	return err
}

// catchUp waits until this replica is as new as the cluster, as far as that can
// be found out: it leads, or it has applied what the leader had committed when it
// was asked. Without a leader it goes on with what it has after a short while,
// when it has anything: that is what services need in an outage.
func (ss *session) catchUp(ctx context.Context) error {
	patience := time.NewTimer(2 * time.Second)
	defer patience.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var want uint64
	for {
		if ss.leads() {
			return nil
		}
		if leader, ok := ss.leaderOf(); ok && want == 0 {
			rctx, cancel := context.WithTimeout(ctx, time.Second)
			var at readIndex
			if err := ss.s.cluster.call(rctx, leader, "/readindex", nil, &at); err == nil {
				want = max(at.Index, 1)
			}
			cancel()
		}
		if applied, _ := ss.store.Applied(); want > 0 && applied >= want && ss.store.Epoch() != "" {
			return nil
		}
		select {
		case <-tick.C:
		case <-patience.C:
			if ss.store.Epoch() != "" {
				err := ss.checkNewest(ctx)
				if err == nil {
					ss.s.log.Warn("no leader answers: going on with what this replica has")
					return nil
				}
				ss.s.log.Warn("no leader answers, and this replica is older than what was served already: waiting for a leader", "err", err)
			}
			ss.s.setUnlessBlocked(conf.DatabaseHealthy, conf.ModeReadOnly, "waiting for a leader", nil)
		case err := <-ss.member.Fault():
			return err
		case err := <-ss.lost:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (ss *session) leaderOf() (string, bool) {
	node, _ := ss.member.Leader()
	return node, node != "" && node != ss.s.cluster.self()
}

// keepJoinTokens writes a reusable token of each role to a file that only this
// user can read, for compose and systemd. The agent that starts a cluster does it.
func (ss *session) keepJoinTokens(ctx context.Context) {
	for role, path := range map[transport.Role]string{
		transport.RoleServer: ss.s.o.ServerTokenPath, transport.RoleSidecar: ss.s.o.SidecarTokenPath,
	} {
		if path == "none" || ss.s.cluster.ownToken(path) && ss.knowsToken(ctx, path) {
			continue
		}
		t, err := ss.s.cluster.newToken(ctx, ss, "bootstrap", conf.JoinTokenRequest{Role: string(role), TTL: 10 * 365 * 24 * time.Hour})
		if err == nil {
			err = replaceLine(path, 0o600, t.Token)
		}
		if err != nil {
			ss.s.log.Warn("no join token was kept in a file", "role", role, "path", path, "err", err)
		}
	}
}

// ownToken says whether the file holds a token of this cluster: one that an
// earlier cluster left in a shared directory lets nobody in.
func (c *cluster) ownToken(path string) bool {
	t, err := tokenIn(path)
	id := c.port.Identity()
	return err == nil && len(id.CAs) > 0 && t.CAHash == transport.HashCA(id.CAs[0])
}

// knowsToken says whether the store has the token of a file, revoked or not: one that
// was rebuilt has none.
func (ss *session) knowsToken(ctx context.Context, path string) bool {
	t, err := tokenIn(path)
	if err != nil {
		return false
	}
	_, _, err = ss.store.JoinToken(ctx, t.ID)
	return conf.CodeOf(err) != conf.CodeNotFound
}
