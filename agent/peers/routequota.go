package peers

import (
	"net/http"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
)

// routeQuota bounds how often a member may call a route of the cluster port. The routes
// that write rows by size or content, /hello and /access, have quotas of their own too.
type routeQuota struct {
	what       string
	perSecond  float64
	burst      int
	leaderOnly bool // costs nothing on another agent, which rejects it
}

// An honest agent stays far below all of them: it renews once in weeks, and one that asks
// to be taken back asks every five seconds.
var routeQuotas = map[string]routeQuota{
	"/leave":    {"requests to leave", 1, 10, true},
	"/rejoin":   {"requests to be admitted anew", 0.5, 20, true},
	"/retire":   {"removals of its earlier ids", 2, 30, true},
	"/renew":    {"certificate renewals", 0.1, 10, false},
	routeChange: {"changes that it forwards", 1000, 10_000, false},
	routeRead:   {"reads that it forwards", 3000, 20_000, false},
	routeOther:  {"calls", 1000, 10_000, false},
}

// Names of routeQuotas that are no paths.
const (
	routeChange = "forwarded change"
	routeRead   = "forwarded read"
	routeOther  = "other"
)

// The bodies of forwarded requests.
const (
	forwardedBytesPerSecond = 16 << 20
	forwardedBytesAtOnce    = 256 << 20
)

// routes are the quotas of all members.
type routes struct {
	c      *Cluster
	calls  map[string]*Quota
	bodies *Quota
}

func newRoutes(c *Cluster) *routes {
	q := &routes{c: c, calls: map[string]*Quota{}, bodies: NewQuota("bytes that it forwards", forwardedBytesPerSecond, forwardedBytesAtOnce)}
	for route, o := range routeQuotas {
		q.calls[route] = NewQuota(o.what, o.perSecond, o.burst)
	}
	return q
}

// admit is transport.Options.Admit.
func (q *routes) admit(p pki.Peer, r *http.Request) error {
	route := r.URL.Path
	api := strings.HasPrefix(route, "/api/")
	switch _, known := routeQuotas[route]; {
	case api && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		route = routeRead
	case api:
		route = routeChange
	case !known || route == routeOther:
		route = routeOther
	}
	o := routeQuotas[route]
	if o.leaderOnly && (q.c.replica == nil || !q.c.IsReadyLeader()) {
		return nil
	}
	now := time.Now()
	err := q.calls[route].Take(p.NodeID, 1, now)
	if err == nil && api {
		size := r.ContentLength
		if size < 0 { // no agent of ours sends one without
			size = conf.MaxDocument
		}
		err = q.bodies.Take(p.NodeID, int(min(size, forwardedBytesAtOnce)), now)
	}
	if err != nil {
		q.c.LogRefused(o.what, p.NodeID, err)
	}
	return err
}
