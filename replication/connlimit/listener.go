package connlimit

import (
	"io"
	"net"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/httperror"
)

const (
	maxResponders   = 64 // goroutines that answer rejected connections
	responseTimeout = 500 * time.Millisecond
	maxIgnored      = 32 << 10 // bytes of a rejected request that are read
)

// rejection is the whole HTTP response to a rejected connection.
var rejection = func() string {
	body, err := httperror.Marshal(httperror.New(conf.Errorf(conf.CodeRateLimited, "too many open connections").
		WithHint("reuse connections, or close those that are idle")))
	if err != nil {
		panic(err) // a struct of strings
	}
	return "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n\r\n" + string(body)
}()

// Listener is a listener of HTTP connections with limits.
type Listener struct {
	net.Listener
	*Limiter
	rejected func()

	idle       *idle
	responders chan struct{} // one for each goroutine that answers
	answering  sync.WaitGroup
}

// Listen bounds the open connections of in. A connection over a limit gets a 429
// response, and rejected is called for it.
func Listen(in net.Listener, limits Limits, rejected func()) *Listener {
	return &Listener{Listener: in, Limiter: New(limits), rejected: rejected, idle: &idle{}, responders: make(chan struct{}, min(maxResponders, max(1, limits.Max/8)))}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := Source(c.RemoteAddr().String())
		got := l.Acquire(source)
		if got == Full && l.idle.evict() {
			got = l.Acquire(source)
		}
		if got == Accepted {
			return &Conn{Conn: c, idle: l.idle, coarse: l.limits.Coarse, release: sync.OnceFunc(func() { l.Release(source) })}, nil
		}
		l.rejected()
		select {
		case l.responders <- struct{}{}:
			l.answering.Go(func() {
				reject(c)
				<-l.responders
			})
		default:
			_ = c.Close()
		}
	}
}

// Wait waits for the responses to rejected connections. Call it after the last
// Accept.
func (l *Listener) Wait() { l.answering.Wait() }

// reject answers without looking at the request. It reads until the other side
// closes: closing with unread bytes would reset the connection, and the response
// would be lost.
func reject(c net.Conn) {
	defer c.Close() //nolint:errcheck // nothing was promised
	_ = c.SetDeadline(time.Now().Add(responseTimeout))
	if _, err := io.WriteString(c, rejection); err != nil {
		return
	}
	_ = closeWrite(c)
	_, _ = io.Copy(io.Discard, io.LimitReader(c, maxIgnored))
}

// Conn is an accepted connection.
type Conn struct {
	net.Conn
	idle    *idle
	release func()
	unread  []byte // what Read returns first

	coarse         bool
	writeBy, armed time.Time // with coarse: the deadline of writes, and what the timer has

	listed        bool // among those of idle, whose lock guards this and what follows
	before, after *Conn
}

// Unread makes Read return b first: what was read already, and is for the next reader. The
// connection keeps b.
func (c *Conn) Unread(b []byte) { c.unread = b }

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.unread) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.unread)
	if c.unread = c.unread[n:]; len(c.unread) == 0 {
		c.unread = nil
	}
	return n, nil
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.idle.set(c, false)
	c.release()
	return c.Conn.Close()
}

// CloseWrite ends the stream of a TCP or unix connection towards the client.
// net/http calls it after a response to a request that it did not read.
func (c *Conn) CloseWrite() error { return closeWrite(c.Conn) }

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// NetConn returns the connection below, as tls.Conn.NetConn does.
func (c *Conn) NetConn() net.Conn { return c.Conn }
