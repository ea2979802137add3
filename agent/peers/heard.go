package peers

import (
	"maps"
	"slices"
	"sync"
)

// heardAddrs are new addresses of members that the log of this agent does not have yet:
// those that members have told themselves, and that of the leader.
type heardAddrs struct {
	mu    sync.Mutex
	addrs map[string]heardAddr // by node id
}

type heardAddr struct{ addr, instead string } // of the one that the log has

// SetHeard has a member called at another address, until the log says something new. Who
// answers there still has to prove that it is that member.
func (c *Cluster) SetHeard(node, addr string) {
	instead, _ := c.loggedAddr(node)
	c.heard.mu.Lock()
	defer c.heard.mu.Unlock()
	if c.heard.addrs == nil {
		c.heard.addrs = map[string]heardAddr{}
	}
	if c.heard.addrs[node] = (heardAddr{addr, instead}); addr == instead {
		delete(c.heard.addrs, node)
	}
}

// AddrOf is the address at which this agent calls a member.
func (c *Cluster) AddrOf(node string) (string, bool) {
	addr, ok := c.loggedAddr(node)
	c.heard.mu.Lock()
	defer c.heard.mu.Unlock()
	if h, heard := c.heard.addrs[node]; heard && h.instead == addr {
		return h.addr, true
	}
	delete(c.heard.addrs, node)
	return addr, ok
}

// KnownServers lists the node ids of the other servers, of cluster.json and of Raft's
// configuration.
func (c *Cluster) KnownServers() []string {
	ids := map[string]bool{}
	for _, id := range c.OtherServers() {
		ids[id] = true
	}
	for _, s := range c.servers() {
		if _, ok := c.Find(s.ID); s.ID != c.Self() && (s.Voter || !ok) {
			ids[s.ID] = true
		}
	}
	return slices.Sorted(maps.Keys(ids))
}
