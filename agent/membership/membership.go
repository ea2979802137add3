package membership

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// Options set up a Manager.
type Options struct {
	Options *options.Options
	Members *peers.MemberList
	Keys    func() keys.Set       // what a joining agent is given
	Audit   func(row conf.Access) // writes a row of the access log
	Logger  *slog.Logger
}

// Manager changes who is a member, and keeps this agent one.
type Manager struct {
	o   *options.Options
	log *slog.Logger

	members *peers.MemberList
	keys    func() keys.Set
	audit   func(conf.Access)
	hellos  *peers.Quota
	cluster *peers.Cluster
	sup     *replica.Supervisor

	admitting chan struct{} // of one slot: joins are one after the other

	status   *replica.Status
	pending  func() bool // a recovery is not finished
	rejected atomic.Bool // the other members reject this agent
}

// New makes a Manager that can give this agent its identity. Attach comes before
// everything else.
func New(o Options) *Manager {
	return &Manager{
		o: o.Options, log: o.Logger, members: o.Members, keys: o.Keys, audit: o.Audit, admitting: make(chan struct{}, 1),
		hellos: peers.NewQuota("changes of its own row", 0.5, 10),
	}
}

// Attach gives the Manager the cluster and the replicas, and registers its routes.
// pending reports whether a recovery is not finished: who the members are is not what
// the log says then.
func (m *Manager) Attach(c *peers.Cluster, s *replica.Supervisor, status *replica.Status, pending func() bool) {
	m.cluster, m.sup, m.status, m.pending = c, s, status, pending
	m.registerRoutes()
}

// The routes that members call.
const (
	routeHello  = "/hello"
	routeLeave  = "/leave"
	routeRejoin = "/rejoin"
	routeRetire = "/retire"
	routeJoin   = "/join"
)

func (m *Manager) registerRoutes() {
	peers.HandlePost(m.cluster, routeHello, func(ctx context.Context, p pki.Peer, row command.Member) (any, error) {
		row.NodeID, row.Role = p.NodeID, string(p.Role) // of the certificate, not of the caller
		r, err := m.sup.LeaderReplica()
		if err != nil {
			return helloElsewhere(ctx, m, row)
		}
		return m.hello(ctx, r, row)
	})
	leaderOnly(m, routeLeave, func(ctx context.Context, r *replica.Replica, p pki.Peer, _ struct{}) (any, error) {
		return struct{}{}, m.remove(ctx, r, "leave:"+p.NodeID, p.NodeID)
	})
	leaderOnly(m, routeRejoin, func(ctx context.Context, r *replica.Replica, p pki.Peer, req rejoinRequest) (any, error) {
		return m.admitIncarnation(ctx, r, p, req)
	})
	leaderOnly(m, routeRetire, func(ctx context.Context, r *replica.Replica, p pki.Peer, req removePredecessorRequest) (any, error) {
		return struct{}{}, m.removePredecessor(ctx, r, p.NodeID, req.NodeID)
	})
	leaderOnly(m, routeJoin, func(ctx context.Context, _ *replica.Replica, p pki.Peer, req transport.JoinRequest) (any, error) {
		if p.Role != pki.RoleServer {
			return nil, conf.Errorf(conf.CodeDenied, "only servers pass joins on")
		}
		if err := req.Check(); err != nil {
			return nil, err
		}
		return m.admit(ctx, req)
	})
}

// leaderOnly registers a route that only the ready leader serves.
func leaderOnly[In any](m *Manager, path string, f func(context.Context, *replica.Replica, pki.Peer, In) (any, error)) {
	peers.HandlePost(m.cluster, path, func(ctx context.Context, p pki.Peer, in In) (any, error) {
		r, err := m.sup.LeaderReplica()
		if err != nil {
			return nil, err
		}
		return f(ctx, r, p, in)
	})
}
