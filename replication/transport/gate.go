package transport

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/connlimit"
	"github.com/holdfast-config/holdfast/replication/pki"
)

// Limits bound what others can make this agent hold. Zero fields take defaults.
type Limits struct {
	Conns               int           // connections that others have opened, in all; default 1024
	ConnsPerSource      int           // of one IP address (of one /64 of IPv6); default 256
	ConnsPerPeer        int           // of one member, by protocol; default 64
	Handshakes          int           // in flight; default 64
	HandshakesPerSource int           // default 32
	Joins               int           // connections of joiners; default 32
	JoinsPerSource      int           // default 8
	Handshake           time.Duration // from accept to hand-over, and the same when dialing; default 5 s
	Write               time.Duration // that the other side may leave one write unread; default 30 s
	Join                time.Duration // the whole of one join; default 30 s
	FailedJoins         int           // of one source in a burst, then one more each FailedJoinEvery; default 10
	FailedJoinEvery     time.Duration // default 6 s
	Body                int64         // bytes of a request over rpc; default 4 MiB
}

func (l Limits) withDefaults() Limits {
	number := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	span := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	number(&l.Conns, 1024)
	number(&l.ConnsPerSource, 256)
	number(&l.ConnsPerPeer, 64)
	number(&l.Handshakes, 64)
	number(&l.HandshakesPerSource, 32)
	number(&l.Joins, 32)
	number(&l.JoinsPerSource, 8)
	number(&l.FailedJoins, 10)
	span(&l.Handshake, 5*time.Second)
	span(&l.Write, 30*time.Second)
	span(&l.Join, 30*time.Second)
	span(&l.FailedJoinEvery, 6*time.Second)
	if l.Body <= 0 {
		l.Body = 4 << 20
	}
	return l
}

// grace is how long a handshake is left in peace when others wait: a member's
// takes a few milliseconds.
const grace = 250 * time.Millisecond

// gate counts connections against the limits. A pass is one connection.
type gate struct {
	limits Limits

	conns *connlimit.Limiter
	joins *connlimit.Limiter

	mu      sync.Mutex
	closed  bool
	pending []*pass // handshakes, oldest first
	peers   map[peerProto]int
}

type peerProto struct{ node, proto string }

type pass struct {
	gate   *gate
	raw    net.Conn
	source netip.Prefix
	since  time.Time

	// under gate.mu
	pending bool
	evicted bool
	left    bool
	peer    peerProto
	join    bool
}

func newGate(l Limits) *gate {
	return &gate{
		limits: l, peers: map[peerProto]int{},
		conns: connlimit.New(connlimit.Limits{Max: l.Conns, PerSource: l.ConnsPerSource}),
		joins: connlimit.New(connlimit.Limits{Max: l.Joins, PerSource: l.JoinsPerSource}),
	}
}

// enter lets a connection begin its handshake, or says why not. When handshakes
// are crowded the oldest that is past its grace gives way: it is closed.
func (g *gate) enter(raw net.Conn) (*pass, Reason) {
	p := &pass{gate: g, raw: raw, source: sourceOf(raw), since: time.Now(), pending: true}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, ReasonShutdown
	}
	if reason := acquire(g.conns, p.source); reason != "" {
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
func (g *gate) evict(now time.Time, source netip.Prefix) bool {
	for _, q := range g.pending {
		if now.Sub(q.since) < grace {
			return false
		}
		if !source.IsValid() || q.source == source {
			q.evicted = true
			g.leave(q)
			_ = q.raw.Close()
			return true
		}
	}
	return false
}

// settle ends the handshake of a connection that is accepted, or says why it
// cannot be.
func (p *pass) settle(proto string, peer pki.Peer) Reason {
	g := p.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case p.evicted:
		return ReasonCrowded
	case g.closed:
		return ReasonShutdown
	case proto == ProtoJoin:
		if reason := acquire(g.joins, p.source); reason != "" {
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
	g.unpend(p)
	return ""
}

// wasEvicted says whether the connection was closed to make room.
func (p *pass) wasEvicted() bool {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	return p.evicted
}

// done gives everything back that the connection counted for.
func (p *pass) done() {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	p.gate.leave(p)
}

func (g *gate) leave(p *pass) {
	if p.left {
		return
	}
	p.left = true
	g.unpend(p)
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

func (g *gate) unpend(p *pass) {
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

// close refuses all that comes, and ends the handshakes in flight.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, p := range g.pending {
		_ = p.raw.Close()
	}
}

func (g *gate) count() (handshaking, open int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.pending), g.conns.Open() - len(g.pending)
}

// acquire counts a connection in, or says which limit is reached.
func acquire(l *connlimit.Limiter, source netip.Prefix) Reason {
	switch l.Acquire(source) {
	case connlimit.Full:
		return ReasonConns
	case connlimit.Crowded:
		return ReasonSource
	default:
		return ""
	}
}

// sourceOf is the address that a connection counts for.
func sourceOf(c net.Conn) netip.Prefix { return connlimit.Source(c.RemoteAddr().String()) }
