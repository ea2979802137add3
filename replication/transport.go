package replication

import (
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// slowHeartbeats is a transport without the fast path for heartbeats. On the
// fast path a heartbeat changes the term on the transport's goroutine while the
// leader's loop waits in its select; the next entry is then stored under a term
// that this node never led. Without it heartbeats queue with all other requests.
type slowHeartbeats struct{ raft.Transport }

// SetHeartbeatHandler does nothing, on purpose.
func (slowHeartbeats) SetHeartbeatHandler(func(raft.RPC)) {}

// RequestPreVote keeps pre-votes working, which raft asks for by a type assertion.
func (t slowHeartbeats) RequestPreVote(id raft.ServerID, target raft.ServerAddress,
	req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse,
) error {
	return t.Transport.(raft.WithPreVote).RequestPreVote(id, target, req, resp)
}

// Close closes the transport beneath, when it can be closed.
func (t slowHeartbeats) Close() error {
	if c, ok := t.Transport.(raft.WithClose); ok {
		return c.Close()
	}
	return nil
}

// guardTransport takes away the fast path.
func guardTransport(t raft.Transport) (slowHeartbeats, error) {
	if _, ok := t.(raft.WithPreVote); !ok {
		return slowHeartbeats{}, conf.Errorf(conf.CodeInternal, "the transport cannot send pre-votes")
	}
	return slowHeartbeats{t}, nil
}

func newTCPTransport(o *Options) (raft.Transport, error) {
	l, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "cannot listen for the cluster on %q: %w", o.Addr, err).
			WithHint("set CONFIG_CLUSTER_ADDR to an address that is free on this machine")
	}
	layer := &tcpLayer{Listener: l, addr: address(o.Advertise), conns: map[net.Conn]bool{}}
	if layer.addr == "" {
		layer.addr = reachable(l.Addr().(*net.TCPAddr))
	}
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: layer, MaxPool: 3, Timeout: 10 * time.Second, Logger: newHCLog(o.Logger),
	}), nil
}

// reachable is the address that stands for a: the loopback one when a listens on all.
func reachable(a *net.TCPAddr) address {
	if a.IP.IsUnspecified() {
		a = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: a.Port}
	}
	return address(a.String())
}

type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

// tcpLayer is plain TCP. It closes all its connections with itself, which raft's
// transport does not do and whose goroutines would stay.
type tcpLayer struct {
	net.Listener
	addr address

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

func (l *tcpLayer) Addr() net.Addr { return l.addr }

func (l *tcpLayer) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.track(c)
}

func (l *tcpLayer) Dial(target raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", string(target), timeout)
	if err != nil {
		return nil, err
	}
	return l.track(c)
}

func (l *tcpLayer) track(c net.Conn) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		c.Close()
		return nil, net.ErrClosed
	}
	t := &tracked{Conn: c, layer: l}
	l.conns[t] = true
	return t, nil
}

func (l *tcpLayer) Close() error {
	l.mu.Lock()
	l.closed = true
	conns := l.conns
	l.conns = map[net.Conn]bool{}
	l.mu.Unlock()
	err := l.Listener.Close()
	for c := range conns {
		_ = c.(*tracked).Conn.Close()
	}
	return err
}

type tracked struct {
	net.Conn
	layer *tcpLayer
}

func (t *tracked) Close() error {
	t.layer.mu.Lock()
	delete(t.layer.conns, t)
	t.layer.mu.Unlock()
	return t.Conn.Close()
}
