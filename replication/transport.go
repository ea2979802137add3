package replication

import (
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/raftguard"
)

// StreamLayer is a listener for verified connections of other members, and a dialer.
// Close closes all its connections.
type StreamLayer interface {
	net.Listener
	Dial(addr string, timeout time.Duration) (net.Conn, error)
}

// NewTransport returns raft's network transport over layer.
func NewTransport(layer StreamLayer, log *slog.Logger) raft.Transport {
	l := &loopbackLayer{StreamLayer: layer, loopback: make(chan net.Conn), done: make(chan struct{})}
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: l, MaxPool: 3, Timeout: 10 * time.Second, Logger: raftguard.NewLogger(log),
	})
}

// loopbackLayer is a raft.StreamLayer over a StreamLayer. A member that calls itself,
// as a single voter does to be elected at once, gets a pipe: the port accepts no peer
// with this member's own node id.
type loopbackLayer struct {
	StreamLayer
	loopback chan net.Conn
	done     chan struct{}

	start, stop sync.Once
	in          chan accepted
	mu          sync.Mutex
	pipes       []net.Conn
}

type accepted struct {
	conn net.Conn
	err  error
}

// Accept is called by one goroutine of raft's transport.
func (l *loopbackLayer) Accept() (net.Conn, error) {
	l.start.Do(func() {
		l.in = make(chan accepted)
		go func() {
			for {
				c, err := l.StreamLayer.Accept()
				select {
				case l.in <- accepted{c, err}:
				case <-l.done:
					if c != nil {
						_ = c.Close()
					}
					return
				}
			}
		}()
	})
	select {
	case a := <-l.in:
		return a.conn, a.err
	case c := <-l.loopback:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Dial implements raft.StreamLayer.
func (l *loopbackLayer) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if string(addr) != l.Addr().String() {
		return l.StreamLayer.Dial(string(addr), timeout)
	}
	near, far := net.Pipe()
	select {
	case l.loopback <- far:
		l.mu.Lock()
		l.pipes = append(l.pipes, near, far)
		l.mu.Unlock()
		return near, nil
	case <-time.After(timeout):
	case <-l.done:
	}
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (l *loopbackLayer) Close() error {
	l.stop.Do(func() { close(l.done) })
	err := l.StreamLayer.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.pipes {
		_ = p.Close()
	}
	return err
}
