package membership

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// Joiner admits joining agents; nil where the CA's key is missing, which only servers
// hold.
func (m *Manager) Joiner(id *pki.Identity) transport.Joiner {
	if id.Role != pki.RoleServer || id.CA == nil {
		return nil
	}
	return joinHandler{m}
}

type joinHandler struct{ m *Manager }

// Join implements transport.Joiner. A server that does not lead has the leader
// count the use, and issues the certificate itself.
func (j joinHandler) Join(ctx context.Context, r transport.JoinRequest) (transport.JoinGrant, error) {
	leader, err := j.m.cluster.AwaitLeader(ctx)
	if err != nil {
		return transport.JoinGrant{}, err
	}
	if leader != j.m.cluster.Self() {
		var g transport.JoinGrant
		err := j.m.cluster.Call(ctx, leader, routeJoin, r, &g)
		return g, joinError(err)
	}
	return j.m.admit(ctx, r)
}

// joinError makes every rejection of a token the same on its way back.
func joinError(err error) error {
	if conf.CodeOf(err) == conf.CodeDenied {
		return &transport.TokenError{Reason: transport.TokenUnknown}
	}
	return err
}

// admit decides on a join; this agent leads.
func (m *Manager) admit(ctx context.Context, r transport.JoinRequest) (transport.JoinGrant, error) {
	rep := m.sup.Current()
	if rep == nil {
		return transport.JoinGrant{}, m.sup.Down()
	}
	now := m.o.Clock()
	stored, info, err := rep.Store().Queries.JoinToken(ctx, r.TokenID)
	if err != nil && conf.CodeOf(err) != conf.CodeNotFound {
		return transport.JoinGrant{}, err
	}
	reject := func(reason transport.TokenReason) (transport.JoinGrant, error) {
		m.audit(conf.Access{UserID: "join:" + r.NodeID, Action: "unauthorized", Reason: "join token " + string(reason), Timestamp: conf.FormatTime(now)})
		return transport.JoinGrant{}, &transport.TokenError{Reason: reason}
	}
	if reason := rejectReason(stored, info, r, conf.FormatTime(now), err == nil); reason != "" {
		return reject(reason)
	}
	role, err := pki.ParseRole(info.Role)
	if err != nil {
		return transport.JoinGrant{}, err
	}
	select {
	case m.admitting <- struct{}{}:
		defer func() { <-m.admitting }()
		err = rep.Node().CheckAddr(r.NodeID, r.Advertise) // before the use of the token counts
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return transport.JoinGrant{}, err
	}
	at := conf.FormatTime(now)
	res, err := proposeWithKeys(ctx, rep, &command.Cluster{
		At: at, By: "join:" + r.NodeID,
		Uses:    []command.TokenUse{{TokenID: r.TokenID, NodeID: r.NodeID, KeyHash: r.KeyHash()}},
		Members: []command.Member{{NodeID: r.NodeID, Role: info.Role, Service: info.Service, Addr: r.Advertise, Version: r.Version, KeyHash: r.KeyHash()}},
		Audit:   []conf.Access{{UserID: "join:" + r.NodeID, Action: "write", Success: true, Reason: fmt.Sprintf("joined as %s by token %s", info.Role, r.TokenID), Timestamp: at}},
	})
	switch {
	case err != nil:
		return transport.JoinGrant{}, err
	case res.Err != nil && res.Err.Code == conf.CodeDenied:
		return reject(transport.TokenUsed)
	case res.Err != nil:
		return transport.JoinGrant{}, res.Err
	}
	loadMembers(ctx, rep, m.members) // its id may be that of a removed member
	if err := rep.Node().AddNonvoter(ctx, r.NodeID, r.Advertise); err != nil {
		return transport.JoinGrant{}, err
	}
	return m.grant(rep, r, role, info.Service, now)
}

// rejectReason returns why a token admits nobody, "" when it does. It compares the secret
// in constant time, for an unknown token too.
func rejectReason(stored command.JoinToken, info conf.JoinTokenInfo, r transport.JoinRequest, at string, known bool) transport.TokenReason {
	same := transport.CheckSecret(r.Secret, stored.SecretHash)
	switch reason := info.RejectReason(at); {
	case !known:
		return transport.TokenUnknown
	case !same:
		return transport.TokenForged
	case reason == "revoked":
		return transport.TokenRevoked
	case reason == "expired":
		return transport.TokenExpired
	}
	return "" // used up: the log knows whether it is the same joiner again
}

func (m *Manager) grant(rep *replica.Replica, r transport.JoinRequest, role pki.Role, service string, now time.Time) (transport.JoinGrant, error) {
	id := m.cluster.Port.Identity()
	cert, err := id.CA.Issue(r.CSR, r.NodeID, role, pki.DefaultTTL, now)
	if err != nil {
		return transport.JoinGrant{}, err
	}
	lines, err := m.keys().SidecarLines(service)
	if role == pki.RoleServer {
		lines, err = m.keys().Export()
	}
	if err != nil {
		return transport.JoinGrant{}, err
	}
	material, err := json.Marshal(lines)
	if err != nil {
		return transport.JoinGrant{}, err
	}
	g := transport.JoinGrant{Certificate: cert.Raw, ClusterID: id.ClusterID, Epoch: rep.Store().Epoch(), Keys: material}
	if role == pki.RoleServer {
		// Any server admits others, also when the first one is lost permanently.
		if g.CAKey, err = id.CA.KeyPEM(); err != nil {
			return transport.JoinGrant{}, err
		}
	}
	for _, ca := range id.CAs {
		g.CAs = append(g.CAs, ca.Raw)
	}
	members := m.cluster.Members()
	if _, ok := m.members.Find(m.cluster.Self()); !ok { // a founder's own row comes a moment later, and the joining agent asks it first
		self := selfRow(m)
		members = append(members, conf.Member{NodeID: self.NodeID, Role: self.Role, Addr: self.Addr})
	}
	for _, other := range members {
		role, err := pki.ParseRole(other.Role)
		if err != nil || other.Addr == "" {
			continue
		}
		g.Members = append(g.Members, transport.MemberAddr{NodeID: other.NodeID, Role: role, Addr: other.Addr})
	}
	return g, nil
}
