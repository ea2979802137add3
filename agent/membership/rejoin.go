package membership

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/agent/recovery"
	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// rejoinRequest asks for a place under a new id. The certificate says who asks.
type rejoinRequest struct {
	CSR       []byte `json:"csr"` // DER
	Advertise string `json:"advertise"`
	Service   string `json:"service"`
	Version   string `json:"version"`
	Reason    string `json:"reason"`
}

type rejoinGrant struct {
	Certificate []byte   `json:"certificate"` // DER
	CAs         [][]byte `json:"cas"`         // DER
	CAKey       []byte   `json:"ca_key"`      // PEM
}

type removePredecessorRequest struct {
	NodeID string `json:"node_id"`
}

// admitIncarnation admits a server whose log is lost under its next node id, and removes
// the old one from Raft. The old row stays until the new member is there: until then its
// certificate identifies a repetition. This agent leads.
func (m *Manager) admitIncarnation(ctx context.Context, rep *replica.Replica, p pki.Peer, req rejoinRequest) (rejoinGrant, error) {
	if p.Role != pki.RoleServer {
		return rejoinGrant{}, conf.Errorf(conf.CodeUnsupported, "a %s never votes and keeps its node id", p.Role)
	}
	row := command.Member{NodeID: p.NodeID, Role: string(p.Role), Service: req.Service, Addr: req.Advertise, Version: req.Version}
	if err := checkHello(ctx, m.cluster, row); err != nil {
		m.cluster.LogRefused("a member's request to be admitted anew", p.NodeID, err)
		return rejoinGrant{}, err
	}
	id := m.cluster.Port.Identity()
	if id.CA == nil {
		return rejoinGrant{}, conf.Errorf(conf.CodeUnsupported, "this agent does not hold the key of the cluster's CA")
	}
	members, err := rep.Store().Queries.Members(ctx)
	if err != nil {
		return rejoinGrant{}, err
	}
	fresh := nextIncarnation(members, p, req.Advertise)
	check := transport.JoinRequest{CSR: req.CSR, NodeID: fresh, Version: req.Version, Advertise: req.Advertise}
	if err := check.Check(); err != nil {
		return rejoinGrant{}, err
	}
	at := conf.FormatTime(m.o.Clock())
	row.NodeID, row.KeyHash = fresh, check.KeyHash()
	res, err := proposeWithKeys(ctx, rep, &command.Cluster{
		At: at, By: p.NodeID,
		Members: []command.Member{row},
		Audit:   []conf.Access{{UserID: p.NodeID, Action: "write", Success: true, Reason: fmt.Sprintf("admitted anew as %s: %.200q", fresh, req.Reason), Timestamp: at}},
	})
	if err == nil && res.Err != nil {
		err = res.Err
	}
	if err != nil {
		return rejoinGrant{}, err
	}
	if err := rep.Node().Remove(ctx, p.NodeID); err != nil && conf.CodeOf(err) != conf.CodeNotFound {
		return rejoinGrant{}, err
	}
	if err := rep.Node().AddNonvoter(ctx, fresh, req.Advertise); err != nil {
		return rejoinGrant{}, err
	}
	cert, err := id.CA.Issue(req.CSR, fresh, p.Role, pki.DefaultTTL, m.o.Clock())
	if err != nil {
		return rejoinGrant{}, err
	}
	m.log.Warn("a member lost its log and is admitted as its next incarnation", "node", p.NodeID, "as", fresh, "reason", req.Reason)
	g := rejoinGrant{Certificate: cert.Raw}
	if g.CAKey, err = id.CA.KeyPEM(); err != nil {
		return rejoinGrant{}, err
	}
	for _, ca := range id.CAs {
		g.CAs = append(g.CAs, ca.Raw)
	}
	return g, nil
}

// nextIncarnation is the first later node id of p that is free, or that p got before in a
// reply that was lost.
func nextIncarnation(members []conf.Member, p pki.Peer, addr string) string {
	base, n := conf.ParseIncarnation(p.NodeID)
	for {
		n++
		id, free := conf.IncarnationID(base, n), true
		for _, m := range members {
			if m.NodeID == id {
				free = m.RemovedAt == "" && m.Addr == addr && m.Role == string(p.Role)
			}
		}
		if free {
			return id
		}
	}
}

// removePredecessors removes the rows that this agent had under its earlier ids.
func (m *Manager) removePredecessors(ctx context.Context, rep *replica.Replica, members []conf.Member) {
	self := m.cluster.Self()
	for _, row := range members {
		if row.RemovedAt != "" || !conf.IsLaterIncarnation(row.NodeID, self) {
			continue
		}
		cctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		var err error
		if rep.IsReadyLeader() {
			err = m.removePredecessor(cctx, rep, self, row.NodeID)
		} else if leader, ok := m.cluster.Leader(); ok {
			err = m.cluster.Call(cctx, leader, routeRetire, removePredecessorRequest{row.NodeID}, nil)
		}
		cancel()
		if err != nil && ctx.Err() == nil {
			m.log.Debug("the row of this member's earlier id stays for now", "node", row.NodeID, "err", err)
		}
	}
}

// removePredecessor removes the row of an id whose later incarnation is there. This
// agent leads.
func (m *Manager) removePredecessor(ctx context.Context, rep *replica.Replica, self, old string) error {
	if !conf.IsLaterIncarnation(old, self) {
		return conf.Errorf(conf.CodeDenied, "%s is not the successor of %s", self, old)
	}
	servers, _, err := rep.Node().Servers()
	if err != nil {
		return err
	}
	for _, s := range servers {
		if s.ID == old {
			return conf.Errorf(conf.CodeConflict, "%s is still a member", old)
		}
	}
	at := conf.FormatTime(m.o.Clock())
	return rep.Propose(ctx, &command.Cluster{At: at, By: self, MemberRemoves: []string{old}})
}

// Rejoin gets this agent into a state from which it copies all data from the leader. The
// damaged files are quarantined only when a leader is there to copy from. A crash at any
// point leaves the damage to be found, or the new identity and nothing else.
func (m *Manager) Rejoin(ctx context.Context, cause error) error {
	c := m.cluster
	id := c.Port.Identity()
	quarantine := func() error {
		return recovery.Quarantine(m.o.DataDir, m.log, cause.Error(), append(recovery.DatabaseFiles(m.o.DBPath), m.o.RaftDir())...)
	}
	if id.Role != pki.RoleServer { // it never votes: an empty log contradicts no vote
		if err := c.SetLogOwner(""); err != nil {
			return err
		}
		return quarantine()
	}
	csr, err := pki.NewCSR(id.Key)
	if err != nil {
		return err
	}
	g, err := m.requestRejoin(ctx, rejoinRequest{CSR: csr, Advertise: c.Port.Addr(), Service: m.o.ServiceName, Version: m.o.Version, Reason: process.PublicText(cause)})
	if err != nil {
		return err
	}
	fresh, err := pki.NewIdentity(g.Certificate, id.Key, g.CAs)
	if err == nil {
		fresh, err = fresh.WithCAKey(g.CAKey)
	}
	if err != nil {
		return err
	}
	if fresh.ClusterID != id.ClusterID || fresh.Role != id.Role || !conf.IsLaterIncarnation(id.NodeID, fresh.NodeID) {
		return conf.Errorf(conf.CodeDenied, "the leader gave a certificate of %s, which was not asked for", fresh.NodeID)
	}
	if err := quarantine(); err != nil {
		return err
	}
	if err := fresh.Save(m.o.TLSDir()); err != nil {
		return err
	}
	if err := c.ChangeNodeID(fresh); err != nil {
		return err
	}
	if err := process.ReplaceLine(filepath.Join(m.o.DataDir, "node-id"), 0o600, fresh.NodeID); err != nil {
		m.log.Warn("the node id was not written; the certificate holds it", "err", err)
	}
	m.log.Warn("this agent lost its log and continues as another member", "was", id.NodeID, "node", fresh.NodeID)
	return nil
}

// requestRejoin finds the leader among the servers that this agent knows.
func (m *Manager) requestRejoin(ctx context.Context, req rejoinRequest) (g rejoinGrant, err error) {
	err = conf.Errorf(conf.CodeNoQuorum, "this agent knows of no other server")
	for _, node := range m.cluster.OtherServers() {
		cctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		e := m.cluster.Call(cctx, node, routeRejoin, req, &g)
		cancel()
		if e == nil {
			return g, nil
		}
		// The reply of a leader counts more than that another server does not lead.
		if conf.CodeOf(err) == conf.CodeNoQuorum {
			err = e
		}
	}
	return g, err
}

// ProbeMembership is a job of a replica: when no leader is known, it finds out whether
// the other members reject this agent, since a removed member is not notified. Health
// shows it then, with the way back.
func (m *Manager) ProbeMembership(ctx context.Context, rep *replica.Replica) {
	tick := time.NewTicker(3 * time.Second)
	defer tick.Stop()
	quiet := false
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		leader, _ := rep.Node().Leader()
		was := quiet
		quiet = leader == "" && rep.IsCurrent() && !m.cluster.IsSingleNode()
		switch {
		case quiet && was: // an election takes less
			if err := m.probeRejection(ctx); err != nil {
				m.rejected.Store(true)
				m.status.SetUnlessLocked(conf.DatabaseHealthy, conf.ModeReadOnly, "the others refuse this agent", err)
			}
		case leader != "" && m.rejected.Swap(false):
			m.status.SetUnlessLocked(conf.DatabaseHealthy, conf.ModeNormal, "the others take this agent for a member again", nil)
		}
	}
}

// probeRejection is the error of another server that rejects this agent.
func (m *Manager) probeRejection(ctx context.Context) error {
	for _, node := range m.cluster.OtherServers() {
		_, err := m.cluster.Report(ctx, node)
		if e, ok := errors.AsType[*conf.Error](err); ok && e.Code == conf.CodeDenied {
			return e
		}
	}
	return nil
}
