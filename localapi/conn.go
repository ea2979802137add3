package localapi

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// peer is who is at the other end of a unix socket.
type peer struct {
	uid   uint32
	known bool // false: the system did not tell
}

type peerKey struct{}

// ConnContext remembers who opened a unix connection, once, when it is accepted.
// It is http.Server.ConnContext; Serve sets it.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	uid, err := peerUID(u)
	return context.WithValue(ctx, peerKey{}, &peer{uid: uid, known: err == nil})
}

// peerOf is nil for a caller that did not come over a unix socket.
func peerOf(ctx context.Context) *peer {
	p, _ := ctx.Value(peerKey{}).(*peer)
	return p
}

// limitListener bounds the open connections of a listener. Who comes later is
// told so, for as long as telling is cheap.
type limitListener struct {
	net.Listener
	server  *Server
	max     int64
	open    atomic.Int64
	telling atomic.Int64
}

const (
	maxTelling  = 64
	tellTimeout = 500 * time.Millisecond
	tooMany     = `{"success":false,"error":"too many open connections","code":"rate_limited",` +
		`"hint":"reuse connections, or close those that are idle"}`
	tooManyResponse = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\n" +
		"Retry-After: 1\r\nConnection: close\r\n\r\n" + tooMany
)

func (l *limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.max {
			l.server.metrics.connections.Add(1)
			return c, nil
		}
		l.open.Add(-1)
		l.server.metrics.refused[refusedConnection].Add(1)
		if l.telling.Add(1) > maxTelling {
			l.telling.Add(-1)
			_ = c.Close()
			continue
		}
		l.server.serving.Go(func() {
			defer l.telling.Add(-1)
			tell(c)
		})
	}
}

// connState counts a connection out; Accept counted it in.
func (l *limitListener) connState(_ net.Conn, state http.ConnState) {
	if state == http.StateClosed || state == http.StateHijacked {
		l.open.Add(-1)
		l.server.metrics.connections.Add(-1)
	}
}

// tell answers without looking at the request. It reads what comes until the
// other side closes: closing with unread bytes would reset the connection and
// take the answer back.
func tell(c net.Conn) {
	defer c.Close() //nolint:errcheck // nothing was promised
	_ = c.SetDeadline(time.Now().Add(tellTimeout))
	if _, err := io.WriteString(c, tooManyResponse); err != nil {
		return
	}
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(c, maxHeaderBytes))
}
