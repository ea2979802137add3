package localapi

import (
	"context"
	"net"

	"github.com/holdfast-config/holdfast/replication/connlimit"
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
	if limited, ok := c.(*connlimit.Conn); ok {
		c = limited.NetConn()
	}
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
