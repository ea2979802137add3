package rotation

import (
	"context"
	"encoding/base64"
	"net/http"

	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// The routes that members call about keys. A key goes to servers only, over a connection
// on which both sides are authenticated.
const (
	routeHeld    = "/keys/held"
	routeReady   = "/keys/ready"
	routeTake    = "/keys/take"
	routePull    = "/keys/pull"
	routeGranted = "/keys/granted"
)

func (m *Manager) registerRoutes() {
	c := m.o.Cluster
	c.HandleGet(routeHeld, func(*http.Request) (any, error) { return m.members.own(), nil })
	c.HandleGet(routeReady, func(r *http.Request) (any, error) {
		kind := r.URL.Query().Get("kind")
		err := conf.CheckKeyKind(kind)
		if err == nil {
			err = m.file.canRotate(kind)
		}
		return struct{}{}, err
	})
	peers.HandlePost(c, routeTake, func(ctx context.Context, p pki.Peer, req takeRequest) (any, error) {
		ctx, cancel := context.WithTimeout(ctx, takeTimeout)
		defer cancel()
		return struct{}{}, m.fetchPendingKey(ctx, p, req)
	})
	c.HandleGet(routePull, func(r *http.Request) (any, error) { return m.serveKey(r) })
	c.HandleGet(routeGranted, func(r *http.Request) (any, error) { return m.serveServiceKey(r) })
}

// serveServiceKey returns to a sidecar the key of the service that it was admitted for, as
// it got it when it joined. What it reports of its service itself does not count.
func (m *Manager) serveServiceKey(r *http.Request) (keyReply, error) {
	p, ok := transport.PeerFrom(r.Context())
	if !ok || p.Role != pki.RoleSidecar {
		return keyReply{}, conf.Errorf(conf.CodeDenied, "only sidecars receive the key of a service")
	}
	rep := m.sup.Current()
	if rep == nil {
		return keyReply{}, m.sup.Down()
	}
	service, err := rep.Store().Queries.JoinedForService(r.Context(), p.NodeID)
	if err != nil {
		return keyReply{}, err
	}
	if service == "" {
		return keyReply{}, conf.Errorf(conf.CodeDenied, "%s was admitted for no service, as far as node %s knows", p.NodeID, m.o.Cluster.Self())
	}
	id := r.URL.Query().Get("id")
	key, err := m.Set().SecretKey(service, id)
	if err != nil {
		return keyReply{}, err
	}
	m.log.Info("sending a sidecar the key of its service again", "service", service, "key", id, "node", p.NodeID)
	m.o.Audit(conf.Access{
		UserID: "join:" + p.NodeID, Action: "write", Success: true, Timestamp: conf.FormatTime(m.o.Options.Clock()),
		Reason: "received the key of " + service + " under the master key " + id + " anew",
	})
	return keyReply{base64.StdEncoding.EncodeToString(key)}, nil
}

// serveKey returns a key to another server, and what is derived for its service to a
// sidecar.
func (m *Manager) serveKey(r *http.Request) (keyReply, error) {
	p, ok := transport.PeerFrom(r.Context())
	kind, id := r.URL.Query().Get("kind"), r.URL.Query().Get("id")
	if err := conf.CheckKeyKind(kind); err != nil {
		return keyReply{}, err
	}
	switch {
	case ok && p.Role == pki.RoleSidecar && kind == conf.KeyMaster:
		// What is derived for its service, under what it has already: a sidecar that
		// claims another service cannot open the reply.
		if row, ok := m.o.Cluster.Find(p.NodeID); ok && row.Service != "" {
			sealed, err := m.Set().WrapServiceKey(row.Service, r.URL.Query().Get("have"), id)
			return keyReply{sealed}, err
		}
		return keyReply{}, conf.Errorf(conf.CodeDenied, "%s is beside no service", p.NodeID)
	case !ok || p.Role != pki.RoleServer:
		return keyReply{}, conf.Errorf(conf.CodeDenied, "only servers receive keys")
	case !isServer(m.o.Cluster.MemberList, p):
		// Its row is older than its certificate. A server without a row asks again.
		return keyReply{}, conf.Errorf(conf.CodeDenied, "%s is not known as a server of this cluster", p.NodeID)
	}
	none := conf.Errorf(conf.CodeNotFound, "node %s does not have the %s key %.64q", m.o.Cluster.Self(), kind, id)
	if kind != conf.KeyCA {
		key, ok := m.Set().Material(kind, id)
		if !ok {
			return keyReply{}, none
		}
		m.log.Info("handing a key to another server", "kind", kind, "key", id, "node", p.NodeID)
		return keyReply{key.Value}, nil
	}
	ca := m.ca.next(id)
	if own := m.ca.port.Identity().CA; own != nil && own.Hash() == id {
		ca = own
	}
	if ca == nil {
		return keyReply{}, none
	}
	data, err := ca.PEM()
	if err != nil {
		return keyReply{}, err
	}
	m.log.Info("handing a key to another server", "kind", kind, "key", id, "node", p.NodeID)
	return keyReply{string(data)}, nil
}

// isServer reports whether the member list has a peer as a server.
func isServer(members *peers.MemberList, p pki.Peer) bool {
	row, ok := members.Find(p.NodeID)
	return ok && row.Role == string(p.Role)
}
