package localapi

import (
	"context"
	"net"

	"github.com/holdfast-config/holdfast/replication/connlimit"
)

// peer is the process at the other end of a unix socket.
type peer struct {
	uid   uint32
	known bool // false: the system did not report it
}

type peerKey struct{}

// ConnContext stores the peer of a unix connection when it is accepted. It is
// http.Server.ConnContext; Serve sets it.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if p := newPeer(c); p != nil {
		return context.WithValue(ctx, peerKey{}, p)
	}
	return ctx
}

// newPeer is nil for a connection that is not on a unix socket.
func newPeer(c net.Conn) *peer {
	if limited, ok := c.(*connlimit.Conn); ok {
		c = limited.NetConn()
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil
	}
	uid, err := peerUID(u)
	return &peer{uid: uid, known: err == nil}
}

// peerOf is nil for a caller that is not on a unix socket.
func peerOf(ctx context.Context) *peer {
	p, _ := ctx.Value(peerKey{}).(*peer)
	return p
}
