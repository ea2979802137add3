package admin

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	maxConns     = 2048 // open connections
	maxConnsFrom = 512  // of one address that is not this host
	maxTelling   = 64
	tellTimeout  = 500 * time.Millisecond
	tooManyConns = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n\r\n" +
		`{"success":false,"error":"too many open connections","code":"rate_limited","hint":"reuse connections, or close those that are idle"}`
)

// Limit bounds the open connections of l, and those from one address. Who comes
// later is told so, for as long as telling is cheap, and counted in s.
func Limit(l net.Listener, s *Share) net.Listener {
	in := newLimiter(l, maxConns, maxConnsFrom)
	in.share = s
	return in
}

type limiter struct {
	net.Listener
	max, maxFrom int
	share        *Share

	mu      sync.Mutex
	open    int
	from    map[netip.Prefix]int
	telling int
}

func newLimiter(l net.Listener, most, from int) *limiter {
	return &limiter{Listener: l, max: most, maxFrom: from, from: map[netip.Prefix]int{}, share: NewShare()}
}

// Accept implements net.Listener.
func (l *limiter) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := sourceOf(c.RemoteAddr().String())
		if l.enter(source) {
			return &limited{Conn: c, leave: sync.OnceFunc(func() { l.leave(source) })}, nil
		}
		l.share.connections.Add(1)
		go l.refuse(c)
	}
}

func (l *limiter) enter(source netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.max || l.from[source] >= l.maxFrom && !source.Addr().IsLoopback() {
		return false
	}
	l.open++
	l.from[source]++
	return true
}

func (l *limiter) leave(source netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.from[source]--; l.from[source] == 0 {
		delete(l.from, source)
	}
}

// refuse answers without a look at the request. It reads what comes until the
// other side closes: closing with unread bytes would take the answer back.
func (l *limiter) refuse(c net.Conn) {
	defer c.Close() //nolint:errcheck // nothing was promised
	l.mu.Lock()
	full := l.telling >= maxTelling
	if !full {
		l.telling++
	}
	l.mu.Unlock()
	if full {
		return
	}
	defer func() {
		l.mu.Lock()
		l.telling--
		l.mu.Unlock()
	}()
	_ = c.SetDeadline(time.Now().Add(tellTimeout))
	if _, err := io.WriteString(c, tooManyConns); err != nil {
		return
	}
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(c, 32<<10))
}

type limited struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *limited) Close() error {
	c.leave()
	return c.Conn.Close()
}
