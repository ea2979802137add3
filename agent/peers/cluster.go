package peers

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// Replica is what the cluster asks of this agent's own replica. Calls overlap freely
// and answer from memory, also while no replica runs.
type Replica interface {
	Leader() string                // node id of the leader as Raft knows it, "" for none
	IsReadyLeader() bool           // this agent leads, and has applied all that was committed before
	Servers() []replication.Server // the Raft configuration, nil without a replica
	Err() error                    // why no replica runs, nil while one does
}

// Options set up a Cluster.
type Options struct {
	Identity    *pki.Identity
	Listener    net.Listener // the cluster port; the Cluster closes it
	Advertise   string       // where other members reach it, "" for the address of the listener
	ServiceName string       // the service beside this agent
	Joiner      transport.Joiner
	Conns       int              // accepted connections, 0 for the default of package transport
	OnFull      func()           // called for each connection over Conns; may be nil
	Now         func() time.Time // the wall clock; default time.Now
	Logger      *slog.Logger
}

// Cluster is the port through which members call each other, and what is known of
// them. It outlives the replicas.
type Cluster struct {
	*MemberList
	Port *transport.Transport

	service string
	log     *slog.Logger
	mux     *http.ServeMux
	replica Replica
	report  func() Report
	newKey  func(context.Context, pki.Peer) error // of HandleNewKeys
	doubts  doubts
	onFull  func() // of Options
	limiter logLimiter
	heard   heardAddrs
	Clocks  Clocks // of the other members

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when leadership may have changed
}

// Open binds the cluster port. It accepts nothing before Port.Start, which comes
// after Attach.
func Open(list *MemberList, o Options) (*Cluster, error) {
	c := &Cluster{MemberList: list, service: o.ServiceName, log: o.Logger, mux: http.NewServeMux(), changed: make(chan struct{})}
	c.doubts.cluster = c
	if c.Clocks.now = o.Now; o.Now == nil {
		c.Clocks.now = time.Now
	}
	list.SetSelf(o.Identity.NodeID)
	port, err := transport.Open(transport.Options{
		Identity: o.Identity, Listener: o.Listener, Advertise: o.Advertise, Logger: o.Logger, RPC: c.Clocks.answering(c.mux), Joiner: o.Joiner,
		Allowed: list.Allowed, Seen: c.doubts.saw, NewKey: func(ctx context.Context, p pki.Peer) error { return c.newKey(ctx, p) }, NodeAt: c.nodeAt, AddrOf: c.AddrOf, OnRefused: c.logRejected, Now: o.Now,
		Admit: newRoutes(c).admit, Limits: limitsOf(o.Conns),
	})
	if err != nil {
		return nil, err
	}
	c.Port, c.onFull = port, o.OnFull
	list.onRemoved = port.Recheck // connections that are open end too
	list.onUnknown = c.doubts.ask
	return c, nil
}

// limitsOf has handshakes take half of the connections: the other half is for members.
func limitsOf(conns int) transport.Limits {
	if conns == 0 {
		return transport.Limits{}
	}
	return transport.Limits{Conns: conns, Handshakes: min(64, max(1, conns/2)), HandshakesPerSource: min(32, max(1, conns/2))}
}

// Attach sets the replica and the source of this agent's own report, and registers
// the route of the report.
func (c *Cluster) Attach(r Replica, report func() Report) {
	c.replica, c.report = r, report
	c.HandleGet(routeAdmitted, c.doubts.serveAdmitted)
	c.HandleGet(routeStatus, func(*http.Request) (any, error) { return c.report(), nil })
}

// HandleNewKeys sets what admits another key for a member, before the port starts.
func (c *Cluster) HandleNewKeys(f func(context.Context, pki.Peer) error) { c.newKey = f }

// ChangeNodeID makes this agent a later incarnation of itself.
func (c *Cluster) ChangeNodeID(id *pki.Identity) error {
	if err := c.Port.ChangeNodeID(id); err != nil {
		return err
	}
	c.SetSelf(id.NodeID)
	return nil
}

func (c *Cluster) servers() []replication.Server {
	if c.replica == nil {
		return nil
	}
	return c.replica.Servers()
}

// Voters reports which nodes vote, by node id.
func (c *Cluster) Voters() map[string]bool {
	voter := map[string]bool{}
	for _, s := range c.servers() {
		voter[s.ID] = s.Voter
	}
	return voter
}

func (c *Cluster) nodeAt(addr string) (string, bool) {
	for _, s := range c.servers() {
		if s.Addr == addr {
			return s.ID, true
		}
	}
	return "", false
}

// loggedAddr is the address of a member in Raft's configuration, or else in its row.
func (c *Cluster) loggedAddr(node string) (string, bool) {
	for _, s := range c.servers() {
		if s.ID == node {
			return s.Addr, true
		}
	}
	m, ok := c.Find(node)
	return m.Addr, ok
}

// RegisteredHosts lists the hosts under which a member is known: in its row, and to Raft.
func (c *Cluster) RegisteredHosts(node string) (hosts []string) {
	var addrs []string
	for _, s := range c.servers() {
		if s.ID == node {
			addrs = append(addrs, s.Addr)
		}
	}
	if m, ok := c.Find(node); ok {
		addrs = append(addrs, m.Addr)
	}
	for _, addr := range addrs {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// LogRefused logs that what a member sent was refused, once a minute for each member.
func (c *Cluster) LogRefused(what, node string, err error) {
	if c.limiter.allow(what+" "+node, time.Now()) {
		c.log.Warn("refused: "+what, "node", node, "err", err, "hint", conf.HintOf(err))
	}
}

// logRejected logs a connection that the cluster port rejected.
func (c *Cluster) logRejected(r transport.Refused) {
	if r.Reason == transport.ReasonConns && c.onFull != nil {
		c.onFull()
	}
	level := slog.LevelWarn
	if r.Reason == transport.ReasonNotServing {
		level = slog.LevelDebug // a member calls while the replica here is being opened
	}
	caller := r.Peer.NodeID
	if caller == "" {
		caller, _, _ = net.SplitHostPort(r.Source)
	}
	if !c.limiter.allow(string(r.Reason)+" "+caller, time.Now()) {
		level = slog.LevelDebug // a removed agent that was not stopped calls again and again
	}
	c.log.Log(context.Background(), level, "cluster port: refused", "reason", r.Reason, "source", r.Source, "node", r.Peer.NodeID)
}

// Leader names the leader that this agent follows; ok is false when it knows of
// none, and when it leads itself.
func (c *Cluster) Leader() (node string, ok bool) {
	node = c.replica.Leader()
	return node, node != "" && node != c.Self()
}

// IsReadyLeader reports whether this agent accepts changes: it leads, and has applied
// all that was committed before.
func (c *Cluster) IsReadyLeader() bool { return c.replica.IsReadyLeader() }

// Leadership reports whether this agent is the ready leader, and returns a channel that
// is closed when that may have changed.
func (c *Cluster) Leadership() (bool, <-chan struct{}) {
	c.mu.Lock()
	changed := c.changed
	c.mu.Unlock()
	return c.IsReadyLeader(), changed
}

// NotifyLeadership wakes the waiters of Leadership.
func (c *Cluster) NotifyLeadership() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}

// AwaitLeader names the leader, this agent included. It waits for 800 ms at most, in
// which an election ends, and then returns no_quorum.
func (c *Cluster) AwaitLeader(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 800*time.Millisecond)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if c.IsReadyLeader() {
			return c.Self(), nil
		}
		if leader, ok := c.Leader(); ok {
			return leader, nil
		}
		if err := c.replica.Err(); err != nil {
			return "", err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", conf.Errorf(conf.CodeNoQuorum, "no leader is known to this agent").
				WithHint("reads go on; try again in a moment, or see: holdfast cluster status")
		}
	}
}

// untilLeaderChanges is ctx until leader will not answer any more: this agent follows
// another one, or none for a second. A leader that is cut off or stopped breaks no
// connection, and a caller must not wait for it.
func (c *Cluster) untilLeaderChanges(ctx context.Context, leader string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for none := 0; none < 10; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			now, _ := c.Leader()
			switch now {
			case leader:
				none = 0
			case "":
				none++
			default:
				none = 10
			}
		}
		cancel()
	}()
	return ctx, cancel
}
