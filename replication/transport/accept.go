package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/pki"
)

// accept is the accept loop. It never waits for a connection that it has accepted.
func (t *Transport) accept() {
	const shortest, longest = 5 * time.Millisecond, time.Second
	var pause time.Duration
	for {
		raw, err := t.ln.Accept()
		if err == nil {
			pause = 0
			t.startHandshake(raw)
			continue
		}
		if t.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		// Mostly out of file descriptors: it passes when connections close.
		pause = min(max(2*pause, shortest), longest)
		t.log.Warn("cannot accept a connection to the cluster port", "err", err, "retry_in", pause)
		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
		case <-t.ctx.Done():
			wait.Stop()
			return
		}
	}
}

// startHandshake counts a new connection in, and serves it on its own goroutine.
func (t *Transport) startHandshake(raw net.Conn) {
	p, reason := t.limiter.acquire(raw)
	if reason != "" {
		_ = raw.Close()
		t.reject(Refused{Reason: reason, Source: raw.RemoteAddr().String()})
		return
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(keepAlive)
	}
	t.wg.Go(func() { t.serveConn(raw, p) })
}

// serveConn handles a connection from its first byte until it is dispatched.
func (t *Transport) serveConn(raw net.Conn, p *connSlot) {
	h := &handshake{t: t, trust: t.trust.Load()}
	end := time.Now().Add(t.opts.Limits.Handshake)
	c, err := h.run(raw, p, end)
	if err == nil {
		if err = h.dispatch(c, end); err == nil {
			t.stats.accept(h.proto)
			return
		}
		c.abort()
	}
	_ = raw.Close()
	reason := reasonOf(err)
	switch {
	case p.wasEvicted():
		reason = ReasonCrowded
	case t.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
		reason = ReasonShutdown
	}
	p.done()
	r := Refused{Reason: reason, Protocol: h.proto, Source: raw.RemoteAddr().String(), Peer: h.peer, Err: err}
	if reason == ReasonRefusedUs && h.proto == ProtoJoin {
		r.Token = TokenForeign // the joiner found another CA than its token names
	}
	t.reject(r)
}

// handshake is the state of one handshake, for the callbacks of crypto/tls. Only its own
// goroutine uses it.
type handshake struct {
	t     *Transport
	trust *trust
	proto string
	peer  pki.Peer
}

func (h *handshake) run(raw net.Conn, p *connSlot, end time.Time) (*Conn, error) {
	if err := raw.SetDeadline(end); err != nil {
		return nil, err
	}
	in := &limitedConn{Conn: raw, left: maxHandshake}
	cfg := baseConfig(h.t.opts.Now)
	cfg.GetConfigForClient = h.config
	tc := tls.Server(in, cfg)
	if err := tc.Handshake(); err != nil {
		return nil, err
	}
	if h.proto == "" || tc.ConnectionState().NegotiatedProtocol != h.proto {
		return nil, &rejection{ReasonProtocol, nil}
	}
	c := &Conn{Conn: tc, raw: raw, peer: h.peer, proto: h.proto, leaf: leafOf(tc.ConnectionState()), inbound: true, write: h.t.opts.Limits.Write}
	c.done = func() { h.t.conns.remove(c); p.done() }
	why := h.check(c, p)
	if _, err := tc.Write([]byte{byte(acceptCodeOf(reasonOrNone(why)))}); err != nil && why == nil {
		why = err
	}
	if why == nil {
		why = raw.SetDeadline(time.Time{})
		in.open.Store(true)
	} else {
		_ = tc.CloseWrite()
	}
	if why != nil {
		h.t.conns.remove(c)
		return nil, why
	}
	return c, nil
}

func reasonOrNone(err error) Reason {
	if err == nil {
		return ""
	}
	return reasonOf(err)
}

// config chooses the TLS requirements by the protocol that the client requests.
func (h *handshake) config(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	cfg := baseConfig(h.t.opts.Now)
	if !slices.Contains(hello.SupportedVersions, tls.VersionTLS13) {
		return cfg, nil // TLS rejects it, with the reason
	}
	// crypto/tls would continue without ALPN, and would choose one of several.
	if len(hello.SupportedProtos) != 1 {
		return nil, &rejection{ReasonProtocol, nil}
	}
	cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return h.trust.cert, nil }
	switch proto := hello.SupportedProtos[0]; proto {
	case ProtoRaft, ProtoRPC:
		h.proto = proto
		// verify does all checks: it reports a missing certificate, and accepts an endorsed CA.
		cfg.ClientAuth = tls.RequestClientCert
		cfg.ClientCAs = h.trust.pool
		cfg.VerifyConnection = h.verify
	case ProtoJoin:
		h.proto = proto
	default:
		cfg.NextProtos = []string{ProtoRPC} // TLS rejects it, with the reason
		return cfg, nil
	}
	cfg.NextProtos = []string{h.proto}
	return cfg, nil
}

// verify authenticates the client; TLS has verified that it has the certificate's key.
func (h *handshake) verify(cs tls.ConnectionState) error {
	leaf := leafOf(cs)
	if leaf == nil {
		return &rejection{ReasonNoCertificate, nil}
	}
	if leaf.IsCA { // a CA is no member
		return &rejection{ReasonUntrusted, nil}
	}
	err := h.trust.verifyShown(cs.PeerCertificates, x509.ExtKeyUsageClientAuth, h.t.opts.Now())
	if err != nil {
		return err
	}
	h.peer, err = h.trust.peer(leaf)
	return err
}

// check decides on an authenticated client, which learns the reason of a rejection.
func (h *handshake) check(c *Conn, p *connSlot) error {
	t := h.t
	switch {
	case h.proto == ProtoJoin:
		if t.opts.Joiner == nil {
			return &rejection{ReasonNotServing, nil}
		}
	case h.peer.NodeID == h.trust.id.NodeID:
		return &rejection{ReasonDuplicate, nil}
	case h.proto == ProtoRaft && h.peer.Role != pki.RoleServer:
		return &rejection{ReasonRole, nil}
	default:
		if err := t.allowed(h.peer); err != nil {
			return &rejection{ReasonRemoved, err}
		}
	}
	if h.proto == ProtoRaft {
		if c.layer = t.conns.openLayer(); c.layer == nil {
			return &rejection{ReasonNotServing, nil}
		}
	}
	if reason := p.finishHandshake(h.proto, h.peer); reason != "" {
		return &rejection{reason, nil}
	}
	if !t.conns.add(c) {
		return &rejection{ReasonNotServing, nil}
	}
	return allowedStill(t, c)
}

// dispatch passes the connection to the server of its protocol.
func (h *handshake) dispatch(c *Conn, end time.Time) error {
	q := h.t.rpc.queue
	switch c.proto {
	case ProtoRaft:
		q = c.layer.queue
	case ProtoJoin:
		q = h.t.join.queue
	}
	return q.put(c, end)
}

// queue is a net.Listener whose connections come from handshakes.
type queue struct {
	addr net.Addr
	ch   chan net.Conn
	done chan struct{}
	once sync.Once
}

func newQueue(addr net.Addr) *queue {
	return &queue{addr: addr, ch: make(chan net.Conn), done: make(chan struct{})}
}

// put waits until c is accepted, at most until end.
func (q *queue) put(c net.Conn, end time.Time) error {
	wait := time.NewTimer(time.Until(end))
	defer wait.Stop()
	select {
	case q.ch <- c:
		return nil
	case <-q.done:
	case <-wait.C:
	}
	return &rejection{ReasonNotServing, nil}
}

func (q *queue) Accept() (net.Conn, error) {
	select {
	case <-q.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-q.ch:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

func (q *queue) Addr() net.Addr { return q.addr }
