package transport

import "sync"

// connTable holds the open connections of a Transport in both directions, so that Stop
// and Recheck find them, and the Raft layer that is open.
type connTable struct {
	mu      sync.Mutex
	conns   map[*Conn]struct{}
	layer   *RaftLayer // nil while Raft is not served
	stopped bool
}

// add registers c. It fails after stop, and when the Raft layer of c is closed.
func (t *connTable) add(c *Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped || c.layer != nil && c.layer != t.layer {
		return false
	}
	if t.conns == nil {
		t.conns = make(map[*Conn]struct{})
	}
	t.conns[c] = struct{}{}
	return true
}

func (t *connTable) remove(c *Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, c)
}

func (t *connTable) list(which func(*Conn) bool) []*Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []*Conn
	for c := range t.conns {
		if which(c) {
			out = append(out, c)
		}
	}
	return out
}

// isMember selects the connections of members; a joiner has no certificate.
func isMember(c *Conn) bool { return c.leaf != nil }

func (t *connTable) openLayer() *RaftLayer {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.layer
}

// setLayer makes l the open layer, and returns the one before. It fails after stop.
func (t *connTable) setLayer(l *RaftLayer) (before *RaftLayer, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before = t.layer
	if t.stopped {
		return before, false
	}
	t.layer = l
	return before, true
}

// unsetLayer makes add fail for the connections of l.
func (t *connTable) unsetLayer(l *RaftLayer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.layer == l {
		t.layer = nil
	}
}

// stop makes add and setLayer fail, and returns the open layer.
func (t *connTable) stop() *RaftLayer {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	return t.layer
}
