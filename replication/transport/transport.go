package transport

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
)

// The protocols on the port, as ALPN names them.
const (
	ProtoRaft = "holdfast-raft/1"
	ProtoRPC  = "holdfast-rpc/1"
	ProtoJoin = "holdfast-join/1"
)

// Options set a Transport up. Identity is required, and Listen or Listener.
type Options struct {
	Identity  *pki.Identity
	Listen    string       // address to listen on
	Listener  net.Listener // instead of Listen; Transport closes it
	Advertise string       // what other members dial, host:port; default the address of the listener
	Logger    *slog.Logger

	RPC     http.Handler  // calls of members; PeerFrom returns the caller. /renew is handled here
	Joiner  Joiner        // admits agents; nil on a sidecar
	CertTTL time.Duration // of certificates that /renew issues; default pki.DefaultTTL
	Limits  Limits

	Allowed func(pki.Peer) error                                              // an error for a certificate that is of no member; nil = all are
	Seen    func(p pki.Peer, addr string)                                     // who was found where AddrOf or NodeAt has it; nil = nobody wants to know
	NewKey  func(context.Context, pki.Peer) error                             // has the cluster accept another key for a member; nil = needs no consent
	NodeAt  func(addr string) (nodeID string, ok bool)                        // the node expected at a Raft address; nil = unknown
	AddrOf  func(nodeID string) (addr string, ok bool)                        // the address of a member; nil = unknown
	Admit   func(pki.Peer, *http.Request) error                               // an error for a call that is over a quota; nil = none are
	Dial    func(ctx context.Context, network, addr string) (net.Conn, error) // default net.Dialer, from the host of Advertise

	OnRefused  func(Refused)    // called for each rejection
	Now        func() time.Time // default time.Now
	CheckEvery time.Duration    // between two rechecks, default 30 s
}

func (o *Options) check() error {
	switch {
	case o.Identity == nil:
		return conf.Errorf(conf.CodeInternal, "the transport needs an identity")
	case o.Listener == nil && o.Listen == "":
		return conf.Errorf(conf.CodeInternal, "the transport needs an address to listen on")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.CheckEvery = cmp.Or(max(o.CheckEvery, 0), 30*time.Second)
	o.CertTTL = cmp.Or(max(o.CertTTL, 0), pki.DefaultTTL)
	o.Limits = o.Limits.withDefaults()
	return nil
}

// keepAlive detects an unreachable host within half a minute.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

// Transport is the cluster port of an agent, and its client for the ports of other members.
type Transport struct {
	opts    Options
	log     *slog.Logger
	ln      net.Listener
	addr    address
	trust   atomic.Pointer[trust]
	limiter *connLimiter
	stats   *counters

	rpc, join *httpSide
	client    *http.Transport // to other members; hosts of its URLs are node ids
	conns     connTable

	ctx    context.Context // ends with Stop
	cancel context.CancelFunc
	wg     sync.WaitGroup
	start  sync.Once
	stop   sync.Once
}

// Open binds the port. Nothing is accepted before Start.
func Open(o Options) (*Transport, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	tr, err := newTrust(o.Identity)
	if err != nil {
		return nil, err
	}
	ln := o.Listener
	if ln == nil {
		if ln, err = net.Listen("tcp", o.Listen); err != nil {
			return nil, conf.Errorf(conf.CodeUsage, "cannot listen for the cluster on %q: %w", o.Listen, err).
				WithHint("set CONFIG_CLUSTER_ADDR to an address that is free on this machine")
		}
	}
	t := &Transport{
		opts: o, log: o.Logger, ln: ln, addr: address(o.Advertise), limiter: newConnLimiter(o.Limits), stats: newCounters(),
	}
	if t.addr == "" {
		t.addr = reachable(ln.Addr())
	}
	if t.opts.Dial == nil {
		t.opts.Dial = dialFrom(string(t.addr))
	}
	t.trust.Store(tr)
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.rpc = t.newRPCSide()
	t.join = t.newJoinSide()
	t.client = t.newClient()
	return t, nil
}

// Start begins to accept connections. Only the first call has an effect, and none after Stop.
func (t *Transport) Start() {
	t.start.Do(func() {
		t.wg.Go(t.rpc.serve)
		t.wg.Go(t.join.serve)
		t.wg.Go(t.runRecheck)
		t.wg.Go(t.accept)
	})
}

// Addr returns the address that other members dial.
func (t *Transport) Addr() string { return string(t.addr) }

// Identity returns the current identity of this agent.
func (t *Transport) Identity() *pki.Identity { return t.trust.Load().id }

// SetIdentity makes the port and all new connections use id, a renewal of the
// current identity. Connections whose certificate its CAs do not verify are closed; the
// others stay.
func (t *Transport) SetIdentity(id *pki.Identity) error {
	was := t.Identity()
	if id.ClusterID != was.ClusterID || id.NodeID != was.NodeID {
		return conf.Errorf(conf.CodeInvalid, "an identity of node %s of cluster %s cannot replace that of node %s of cluster %s",
			id.NodeID, id.ClusterID, was.NodeID, was.ClusterID)
	}
	tr, err := t.useIdentity(id)
	if err != nil {
		return err
	}
	t.recheck(tr)
	return nil
}

// ChangeNodeID gives this agent another node id in the same cluster, which it needs after
// it lost its Raft log. All connections are closed: their other ends know it by the
// old node id.
func (t *Transport) ChangeNodeID(id *pki.Identity) error {
	was := t.Identity()
	if id.ClusterID != was.ClusterID || id.Role != was.Role {
		return conf.Errorf(conf.CodeInvalid, "an identity of a %s of cluster %s cannot replace that of a %s of cluster %s",
			id.Role, id.ClusterID, was.Role, was.ClusterID)
	}
	if _, err := t.useIdentity(id); err != nil {
		return err
	}
	for _, c := range t.conns.list(isMember) {
		c.abort()
	}
	return nil
}

func (t *Transport) useIdentity(id *pki.Identity) (*trust, error) {
	tr, err := newTrust(id)
	if err != nil {
		return nil, err
	}
	t.trust.Store(tr)
	t.CloseIdle()
	return tr, nil
}

// CloseIdle closes the idle connections that this agent has dialed, so that the next
// ones use the current certificates.
func (t *Transport) CloseIdle() { t.client.CloseIdleConnections() }

// Recheck closes connections whose member is no longer allowed, or whose
// certificate has ended. Call it when the membership changes.
func (t *Transport) Recheck() { t.recheck(nil) }

func (t *Transport) runRecheck() {
	tick := time.NewTicker(t.opts.CheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			t.Recheck()
		case <-t.ctx.Done():
			return
		}
	}
}

// recheck checks all connections again; with tr, if it is not nil, their certificates
// too.
func (t *Transport) recheck(tr *trust) {
	now := t.opts.Now()
	for _, c := range t.conns.list(isMember) {
		usage := x509.ExtKeyUsageServerAuth
		if c.inbound {
			usage = x509.ExtKeyUsageClientAuth
		}
		reason, err := Reason(""), t.allowed(c.peer)
		switch {
		case now.After(c.peer.NotAfter):
			reason, err = ReasonExpired, nil
		case err != nil:
			reason = ReasonRemoved
		case tr != nil && tr.verify(c.leaf, usage, now) != nil:
			reason = ReasonUntrusted
		default:
			continue
		}
		c.abort()
		t.reject(Refused{Reason: reason, Protocol: c.proto, Source: c.RemoteAddr().String(), Peer: c.peer, Err: err})
	}
}

func (t *Transport) allowed(p pki.Peer) error {
	if t.opts.Allowed == nil {
		return nil
	}
	return t.opts.Allowed(p)
}

// allowedStill checks a connection that was just registered again: a Recheck that ran since
// its first check did not find it.
func allowedStill(t *Transport, c *Conn) error {
	if !isMember(c) {
		return nil
	}
	if err := t.allowed(c.peer); err != nil {
		return &rejection{ReasonRemoved, err}
	}
	return nil
}

// Stats returns the counters of the port.
func (t *Transport) Stats() Stats {
	var s Stats
	s.Handshaking, s.Open = t.limiter.count()
	s.Accepted, s.Refused = t.stats.copy()
	return s
}

func (t *Transport) reject(r Refused) {
	t.stats.reject(r.Reason)
	t.log.Debug("rejected a connection to the cluster port", "reason", r.Reason, "protocol", r.Protocol, "addr", r.Source,
		"node", r.Peer.NodeID, "err", r.Err)
	if t.opts.OnRefused != nil {
		t.opts.OnRefused(r)
	}
}

// Stop closes the port: nothing new is accepted, requests in progress are
// waited for until ctx ends, then everything is closed. Only the first call has an effect.
func (t *Transport) Stop(ctx context.Context) error {
	var err error
	t.stop.Do(func() { err = t.shutdown(ctx) })
	return err
}

// drainGrace is how long the requests in progress may take at a stop. A client that has
// sent half of one never ends it.
const drainGrace = time.Second

func (t *Transport) shutdown(ctx context.Context) error {
	t.start.Do(func() {}) // Start after Stop does nothing
	layer := t.conns.stop()
	err := t.ln.Close()
	t.limiter.close()
	if layer != nil {
		_ = layer.Close()
	}
	draining, done := context.WithTimeout(ctx, drainGrace)
	var sides sync.WaitGroup
	var rpcErr, joinErr error
	sides.Go(func() { rpcErr = t.rpc.drain(draining) })
	sides.Go(func() { joinErr = t.join.drain(draining) })
	sides.Wait()
	done()
	err = errors.Join(err, rpcErr, joinErr)
	t.cancel()
	for _, c := range t.conns.list(func(*Conn) bool { return true }) {
		c.abort()
	}
	t.rpc.close()
	t.join.close()
	t.CloseIdle()
	t.wg.Wait()
	if err != nil {
		return conf.Errorf(conf.CodeInternal, "closing the cluster port: %w", err)
	}
	return nil
}

type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

// reachable returns an address to dial: the loopback one if a listens on all interfaces.
func reachable(a net.Addr) address {
	if tcp, ok := a.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		a = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: tcp.Port}
	}
	return address(a.String())
}
