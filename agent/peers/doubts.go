package peers

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/pki"
)

// routeAdmitted tells a member whether a certificate is of a present admission.
const routeAdmitted = "/admitted"

type admittedReply struct {
	Admitted bool `json:"admitted"`
}

func (d *doubts) serveAdmitted(r *http.Request) (any, error) {
	q := r.URL.Query()
	return admittedReply{d.cluster.isAdmitted(q.Get("node"), admission{q.Get("key"), q.Get("role")})}, nil
}

// saw notes who was found at an address, if that is the one in the log: a member may be
// called where it says itself that it is.
func (d *doubts) saw(p pki.Peer, addr string) {
	if logged, ok := d.cluster.loggedAddr(p.NodeID); ok && logged == addr {
		d.cluster.Saw(p)
	}
}

// doubts ask the other servers about certificates that this agent refuses because it does
// not have their keys. A member that was away while another one was removed and admitted
// again would refuse it otherwise, and hear of the admission from nobody if that one leads.
type doubts struct {
	cluster *Cluster

	mu    sync.Mutex
	asked map[string]time.Time // by node id
}

const (
	askAgain  = 2 * time.Second // between two questions about one node id
	maxDoubts = 64
)

// ask asks on a goroutine that ends within the time of its calls.
func (d *doubts) ask(p pki.Peer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if last, ok := d.asked[p.NodeID]; ok && time.Since(last) < askAgain {
		return
	}
	if d.asked == nil || len(d.asked) >= maxDoubts {
		d.asked = map[string]time.Time{}
	}
	d.asked[p.NodeID] = time.Now()
	go d.askServers(p)
}

// askServers takes the word of the first server that has the admission: a server holds the
// CA's key.
func (d *doubts) askServers(p pki.Peer) {
	c := d.cluster
	path := routeAdmitted + "?" + url.Values{"node": {p.NodeID}, "key": {p.Key}, "role": {string(p.Role)}}.Encode()
	for _, node := range c.OtherServers() {
		if node == p.NodeID {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), StatusTimeout)
		var reply admittedReply
		err := c.Call(ctx, node, path, nil, &reply)
		cancel()
		if err == nil && reply.Admitted {
			c.vouch(p)
			c.log.Info("accepting a member that another server has admitted meanwhile", "node", p.NodeID, "server", node)
			return
		}
	}
}
