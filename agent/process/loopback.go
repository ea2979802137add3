package process

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// ListenHost is Listen on TCP, but "localhost" means both loopback addresses, because
// a client takes that name for the one or the other: Node before 20 connects to ::1
// alone. A machine without IPv6 has the first only. With port 0 both get one number.
func ListenHost(addr, setting string, log *slog.Logger) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host != "localhost" {
		return Listen("tcp", addr, setting)
	}
	four, err := Listen("tcp", net.JoinHostPort("127.0.0.1", port), setting)
	if err != nil {
		return nil, err
	}
	at := net.JoinHostPort("::1", strconv.Itoa(four.Addr().(*net.TCPAddr).Port))
	six, err := net.Listen("tcp", at)
	switch {
	case err == nil:
		return newLoopbacks(four, six), nil
	case port != "0" && errors.Is(err, syscall.EADDRINUSE):
		// Who asks for localhost would reach another program there.
		_ = four.Close()
		return nil, conf.Errorf(conf.CodeUsage, "cannot listen on %s: %w", at, syscall.EADDRINUSE).
			WithHint("stop what uses it, or set %s to 127.0.0.1 instead of localhost", setting)
	default:
		log.Debug("listening on 127.0.0.1 alone", "addr", four.Addr().String(), "err", err)
		return four, nil
	}
}

// loopbacks is one listener made of two. Each has a goroutine, which ends with Close.
type loopbacks struct {
	net.Listener              // the one that Addr names
	six          net.Listener // on ::1
	accepted     chan accepted
	done         chan struct{}
	start, close sync.Once
	accepting    sync.WaitGroup

	mu      sync.Mutex
	timer   *time.Timer
	expired chan struct{} // closed when the deadline has passed
}

type accepted struct {
	conn net.Conn
	err  error
}

func newLoopbacks(four, six net.Listener) *loopbacks {
	return &loopbacks{Listener: four, six: six, accepted: make(chan accepted), done: make(chan struct{}), expired: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *loopbacks) Accept() (net.Conn, error) {
	l.start.Do(func() {
		for _, one := range []net.Listener{l.Listener, l.six} {
			l.accepting.Go(func() { l.run(one) })
		}
	})
	l.mu.Lock()
	expired := l.expired
	l.mu.Unlock()
	select { // a deadline and the end come before a connection that waits
	case <-expired:
		return nil, os.ErrDeadlineExceeded
	case <-l.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case a := <-l.accepted:
		return a.conn, a.err
	case <-expired:
		return nil, os.ErrDeadlineExceeded
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *loopbacks) run(one net.Listener) {
	for {
		c, err := one.Accept()
		select {
		case l.accepted <- accepted{c, err}:
		case <-l.done:
			if c != nil {
				_ = c.Close()
			}
			return
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// Close implements net.Listener.
func (l *loopbacks) Close() error {
	err := net.ErrClosed
	l.close.Do(func() {
		close(l.done)
		err = errors.Join(l.Listener.Close(), l.six.Close())
		l.accepting.Wait()
	})
	return err
}

// SetDeadline ends Accept at t; zero lets it wait again.
func (l *loopbacks) SetDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil && !l.timer.Stop() {
		<-l.expired // it has fired
	}
	l.timer = nil
	select {
	case <-l.expired:
		l.expired = make(chan struct{})
	default:
	}
	if t.IsZero() {
		return nil
	}
	expired := l.expired
	l.timer = time.AfterFunc(time.Until(t), func() { close(expired) })
	return nil
}
