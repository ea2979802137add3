package replication

import (
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/raftguard"
)

// StreamLayer is a listener for verified connections of other members, and a dialer.
// Close closes all its connections.
type StreamLayer interface {
	net.Listener
	Dial(addr string, timeout time.Duration) (net.Conn, error)
}

// NewTransport returns raft's network transport over layer.
func NewTransport(layer StreamLayer, log *slog.Logger) raft.Transport {
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: streamLayer{layer}, MaxPool: 3, Timeout: 10 * time.Second, Logger: raftguard.NewLogger(log),
	})
}

type streamLayer struct{ StreamLayer }

func (l streamLayer) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return l.StreamLayer.Dial(string(addr), timeout)
}
