package transport

import (
	"context"
	"net"

	"github.com/holdfast-config/holdfast/replication/pki"
)

type peerKey struct{}

// WithPeer is the context of a request that p makes.
func WithPeer(ctx context.Context, p pki.Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// PeerFrom is the member that made the request whose context this is.
func PeerFrom(ctx context.Context) (pki.Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(pki.Peer)
	return p, ok
}

// PeerOf is the member at the other end of a connection that this package made.
func PeerOf(c net.Conn) (pki.Peer, bool) {
	tc, ok := c.(*Conn)
	if !ok || tc.peer.NodeID == "" {
		return pki.Peer{}, false
	}
	return tc.peer, true
}
