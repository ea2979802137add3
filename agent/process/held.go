package process

import (
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Held is what a process has of its machine before it reads any other file: the lock on
// the data directory, and the ports at which services and callers expect it.
type Held struct {
	lock      *os.File
	Local     net.Listener
	Socket    net.Listener // nil when it is off
	Admin     net.Listener // nil for an observer
	SocketErr error        // why Socket is nil although it is not off
	AdminErr  error        // why Admin is nil although there should be one
}

// Hold makes the data directory, locks it and opens the ports.
func Hold(o *options.Options, log *slog.Logger) (*Held, error) {
	if err := makeDataDir(o.DataDir); err != nil {
		return nil, err
	}
	h := &Held{}
	var err error
	if h.lock, err = LockDir(o.DataDir); err != nil {
		return nil, err
	}
	if h.Local, err = ListenHost(o.LocalAddr, "CONFIG_LOCAL_ADDR", log); err != nil {
		h.Close()
		return nil, err
	}
	h.Reopen(o, log)
	h.Announce(o, nil, log)
	return h, nil
}

// Announce writes for the command line where this agent listens; page is the listener of
// the web page alone, if there is one.
func (h *Held) Announce(o *options.Options, page net.Listener, log *slog.Logger) {
	addr := func(l net.Listener) net.Addr {
		if l == nil {
			return nil
		}
		return l.Addr()
	}
	if err := WriteListening(*o, h.Local.Addr(), addr(h.Admin), addr(page)); err != nil {
		log.Warn("the command line may not find this agent: its addresses are not written", "err", err)
	}
}

func makeDataDir(dir string) error {
	err := os.MkdirAll(dir, 0o700)
	if info, serr := os.Stat(dir); serr == nil && info.IsDir() { // of a disk that is read-only, for example
		return nil
	}
	if err == nil {
		err = fs.ErrNotExist
	}
	return conf.Errorf(conf.CodeUsage, "data directory: %w", err).WithHint("set CONFIG_DATA_DIR to a directory that this user may write")
}

// Reopen opens those of the other ports that are not open.
func (h *Held) Reopen(o *options.Options, log *slog.Logger) {
	if h.Socket == nil {
		h.Socket, h.SocketErr = ListenSocket(o.LocalSocket, log)
	}
	if h.Admin == nil && o.Role != options.RoleObserver {
		h.Admin, h.AdminErr = ListenHost(net.JoinHostPort(o.ManagerHost, o.ManagerPort), "CONFIG_MANAGER_HOST and CONFIG_MANAGER_PORT", log)
	}
}

// Err is why one of the ports is not open, nil when all of them are.
func (h *Held) Err() error {
	if h.AdminErr != nil {
		return h.AdminErr
	}
	return h.SocketErr
}

// Close closes the ports and ends the lock.
func (h *Held) Close() {
	for _, l := range []net.Listener{h.Local, h.Admin, h.Socket} {
		if l != nil {
			_ = l.Close()
		}
	}
	if h.lock != nil {
		_ = h.lock.Close()
	}
}

// Lent is a listener that a server may close without closing the listener below it.
type Lent struct {
	net.Listener
	once     sync.Once
	returned chan struct{}
}

// Lend makes a Lent for one server. Return comes after the server has ended.
func Lend(l net.Listener) *Lent { return &Lent{Listener: l, returned: make(chan struct{})} }

// deadliner is what TCP and unix listeners have.
type deadliner interface{ SetDeadline(t time.Time) error }

// Accept waits for a connection. It ends with net.ErrClosed when the listener was closed.
func (l *Lent) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	select {
	case <-l.returned:
		if c != nil {
			_ = c.Close()
		}
		return nil, net.ErrClosed
	default:
		return c, err
	}
}

// Close ends Accept and leaves the listener open: a caller that connects from now on
// waits for the next server to accept.
func (l *Lent) Close() error {
	l.once.Do(func() {
		close(l.returned)
		if d, ok := l.Listener.(deadliner); ok {
			_ = d.SetDeadline(time.Now())
		}
	})
	return nil
}

// Return makes the listener usable again, for the next server.
func (l *Lent) Return() error {
	_ = l.Close()
	if d, ok := l.Listener.(deadliner); ok {
		return d.SetDeadline(time.Time{})
	}
	return nil
}
