package replication

import (
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// StreamLayer is a listener of connections that are verified already, and a way
// to dial other members. Closing it closes all of them.
type StreamLayer interface {
	net.Listener
	Dial(addr string, timeout time.Duration) (net.Conn, error)
}

// NewTransport is Raft's network transport over layer.
func NewTransport(layer StreamLayer, log *slog.Logger) raft.Transport {
	l := &streamLayer{StreamLayer: layer, own: make(chan net.Conn), done: make(chan struct{})}
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: l, MaxPool: 3, Timeout: 10 * time.Second, Logger: newHCLog(log),
	})
}

// streamLayer is a StreamLayer as Raft wants it. A member that calls itself (a
// lone voter does, to be elected at once) gets a pipe inside the process: the
// port lets nobody in under this member's own name.
type streamLayer struct {
	StreamLayer
	own  chan net.Conn
	done chan struct{}

	start, stop sync.Once
	in          chan accepted
	mu          sync.Mutex
	pipes       []net.Conn
}

type accepted struct {
	conn net.Conn
	err  error
}

// Accept is called by one goroutine of Raft's transport.
func (l *streamLayer) Accept() (net.Conn, error) {
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
	case c := <-l.own:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *streamLayer) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if string(addr) != l.Addr().String() {
		return l.StreamLayer.Dial(string(addr), timeout)
	}
	near, far := net.Pipe()
	select {
	case l.own <- far:
		l.mu.Lock()
		l.pipes = append(l.pipes, near, far)
		l.mu.Unlock()
		return near, nil
	case <-time.After(timeout):
	case <-l.done:
	}
	return nil, net.ErrClosed
}

func (l *streamLayer) Close() error {
	l.stop.Do(func() { close(l.done) })
	err := l.StreamLayer.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.pipes {
		_ = p.Close()
	}
	return err
}
