package agent

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/replication"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// cluster is this agent's place among the others: its identity, the cluster
// port, and who the members are. It outlives the sessions of the replica.
type cluster struct {
	o    Options
	log  *slog.Logger
	s    *supervisor
	port *transport.Transport
	mux  *http.ServeMux

	joining func() (done func() error) // called by join
	knows   atomic.Uint64              // what this build can apply
	builds  builds

	refusals sparse

	mu      sync.Mutex
	known   clusterFile
	unknown bool            // cluster.json was lost: whether there are other members is not known
	turned  chan struct{}   // closed and replaced when leadership may have changed
	gone    map[string]bool // members that were removed: their certificates open nothing
}

// clusterFile is cluster.json: what an agent has to know of its cluster before
// its replica is up, such as whom to ask for the leader.
type clusterFile struct {
	ClusterID string        `json:"cluster_id"`
	Joined    bool          `json:"joined"` // it came in by a token, and never starts a cluster of its own
	Members   []conf.Member `json:"members"`
	LogOf     string        `json:"log_of,omitempty"` // the node id under which a log was begun: an empty one is damage
}

func (o *Options) tlsDir() string      { return filepath.Join(o.DataDir, "tls") }
func (o *Options) clusterFile() string { return filepath.Join(o.DataDir, "cluster.json") }

// openCluster loads or makes this agent's identity, joins when it is told to,
// and binds the cluster port. Nothing is accepted before start. joining is called
// before it joins, and what it returns afterwards.
func openCluster(ctx context.Context, o Options, log *slog.Logger, joining func() (done func() error)) (*cluster, error) {
	c := &cluster{o: o, log: log, joining: joining, mux: http.NewServeMux(), gone: map[string]bool{}, turned: make(chan struct{})}
	c.knows.Store(command.Known())
	if err := c.readFile(); err != nil {
		return nil, err
	}
	id, err := c.identity(ctx)
	if err != nil {
		return nil, err
	}
	c.port, err = transport.Open(transport.Options{
		Identity: id, Listen: o.ClusterAddr, Advertise: o.advertise(), Logger: log, RPC: c.mux, Joiner: c.joiner(id),
		Allowed: c.allowed, NodeAt: c.nodeAt, AddrOf: c.addrOf, OnRefused: c.refused,
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// identity is who this agent is: as it was, by a join, or the first of a new cluster.
func (c *cluster) identity(ctx context.Context) (*transport.Identity, error) {
	id, err := transport.LoadIdentity(c.o.tlsDir())
	switch {
	case err == nil:
		if c.known.ClusterID == "" {
			c.known.ClusterID, c.unknown = id.ClusterID, true
		}
		// The certificate is the truth: it was kept last when this agent was
		// admitted anew under another id.
		if succeeds(c.o.NodeID, id.NodeID) {
			c.o.NodeID = id.NodeID
		}
		if id.Role == transport.RoleServer && id.Expired(time.Now()) && id.CA != nil {
			if id, err = id.Reissue(transport.DefaultTTL, time.Now()); err != nil {
				return nil, err
			}
			if err := id.Save(c.o.tlsDir()); err != nil {
				return nil, err
			}
		}
		return id, id.Expect(c.known.ClusterID, c.o.NodeID)
	case conf.CodeOf(err) != conf.CodeNotFound:
		return nil, err
	case c.known.LogOf != "" && !c.alone():
		return nil, conf.Errorf(conf.CodeCorrupt, "the identity of this agent in %s is gone, and its cluster has other members", c.o.tlsDir()).
			WithHint("put the directory back; or join anew: an empty data directory, --join and a new token, and holdfast cluster remove %s on a member", c.o.NodeID)
	case c.o.Join != "":
		return c.join(ctx)
	}
	clusterID := uuid.NewString()
	if id, err = transport.Bootstrap(clusterID, c.o.NodeID, transport.DefaultTTL, time.Now()); err != nil {
		return nil, err
	}
	// The file first: an identity without it stands for a member that lost it.
	c.known = clusterFile{ClusterID: clusterID}
	if err := c.writeFile(); err != nil {
		return nil, err
	}
	return id, id.Save(c.o.tlsDir())
}

func (c *cluster) readFile() error {
	data, err := os.ReadFile(c.o.clusterFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := conf.DecodeStrict(data, conf.MaxDocument, &c.known); err != nil {
		c.log.Warn("cluster.json is not readable: it is written anew", "err", err)
		c.known = clusterFile{}
	}
	c.gone = removed(c.known.Members) // the port opens long before the replica can tell
	return nil
}

func removed(members []conf.Member) map[string]bool {
	gone := map[string]bool{}
	for _, m := range members {
		if m.RemovedAt != "" {
			gone[m.NodeID] = true
		}
	}
	return gone
}

// writeFile keeps cluster.json. The caller holds mu, or is alone.
func (c *cluster) writeFile() error { return lkg.WriteJSON(c.o.clusterFile(), c.known, 0o600) }

// learn takes the members over from a replica that is up. Who was removed stays so
// when the replica does not know of it: a store that was rebuilt has no members, and
// the certificates that were given out are good all the same.
func (c *cluster) learn(members []conf.Member) {
	c.mu.Lock()
	out := slices.Clone(members)
	for _, was := range c.known.Members {
		if was.RemovedAt != "" && !slices.ContainsFunc(members, func(m conf.Member) bool { return m.NodeID == was.NodeID }) {
			out = append(out, was)
		}
	}
	slices.SortFunc(out, func(a, b conf.Member) int { return strings.Compare(a.NodeID, b.NodeID) })
	gone := removed(out)
	shut := false
	for node := range gone {
		shut = shut || !c.gone[node]
	}
	c.gone = gone
	c.builds.keep(out)
	if !slices.Equal(out, c.known.Members) || c.unknown {
		c.known.Members, c.unknown = out, false
		if err := c.writeFile(); err != nil {
			c.log.Warn("cluster.json was not written", "err", err)
		}
	}
	c.mu.Unlock()
	if shut && c.port != nil {
		c.port.Recheck() // connections that are open end too
	}
}

// alone says whether this agent is the whole cluster, as far as it knows: only
// then may it start a log from its database alone.
func (c *cluster) alone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known.Joined || c.unknown {
		return false
	}
	for _, m := range c.known.Members {
		if m.NodeID != c.self() && m.RemovedAt == "" {
			return false
		}
	}
	return true
}

// self is the id of this agent. It changes when the agent had to be admitted anew.
func (c *cluster) self() string {
	if c.port == nil {
		return c.o.NodeID
	}
	return c.port.Identity().NodeID
}

// begun says whether this node ever had entries in its log.
func (c *cluster) begun() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known.LogOf == c.self()
}

// begin notes that this node has a log from now on (or, with "", has none).
func (c *cluster) begin(node string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known.LogOf == node {
		return nil
	}
	was := c.known.LogOf
	c.known.LogOf = node
	if err := c.writeFile(); err != nil {
		c.known.LogOf = was
		return err
	}
	return nil
}

// joined says whether this agent came in by a token: its keys are the cluster's.
func (c *cluster) joined() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known.Joined
}

// members lists who is in the cluster, from the Raft configuration of a running
// session, or else as this agent knew them last.
func (c *cluster) members() []conf.Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]conf.Member, 0, len(c.known.Members))
	for _, m := range c.known.Members {
		if m.RemovedAt == "" {
			out = append(out, m)
		}
	}
	return out
}

func (c *cluster) allowed(p transport.Peer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone[p.NodeID] {
		return conf.Errorf(conf.CodeDenied, "node %s was removed from the cluster", p.NodeID).
			WithHint("to come back, join with an empty data directory and a new token")
	}
	return nil
}

// servers is the Raft configuration, nil without a session.
func (c *cluster) servers() []replication.Server {
	ss := c.s.cur.Load()
	if ss == nil {
		return nil
	}
	list, _, err := ss.member.Servers()
	if err != nil {
		return nil
	}
	return list
}

func (c *cluster) nodeAt(addr string) (string, bool) {
	for _, s := range c.servers() {
		if s.Addr == addr {
			return s.ID, true
		}
	}
	return "", false
}

func (c *cluster) addrOf(node string) (string, bool) {
	for _, s := range c.servers() {
		if s.ID == node {
			return s.Addr, true
		}
	}
	for _, m := range c.members() {
		if m.NodeID == node {
			return m.Addr, true
		}
	}
	return "", false
}

// refused is told of connections that the cluster port turned away.
func (c *cluster) refused(r transport.Refused) {
	level := slog.LevelWarn
	if r.Reason == transport.ReasonNotServing {
		level = slog.LevelDebug // a member asks while the replica here is being opened
	}
	who := r.Peer.NodeID
	if who == "" {
		who, _, _ = net.SplitHostPort(r.Source)
	}
	if !c.refusals.due(string(r.Reason)+" "+who, time.Now()) {
		level = slog.LevelDebug // a removed agent that was not stopped asks again and again
	}
	c.log.Log(context.Background(), level, "cluster port: refused", "reason", r.Reason, "source", r.Source, "node", r.Peer.NodeID)
}

// leader names the leader that this agent follows; ok is false when it knows of
// none, and also when it leads itself.
func (c *cluster) leader() (node string, ok bool) {
	ss := c.s.cur.Load()
	if ss == nil {
		return "", false
	}
	node, _ = ss.member.Leader()
	return node, node != "" && node != c.self()
}

// leading says whether this agent takes changes: it leads, and has applied all
// that was committed before.
func (c *cluster) leading() bool {
	ss := c.s.cur.Load()
	return ss != nil && ss.leads()
}

// advertise is the address at which the others reach this agent.
func (o *Options) advertise() string {
	if o.AdvertiseAddr != "" {
		return o.AdvertiseAddr
	}
	host, port, _ := net.SplitHostPort(o.ClusterAddr)
	if port == "0" {
		return "" // the listener knows
	}
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return o.ClusterAddr
	}
	return net.JoinHostPort(hostIP(), port)
}

// hostIP is an address of this host that others may reach, the loopback one when
// it has no other.
func hostIP() string {
	addrs, err := net.InterfaceAddrs()
	if err == nil {
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
				return n.IP.String()
			}
		}
	}
	return "127.0.0.1"
}

// renew replaces this agent's certificate in the last third of its life. A server
// has the CA's key; a sidecar asks the leader.
func (c *cluster) renew(ctx context.Context) {
	id := c.port.Identity()
	if !id.NeedsRenewal(time.Now()) {
		return
	}
	var (
		next *transport.Identity
		err  error
	)
	if id.CA != nil {
		next, err = id.Reissue(transport.DefaultTTL, time.Now())
	} else if leader, ok := c.leader(); ok {
		next, err = c.port.Renew(ctx, leader)
	} else {
		return
	}
	if err == nil {
		err = next.Save(c.o.tlsDir())
	}
	if err == nil {
		err = c.port.SetIdentity(next)
	}
	if err != nil {
		c.log.Warn("this agent's certificate was not renewed: it is tried again", "expires", id.Cert.NotAfter, "err", err)
		return
	}
	c.log.Info("this agent's certificate was renewed", "expires", next.Cert.NotAfter)
}
