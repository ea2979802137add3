package replication

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/raftguard"
)

// transport is raft's own over TCP on a free port.
func transport(tb testing.TB) *raft.NetworkTransport {
	tb.Helper()
	return transportOn(tb, "127.0.0.1:0")
}

func transportOn(tb testing.TB, addr string) *raft.NetworkTransport {
	tb.Helper()
	t, err := openTransport(addr)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

func openTransport(addr string) (*raft.NetworkTransport, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	layer := &tcpLayer{Listener: l, conns: map[net.Conn]bool{}}
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: layer, MaxPool: 3, Timeout: 10 * time.Second, Logger: raftguard.NewLogger(discard),
	}), nil
}

// tcpLayer is plain TCP. It closes all its connections with itself, which raft's
// transport does not do and whose goroutines would stay.
type tcpLayer struct {
	net.Listener

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

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
