package connlimit

import (
	"net"
	"net/http"
	"sync"
)

// idle are the connections of a Listener without a request in progress, in the order in
// which they became so: a list through the connections themselves, because each request
// changes it twice.
type idle struct {
	mu          sync.Mutex
	first, last *Conn
}

// Track is http.Server.ConnState for the connections of a Listener. One that is full then
// closes the connection that has been without a request for longest and takes the new one:
// a client that opens connections and sends nothing keeps no other out.
func Track(c net.Conn, s http.ConnState) {
	if c, ok := c.(*Conn); ok && c.idle != nil {
		c.idle.set(c, s == http.StateNew || s == http.StateIdle)
	}
}

func (i *idle) set(c *Conn, is bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.remove(c)
	if !is {
		return
	}
	c.listed, c.before = true, i.last
	if i.last == nil {
		i.first = c
	} else {
		i.last.after = c
	}
	i.last = c
}

// remove takes a connection out of the list, with the lock held.
func (i *idle) remove(c *Conn) {
	if !c.listed {
		return
	}
	if c.before == nil {
		i.first = c.after
	} else {
		c.before.after = c.after
	}
	if c.after == nil {
		i.last = c.before
	} else {
		c.after.before = c.before
	}
	c.listed, c.before, c.after = false, nil, nil
}

// evict closes one connection; false when each has a request in progress.
func (i *idle) evict() bool {
	i.mu.Lock()
	c := i.first
	if c != nil {
		i.remove(c)
	}
	i.mu.Unlock()
	if c == nil {
		return false
	}
	_ = c.Close()
	return true
}
