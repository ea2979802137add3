package admin

import (
	"net"

	"github.com/holdfast-config/holdfast/replication/connlimit"
)

const (
	maxConns     = 2048 // open connections
	maxConnsFrom = 512  // of one address that is not this host
)

// Limit bounds the open connections of l, and those from one address. Rejected
// ones get a 429 response and are counted in s.
func Limit(l net.Listener, s *Share) net.Listener {
	limits := connlimit.Limits{Max: maxConns, PerSource: maxConnsFrom, LoopbackExempt: true}
	return connlimit.Listen(l, limits, func() { s.connections.Add(1) })
}
