package broker

import (
	"encoding/binary"
	"net"
	"slices"
	"sync"
)

// AckPrefix is followed by a service, "/" and an instance: what an observer reports, as a
// conf.Report. It is retained, and expires.
const AckPrefix = "system/ack/"

const (
	reportExpiry = 300 // seconds; an instance that is there reports each 30 s
	propExpiry   = 0x02
)

// outbox has the newest report of each topic, for the connection of a Subscriber.
type outbox struct {
	news chan struct{} // capacity 1: there is something to send

	mu       sync.Mutex
	newest   map[string]*message
	waiting  []string
	rejected bool // this broker takes none
}

func newOutbox() outbox {
	return outbox{news: make(chan struct{}, 1), newest: map[string]*message{}}
}

// Report publishes a report at the next chance, in place of an earlier one of the topic. It
// may be called from any goroutine. A broker that rejects one, and one that has no MQTT 5, and
// so no expiry, gets no other.
func (s *Subscriber) Report(topic string, payload []byte) {
	m := &message{topic: topic, payload: payload, props: binary.BigEndian.AppendUint32([]byte{propExpiry}, reportExpiry)}
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if s.out.rejected {
		return
	}
	if !slices.Contains(s.out.waiting, topic) {
		s.out.waiting = append(s.out.waiting, topic)
	}
	s.out.newest[topic] = m
	s.out.wake()
}

func (o *outbox) wake() {
	select {
	case o.news <- struct{}{}:
	default:
	}
}

// again sends all of it: a connection is new, and its broker may have lost what it had.
func (o *outbox) again() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting = o.waiting[:0]
	for topic := range o.newest {
		o.waiting = append(o.waiting, topic)
	}
	if len(o.waiting) > 0 {
		o.wake()
	}
}

// send writes what waits. The caller is the goroutine that writes to u.
func (o *outbox) send(u *clientConn) error {
	o.mu.Lock()
	var bufs net.Buffers
	if u.v5 && !o.rejected {
		for i, topic := range o.waiting {
			m := o.newest[topic]
			head := publishHeader(nil, m, header{v5: true, qos: u.qos, retain: true, id: uint16(i%1000) + 2}) //nolint:gosec // small
			if u.fits(m, head) {
				bufs = append(bufs, head, m.payload)
			}
		}
	}
	o.waiting = o.waiting[:0]
	o.mu.Unlock()
	if len(bufs) == 0 {
		return nil
	}
	return u.write(bufs)
}

// reject stops the reports.
func (o *outbox) reject() (first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	first, o.rejected = !o.rejected, true
	o.newest, o.waiting = map[string]*message{}, nil
	return first
}
