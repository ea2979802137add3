package transport

import (
	"cmp"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/connlimit"
	"github.com/holdfast-config/holdfast/replication/pki"
)

// Limits bound the connections and requests of other agents. Zero fields take defaults.
type Limits struct {
	Conns               int           // accepted connections in all; default 1024
	ConnsPerSource      int           // of one IP address (of one /64 of IPv6); default 256
	ConnsPerPeer        int           // of one member, by protocol; default 64
	Handshakes          int           // in progress; default 64
	HandshakesPerSource int           // default 32
	Joins               int           // connections of joiners; default 32
	JoinsPerSource      int           // default 8
	Handshake           time.Duration // from accept to dispatch, and the same when dialing; default 5 s
	Write               time.Duration // time limit of one write; default 30 s
	Join                time.Duration // time limit of one join; default 30 s
	FailedJoins         int           // of one source at once, then one more each FailedJoinEvery; default 10
	FailedJoinEvery     time.Duration // default 6 s
	Body                int64         // bytes of a request over rpc; default 4 MiB
}

func (l Limits) withDefaults() Limits {
	setDefault(&l.Conns, 1024)
	setDefault(&l.ConnsPerSource, 256)
	setDefault(&l.ConnsPerPeer, 64)
	setDefault(&l.Handshakes, 64)
	setDefault(&l.HandshakesPerSource, 32)
	setDefault(&l.Joins, 32)
	setDefault(&l.JoinsPerSource, 8)
	setDefault(&l.Handshake, 5*time.Second)
	setDefault(&l.Write, 30*time.Second)
	setDefault(&l.Join, 30*time.Second)
	setDefault(&l.FailedJoins, 10)
	setDefault(&l.FailedJoinEvery, 6*time.Second)
	setDefault(&l.Body, 4<<20)
	return l
}

func setDefault[T cmp.Ordered](v *T, d T) {
	var zero T
	if *v <= zero {
		*v = d
	}
}

// handshakeGrace is the age below which a handshake is not evicted. That of a member takes
// a few milliseconds.
const handshakeGrace = 250 * time.Millisecond

// connLimiter counts connections against the limits.
type connLimiter struct {
	limits Limits

	conns *connlimit.Limiter
	joins *connlimit.Limiter

	mu      sync.Mutex
	closed  bool
	pending []*connSlot // handshakes, oldest first
	peers   map[peerProto]int
}

type peerProto struct{ node, proto string }

// connSlot is one connection.
type connSlot struct {
	limiter *connLimiter
	raw     net.Conn
	source  netip.Prefix
	since   time.Time

	// under limiter.mu
	pending bool
	evicted bool
	left    bool
	peer    peerProto
	join    bool
}

func newConnLimiter(l Limits) *connLimiter {
	return &connLimiter{
		limits: l, peers: map[peerProto]int{},
		conns: connlimit.New(connlimit.Limits{Max: l.Conns, PerSource: l.ConnsPerSource}),
		joins: connlimit.New(connlimit.Limits{Max: l.Joins, PerSource: l.JoinsPerSource}),
	}
}

// acquire counts a connection in, whose handshake follows, or returns the limit that is
// reached. When there are too many handshakes, it closes the oldest one that is older than
// handshakeGrace.
func (g *connLimiter) acquire(raw net.Conn) (*connSlot, Reason) {
	p := &connSlot{limiter: g, raw: raw, source: sourceOf(raw), since: time.Now(), pending: true}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, ReasonShutdown
	}
	if reason := countIn(g.conns, p.source); reason != "" {
		return nil, reason
	}
	same := 0
	for _, q := range g.pending {
		if q.source == p.source {
			same++
		}
	}
	crowded := false
	switch {
	case same >= g.limits.HandshakesPerSource:
		crowded = !g.evict(p.since, p.source)
	case len(g.pending) >= g.limits.Handshakes:
		crowded = !g.evict(p.since, netip.Prefix{})
	}
	if crowded {
		g.conns.Release(p.source)
		return nil, ReasonCrowded
	}
	g.pending = append(g.pending, p)
	return p, ""
}

// evict closes the oldest handshake of a source, or of all. Its slot is free at
// once; its own goroutine ends with the closed connection.
func (g *connLimiter) evict(now time.Time, source netip.Prefix) bool {
	for _, q := range g.pending {
		if now.Sub(q.since) < handshakeGrace {
			return false
		}
		if !source.IsValid() || q.source == source {
			q.evicted = true
			g.release(q)
			_ = q.raw.Close()
			return true
		}
	}
	return false
}

// finishHandshake ends the handshake of an accepted connection, or returns the limit that
// is reached.
func (p *connSlot) finishHandshake(proto string, peer pki.Peer) Reason {
	g := p.limiter
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case p.evicted:
		return ReasonCrowded
	case g.closed:
		return ReasonShutdown
	case proto == ProtoJoin:
		if reason := countIn(g.joins, p.source); reason != "" {
			return reason
		}
		p.join = true
	default:
		key := peerProto{peer.NodeID, proto}
		if g.peers[key] >= g.limits.ConnsPerPeer {
			return ReasonPeer
		}
		p.peer = key
		g.peers[key]++
	}
	g.removePending(p)
	return ""
}

// wasEvicted reports whether the connection was closed in favor of a newer one.
func (p *connSlot) wasEvicted() bool {
	p.limiter.mu.Lock()
	defer p.limiter.mu.Unlock()
	return p.evicted
}

// done counts the connection out.
func (p *connSlot) done() {
	p.limiter.mu.Lock()
	defer p.limiter.mu.Unlock()
	p.limiter.release(p)
}

func (g *connLimiter) release(p *connSlot) {
	if p.left {
		return
	}
	p.left = true
	g.removePending(p)
	g.conns.Release(p.source)
	if p.join {
		g.joins.Release(p.source)
	}
	if p.peer.proto != "" {
		if g.peers[p.peer]--; g.peers[p.peer] <= 0 {
			delete(g.peers, p.peer)
		}
	}
}

func (g *connLimiter) removePending(p *connSlot) {
	if !p.pending {
		return
	}
	p.pending = false
	for i, q := range g.pending {
		if q == p {
			g.pending = append(g.pending[:i], g.pending[i+1:]...)
			return
		}
	}
}

// close rejects all further connections, and ends the handshakes in progress.
func (g *connLimiter) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, p := range g.pending {
		_ = p.raw.Close()
	}
}

func (g *connLimiter) count() (handshaking, open int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.pending), g.conns.Open() - len(g.pending)
}

// countIn counts a connection in, or returns the limit that is reached.
func countIn(l *connlimit.Limiter, source netip.Prefix) Reason {
	switch l.Acquire(source) {
	case connlimit.Full:
		return ReasonConns
	case connlimit.Crowded:
		return ReasonSource
	default:
		return ""
	}
}

// sourceOf returns the address that a connection counts for.
func sourceOf(c net.Conn) netip.Prefix { return connlimit.Source(c.RemoteAddr().String()) }
