package broker

import (
	"net"
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	batchMessages = 64
	batchBytes    = 256 << 10
)

// sendQueue is the queue of one subscriber: for each topic at most the newest message. The
// publisher only adds a pointer; the connection's own goroutine writes (conn.writeLoop), so a
// client that does not read delays no other, and uses no memory but the pointers.
type sendQueue struct {
	counters *counters
	v5       bool
	window   int // maximum of unacknowledged QoS 1 messages
	maxSize  int // largest packet that the client accepts, 0 = any

	mu       sync.Mutex
	paused   bool // until the SUBACK is written
	filters  []packets.Subscription
	pending  map[string]waiting
	order    []string // topics of pending, oldest first; the first head are sent
	head     int
	inflight map[uint16]struct{}
	lastID   uint16

	wake chan struct{} // capacity 1
}

// waiting is a queued message.
type waiting struct {
	m        *message
	retained bool // sent for the subscription, not as a live message
}

func newSendQueue(c *counters) *sendQueue {
	return &sendQueue{
		counters: c, pending: make(map[string]waiting), inflight: make(map[uint16]struct{}), wake: make(chan struct{}, 1),
	}
}

func (o *sendQueue) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// add queues m if a filter of the client covers it.
func (o *sendQueue) add(m *message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.filters {
		if matches(o.filters[i].Filter, m.topic) {
			o.put(m, false)
			o.signal()
			return
		}
	}
}

func (o *sendQueue) put(m *message, retained bool) {
	if old, ok := o.pending[m.topic]; ok {
		if old.m != m {
			o.counters.conflated.Add(1)
		}
		o.pending[m.topic] = waiting{m, old.retained || retained}
		return
	}
	o.pending[m.topic] = waiting{m, retained}
	o.order = append(o.order, m.topic)
}

// subscribe adds or replaces filters, and queues the retained messages that they cover.
// The caller has Broker.mu, so that a message that replaces one of these is added after
// this. Nothing is sent until resume.
func (o *sendQueue) subscribe(subs []packets.Subscription, retained map[string]*message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.paused = true
	for _, s := range subs {
		existed := o.addFilter(s)
		if s.RetainHandling == 2 || s.RetainHandling == 1 && existed {
			continue
		}
		if m, ok := retained[s.Filter]; ok { // a filter without wildcards is a topic
			o.put(m, true)
			continue
		}
		for topic, m := range retained {
			if matches(s.Filter, topic) {
				o.put(m, true)
			}
		}
	}
}

// resume ends the pause that subscribe started.
func (o *sendQueue) resume() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.paused = false
	o.signal()
}

func (o *sendQueue) addFilter(s packets.Subscription) (existed bool) {
	for i := range o.filters {
		if o.filters[i].Filter == s.Filter {
			o.filters[i] = s
			return true
		}
	}
	o.filters = append(o.filters, s)
	return false
}

func (o *sendQueue) unsubscribe(subs []packets.Subscription) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range subs {
		for i := range o.filters {
			if o.filters[i].Filter == s.Filter {
				o.filters = append(o.filters[:i], o.filters[i+1:]...)
				break
			}
		}
	}
}

// countWith returns the number of filters after adding subs.
func (o *sendQueue) countWith(subs []packets.Subscription) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	names := make(map[string]struct{}, len(o.filters)+len(subs))
	for i := range o.filters {
		names[o.filters[i].Filter] = struct{}{}
	}
	for i := range subs {
		names[subs[i].Filter] = struct{}{}
	}
	return len(names)
}

// ack handles a PUBACK of the client.
func (o *sendQueue) ack(id uint16) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.inflight[id]; ok {
		delete(o.inflight, id)
		o.signal()
	}
}

// batch removes what can be written now. It returns the number of messages, and whether more
// wait only for acknowledgements of the client.
func (o *sendQueue) batch() (bufs net.Buffers, n int, blocked bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.paused {
		return nil, 0, false
	}
	size := 0
	for o.head < len(o.order) && n < batchMessages && size < batchBytes {
		topic := o.order[o.head]
		w := o.pending[topic]
		h, ok := o.headerFor(w)
		if ok && h.qos > 0 && len(o.inflight) >= o.window {
			blocked = true
			break
		}
		o.head++
		delete(o.pending, topic)
		if !ok {
			continue // unsubscribed since then
		}
		if h.qos > 0 {
			h.id = o.nextID()
		}
		head := publishHeader(make([]byte, 0, 64+len(topic)+len(w.m.props)), w.m, h)
		if o.maxSize > 0 && len(head)+len(w.m.payload) > o.maxSize {
			delete(o.inflight, h.id)
			o.counters.dropped.Add(1)
			continue
		}
		bufs = append(bufs, head, w.m.payload)
		size += len(head) + len(w.m.payload)
		n++
	}
	if o.head == len(o.order) {
		o.order, o.head = o.order[:0], 0
	} else if o.head > 1024 {
		o.order, o.head = append(o.order[:0], o.order[o.head:]...), 0
	}
	return bufs, n, blocked
}

// headerFor merges all subscriptions that cover a message: it is sent once, with their
// highest QoS and all their identifiers.
func (o *sendQueue) headerFor(w waiting) (h header, ok bool) {
	h = header{v5: o.v5, retain: w.retained}
	for i := range o.filters {
		s := &o.filters[i]
		if !matches(s.Filter, w.m.topic) {
			continue
		}
		ok = true
		h.qos = max(h.qos, min(s.Qos, 1))
		h.retain = h.retain || s.RetainAsPublished
		if s.Identifier > 0 {
			h.subIDs = append(h.subIDs, s.Identifier)
		}
	}
	return h, ok
}

func (o *sendQueue) nextID() uint16 {
	for {
		o.lastID++
		if _, used := o.inflight[o.lastID]; o.lastID != 0 && !used {
			o.inflight[o.lastID] = struct{}{}
			return o.lastID
		}
	}
}
