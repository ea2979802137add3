package connlimit

import (
	"container/list"
	"net"
	"net/http"
	"sync"
)

// idle are the connections of a Listener without a request in progress, in the order in
// which they became so.
type idle struct {
	mu    sync.Mutex
	order list.List
	at    map[*Conn]*list.Element
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
	if e := i.at[c]; e != nil {
		i.order.Remove(e)
		delete(i.at, c)
	}
	if !is {
		return
	}
	if i.at == nil {
		i.at = map[*Conn]*list.Element{}
	}
	i.at[c] = i.order.PushBack(c)
}

// evict closes one connection; false when each has a request in progress.
func (i *idle) evict() bool {
	i.mu.Lock()
	e := i.order.Front()
	var c *Conn
	if e != nil {
		c = i.order.Remove(e).(*Conn)
		delete(i.at, c)
	}
	i.mu.Unlock()
	if c == nil {
		return false
	}
	_ = c.Close()
	return true
}
