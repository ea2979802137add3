package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// A server that lost its log cannot keep its promises: it may have voted, or
// have acknowledged entries. It comes back as another member, NODE-r2 after NODE
// and NODE-r3 after that, which votes when it has caught up.

var successor = regexp.MustCompile(`^(.+)-r([1-9][0-9]{0,8})$`)

// lineage takes a node id apart; the first one of its line has number 1.
func lineage(id string) (base string, n int) {
	if m := successor.FindStringSubmatch(id); m != nil {
		if n, err := strconv.Atoi(m[2]); err == nil && n > 1 {
			return m[1], n
		}
	}
	return id, 1
}

// descendant is the n-th id of the line of base.
func descendant(base string, n int) string {
	suffix := "-r" + strconv.Itoa(n)
	return base[:min(len(base), maxNodeID-len(suffix))] + suffix
}

const maxNodeID = 63

// succeeds says whether id is a later one of the same line.
func succeeds(of, id string) bool {
	base, was := lineage(of)
	_, is := lineage(id)
	return is > was && descendant(base, is) == id
}

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

type retireRequest struct {
	NodeID string `json:"node_id"`
}

// readmit gives a server whose log is lost a place under a new id, and takes the
// old one out of Raft. The old row stays until the new member is there: until
// then its certificate is what a repetition is known by. This agent leads.
func (c *cluster) readmit(ctx context.Context, ss *session, p transport.Peer, req rejoinRequest) (rejoinGrant, error) {
	if p.Role != transport.RoleServer {
		return rejoinGrant{}, conf.Errorf(conf.CodeUnsupported, "a %s never votes and keeps its node id", p.Role)
	}
	id := c.port.Identity()
	if id.CA == nil {
		return rejoinGrant{}, conf.Errorf(conf.CodeUnsupported, "this agent does not hold the key of the cluster's CA")
	}
	members, err := ss.store.Members(ctx)
	if err != nil {
		return rejoinGrant{}, err
	}
	fresh := nextID(members, p, req.Advertise)
	check := transport.JoinRequest{CSR: req.CSR, NodeID: fresh, Version: req.Version, Advertise: req.Advertise}
	if err := check.Check(); err != nil {
		return rejoinGrant{}, err
	}
	at := conf.FormatTime(time.Now())
	err = c.propose(ctx, ss, &command.Cluster{
		At: at, By: p.NodeID, Members: []command.Member{{NodeID: fresh, Role: string(p.Role), Service: req.Service, Addr: req.Advertise, Version: req.Version}},
		Audit: []conf.Access{{UserID: p.NodeID, Action: "write", Success: true, Reason: fmt.Sprintf("admitted anew as %s: %.200q", fresh, req.Reason), Timestamp: at}},
	})
	if err != nil {
		return rejoinGrant{}, err
	}
	if err := ss.member.Remove(ctx, p.NodeID); err != nil && conf.CodeOf(err) != conf.CodeNotFound {
		return rejoinGrant{}, err
	}
	if err := ss.member.AddNonvoter(ctx, fresh, req.Advertise); err != nil {
		return rejoinGrant{}, err
	}
	cert, err := id.CA.Issue(req.CSR, fresh, p.Role, transport.DefaultTTL, time.Now())
	if err != nil {
		return rejoinGrant{}, err
	}
	c.log.Warn("a member lost its log and is admitted anew", "node", p.NodeID, "as", fresh, "reason", req.Reason)
	g := rejoinGrant{Certificate: cert.Raw}
	if g.CAKey, err = id.CA.KeyPEM(); err != nil {
		return rejoinGrant{}, err
	}
	for _, ca := range id.CAs {
		g.CAs = append(g.CAs, ca.Raw)
	}
	return g, nil
}

// nextID is the first id of the line of p that is free, or that p got before and
// did not hear of.
func nextID(members []conf.Member, p transport.Peer, addr string) string {
	base, n := lineage(p.NodeID)
	for {
		n++
		id, free := descendant(base, n), true
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

// retire takes the rows out that this agent had under its earlier ids.
func (ss *session) retire(ctx context.Context, members []conf.Member) {
	self := ss.s.cluster.self()
	for _, m := range members {
		if m.RemovedAt != "" || !succeeds(m.NodeID, self) {
			continue
		}
		cctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		var err error
		if ss.leads() {
			err = ss.dismiss(cctx, self, m.NodeID)
		} else if leader, ok := ss.s.cluster.leader(); ok {
			err = ss.s.cluster.call(cctx, leader, "/retire", retireRequest{m.NodeID}, nil)
		}
		cancel()
		if err != nil && ctx.Err() == nil {
			ss.s.log.Debug("the row of this member's earlier id stays for now", "node", m.NodeID, "err", err)
		}
	}
}

// dismiss removes the row of an id whose successor is there. This agent leads.
func (ss *session) dismiss(ctx context.Context, self, old string) error {
	if !succeeds(old, self) {
		return conf.Errorf(conf.CodeDenied, "%s is not the successor of %s", self, old)
	}
	servers, _, err := ss.member.Servers()
	if err != nil {
		return err
	}
	for _, s := range servers {
		if s.ID == old {
			return conf.Errorf(conf.CodeConflict, "%s is still a member", old)
		}
	}
	at := conf.FormatTime(time.Now())
	return ss.s.cluster.propose(ctx, ss, &command.Cluster{At: at, By: self, MemberRemoves: []string{old}})
}

// recognise learns from the database who the others are, when cluster.json was lost.
func (c *cluster) recognise(ctx context.Context, st *store.Store) {
	c.mu.Lock()
	unknown := c.unknown
	c.mu.Unlock()
	if !unknown {
		return
	}
	if members, err := st.Members(ctx); err == nil && len(members) > 0 {
		c.learn(members)
	}
}

// rejoin gets this agent into a state from which the leader feeds it anew. What
// is damaged is set aside only when a leader is there to feed it. A crash at any
// point leaves the damage to be found, or the new identity and nothing else.
func (s *supervisor) rejoin(ctx context.Context, cause error) error {
	c := s.cluster
	id := c.port.Identity()
	aside := func() error {
		return s.setAside(cause.Error(), s.o.DBPath, s.o.DBPath+"-wal", s.o.DBPath+"-shm", s.o.raftDir())
	}
	if id.Role != transport.RoleServer { // it never votes: an empty log breaks no promise
		if err := c.begin(""); err != nil {
			return err
		}
		return aside()
	}
	csr, err := transport.NewCSR(id.Key)
	if err != nil {
		return err
	}
	g, err := c.askRejoin(ctx, rejoinRequest{CSR: csr, Advertise: c.port.Addr(), Service: s.o.ServiceName, Version: s.o.Version, Reason: publicText(cause)})
	if err != nil {
		return err
	}
	fresh, err := transport.NewIdentity(g.Certificate, id.Key, g.CAs)
	if err == nil {
		fresh, err = fresh.WithCAKey(g.CAKey)
	}
	if err != nil {
		return err
	}
	if fresh.ClusterID != id.ClusterID || fresh.Role != id.Role || !succeeds(id.NodeID, fresh.NodeID) {
		return conf.Errorf(conf.CodeDenied, "the leader gave a certificate of %s, which was not asked for", fresh.NodeID)
	}
	if err := aside(); err != nil {
		return err
	}
	if err := fresh.Save(s.o.tlsDir()); err != nil {
		return err
	}
	if err := c.port.Rename(fresh); err != nil {
		return err
	}
	if err := replaceLine(filepath.Join(s.o.DataDir, "node-id"), 0o600, fresh.NodeID); err != nil {
		s.log.Warn("the node id was not written; the certificate holds it", "err", err)
	}
	s.log.Warn("this agent lost its log and goes on as another member", "was", id.NodeID, "node", fresh.NodeID)
	return nil
}

// askRejoin finds the leader among the servers that this agent knows.
func (c *cluster) askRejoin(ctx context.Context, req rejoinRequest) (g rejoinGrant, err error) {
	err = conf.Errorf(conf.CodeNoQuorum, "this agent knows of no other server")
	for _, m := range c.members() {
		if m.NodeID == c.self() || m.Role != string(transport.RoleServer) {
			continue
		}
		cctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		e := c.call(cctx, m.NodeID, "/rejoin", req, &g)
		cancel()
		if e == nil {
			return g, nil
		}
		// What a leader says counts more than that another one does not lead.
		if conf.CodeOf(err) == conf.CodeNoQuorum {
			err = e
		}
	}
	return g, err
}

// askAround finds out, when no leader is heard of, whether the others do not take
// this agent for a member any more: nobody tells one that was removed. Health says
// it then, with the way back.
func (ss *session) askAround(ctx context.Context) {
	tick := time.NewTicker(3 * time.Second)
	defer tick.Stop()
	quiet := false
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		leader, _ := ss.member.Leader()
		was := quiet
		quiet = leader == "" && ss.s.cur.Load() == ss && !ss.s.cluster.alone()
		switch {
		case quiet && was: // an election takes less
			if err := ss.s.cluster.refusedBy(ctx); err != nil {
				ss.s.shunned.Store(true)
				ss.s.setUnlessBlocked(conf.DatabaseHealthy, conf.ModeReadOnly, "the others refuse this agent", err)
			}
		case leader != "" && ss.s.shunned.Swap(false):
			ss.s.setUnlessBlocked(conf.DatabaseHealthy, conf.ModeNormal, "the others take this agent for a member again", nil)
		}
	}
}

// refusedBy is what another server says to this agent when it does not let it in.
func (c *cluster) refusedBy(ctx context.Context) error {
	for _, m := range c.members() {
		if m.NodeID == c.self() || m.Role != string(transport.RoleServer) {
			continue
		}
		cctx, cancel := context.WithTimeout(ctx, statusTimeout)
		err := c.call(cctx, m.NodeID, "/status", nil, nil)
		cancel()
		if e, ok := errors.AsType[*conf.Error](err); ok && e.Code == conf.CodeDenied {
			return e
		}
	}
	return nil
}
