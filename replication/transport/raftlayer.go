package transport

import (
	"context"
	"net"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
)

// RaftLayer is the stream layer of Raft: a listener of authenticated connections from
// servers, and Dial to members. With a Dial that takes raft.ServerAddress it is a
// raft.StreamLayer.
type RaftLayer struct {
	t      *Transport
	queue  *queue
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
}

var _ net.Listener = (*RaftLayer)(nil)

// RaftLayer opens the port for Raft. Without an open layer connections for Raft are
// rejected. It closes a layer that is open: there is one Raft node at a time.
func (t *Transport) RaftLayer() *RaftLayer {
	l := &RaftLayer{t: t, queue: newQueue(t.addr)}
	l.ctx, l.cancel = context.WithCancel(t.ctx)
	before, ok := t.conns.setLayer(l)
	if before != nil {
		_ = before.Close()
	}
	if !ok {
		_ = l.Close()
	}
	return l
}

// Accept waits for a connection from a server of the cluster; PeerOf returns which.
func (l *RaftLayer) Accept() (net.Conn, error) { return l.queue.Accept() }

// Addr returns the address that other members dial.
func (l *RaftLayer) Addr() net.Addr { return l.t.addr }

// Close ends Accept and Dial, and closes the connections of Raft in both directions,
// which raft does not. The port stays open for the other protocols.
func (l *RaftLayer) Close() error {
	l.t.conns.unsetLayer(l)
	l.cancel()
	_ = l.queue.Close()
	for _, c := range l.t.conns.list(func(c *Conn) bool { return c.layer == l }) {
		c.abort()
	}
	return nil
}

// Dial connects to the Raft layer of a member. Only a server may; the member must be the
// one that Options.NodeAt expects at the address, if it expects one.
func (l *RaftLayer) Dial(addr string, timeout time.Duration) (net.Conn, error) {
	if id := l.t.Identity(); id.Role != pki.RoleServer {
		return nil, conf.Errorf(conf.CodeDenied, "node %s is a %s, which does not dial Raft", id.NodeID, id.Role)
	}
	if timeout <= 0 {
		timeout = l.t.opts.Limits.Handshake
	}
	ctx, cancel := context.WithTimeout(l.ctx, timeout)
	defer cancel()
	want := ""
	if l.t.opts.NodeAt != nil {
		want, _ = l.t.opts.NodeAt(addr)
	}
	if now, ok := l.newAddr(want); ok && now != addr {
		if c, err := l.t.dial(ctx, ProtoRaft, now, want, l); err == nil {
			return c, nil
		}
	}
	return l.t.dial(ctx, ProtoRaft, addr, want, l)
}

// newAddr is where a member is now: Raft's configuration may be behind.
func (l *RaftLayer) newAddr(node string) (string, bool) {
	if node == "" || l.t.opts.AddrOf == nil {
		return "", false
	}
	return l.t.opts.AddrOf(node)
}
