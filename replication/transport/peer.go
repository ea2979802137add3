package transport

import (
	"context"
	"net"

	"github.com/holdfast-config/holdfast/replication/pki"
)

type peerKey struct{}

// WithPeer returns the context of a request by p.
func WithPeer(ctx context.Context, p pki.Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// PeerFrom returns the member that sent the request with this context.
func PeerFrom(ctx context.Context) (pki.Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(pki.Peer)
	return p, ok
}

// PeerOf returns the member at the other end of a connection of this package.
func PeerOf(c net.Conn) (pki.Peer, bool) {
	tc, ok := c.(*Conn)
	if !ok || tc.peer.NodeID == "" {
		return pki.Peer{}, false
	}
	return tc.peer, true
}
