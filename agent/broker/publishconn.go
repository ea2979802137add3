package broker

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/holdfast-config/holdfast/replication/alarm"
)

const disconnectTimeout = time.Second // for the PUBACK of the last health message

// publishConn is one connection of a Publisher: the messages that the broker does not have yet,
// and those in flight. At most one message per topic waits, the newest.
type publishConn struct {
	p *Publisher
	u *clientConn

	waiting  map[string]*message
	order    []string
	inflight map[uint16]inflightMessage
	rejected map[string]*message // retried with the next health message
	lastID   uint16
	caughtUp bool
}

type inflightMessage struct {
	m  *message
	at time.Time
}

func newPublishConn(p *Publisher, u *clientConn) *publishConn {
	return &publishConn{
		p: p, u: u, waiting: make(map[string]*message), inflight: make(map[uint16]inflightMessage), rejected: make(map[string]*message),
	}
}

func (s *publishConn) put(m *message) {
	if _, ok := s.waiting[m.topic]; !ok {
		s.order = append(s.order, m.topic)
	}
	s.waiting[m.topic] = m
	delete(s.rejected, m.topic)
}

// run publishes until the connection, the leadership or ctx ends.
func (s *publishConn) run(ctx context.Context) error {
	tick := time.NewTicker(s.p.o.HealthEvery)
	defer tick.Stop()
	pulse := time.NewTicker(min(time.Second, s.p.o.Timeout/4))
	defer pulse.Stop()
	health := s.syncHealth(true)
	for _, m := range s.p.cache.newest { // all: this may be another broker, or the same one after it lost its messages
		s.put(m)
	}
	services := s.syncServices()
	for {
		leading, deposed := s.p.o.Leading()
		if !leading {
			s.u.disconnect()
			return errDeposed
		}
		if err := s.send(); err != nil {
			s.u.close()
			return err
		}
		s.p.pending.Store(int64(len(s.waiting) + len(s.inflight)))
		if len(s.waiting)+len(s.inflight) == 0 {
			s.caughtUp = true
		}
		var err error
		select {
		case <-ctx.Done():
			s.sendDisconnect()
			return ctx.Err()
		case <-deposed:
		case <-services:
			services = s.syncServices()
		case <-health:
			health = s.syncHealth(false)
		case a := <-s.u.acks:
			s.onAck(a)
		case <-s.u.ended:
			err = s.u.err
		case <-tick.C:
			health = s.syncHealth(true)
			s.retryRejected()
		case now := <-pulse.C:
			if err = s.checkAckTimeout(now); err == nil {
				err = s.u.ping(now)
			}
		}
		if err != nil {
			s.u.close()
			return err
		}
	}
}

func (s *publishConn) syncServices() <-chan struct{} {
	d := s.p.cache.sync()
	for _, m := range d.changed {
		s.put(m)
	}
	for _, topic := range d.gone {
		// An empty message removes the retained one of an older epoch.
		s.put(newMessage(topic, nil, nil))
	}
	return d.next
}

func (s *publishConn) syncHealth(repeat bool) <-chan struct{} {
	m, next := s.p.cache.syncHealth(repeat)
	if m != nil {
		s.put(m)
	}
	return next
}

// send writes as many messages as the broker's window allows.
func (s *publishConn) send() error {
	var bufs net.Buffers
	size := 0
	for len(s.order) > 0 && len(s.inflight) < s.u.window {
		m := s.waiting[s.order[0]]
		delete(s.waiting, s.order[0])
		s.order = s.order[1:]
		h := header{v5: s.u.v5, qos: s.u.qos, retain: true}
		if h.qos > 0 {
			h.id = s.nextID()
		}
		head := publishHeader(nil, m, h)
		if !s.u.fits(m, head) {
			s.p.rejected.Add(1)
			s.p.alarms.Raise(alarm.MessageTooLarge, m.topic, fmt.Errorf("it has %d bytes, the broker takes %d", len(head)+len(m.payload), s.u.maxSize), "topic", m.topic)
			continue
		}
		if h.qos > 0 {
			s.inflight[h.id] = inflightMessage{m, time.Now()}
		} else {
			s.p.published.Add(1)
			s.p.alarms.Clear(m.topic)
		}
		bufs = append(bufs, head, m.payload)
		if size += len(head) + len(m.payload); size >= batchBytes {
			if err := s.u.write(bufs); err != nil {
				return err
			}
			bufs, size = nil, 0
			// The write may have taken long: a deposed leader stops here.
			if leading, _ := s.p.o.Leading(); !leading {
				return nil
			}
		}
	}
	if len(bufs) == 0 {
		return nil
	}
	return s.u.write(bufs)
}

func (s *publishConn) nextID() uint16 {
	for {
		s.lastID++
		if _, used := s.inflight[s.lastID]; s.lastID != 0 && !used {
			return s.lastID
		}
	}
}

// onAck handles a PUBACK. A rejected message waits for the next health message: an operator
// must change a rule of the broker first.
func (s *publishConn) onAck(a ack) {
	f, ok := s.inflight[a.id]
	if !ok {
		return
	}
	delete(s.inflight, a.id)
	if a.code < 0x80 {
		s.p.published.Add(1)
		s.p.alarms.Clear(f.m.topic)
		return
	}
	s.p.rejected.Add(1)
	s.p.alarms.Raise(alarm.MessageRejected, f.m.topic, fmt.Errorf("reason %#02x", a.code), "topic", f.m.topic)
	if _, newer := s.waiting[f.m.topic]; !newer {
		s.rejected[f.m.topic] = f.m
	}
}

// retryRejected retries rejected messages, unless newer ones were sent since.
func (s *publishConn) retryRejected() {
	refused := s.rejected
	s.rejected = make(map[string]*message)
	for topic, m := range refused {
		if held := s.p.cache.newest[topic]; held == m {
			s.put(m)
		}
	}
}

// checkAckTimeout fails if a message has been unacknowledged for too long.
func (s *publishConn) checkAckTimeout(now time.Time) error {
	for _, f := range s.inflight {
		if now.Sub(f.at) > s.p.o.Timeout {
			return fmt.Errorf("the broker has not acknowledged %s within %s", f.m.topic, s.p.o.Timeout)
		}
	}
	return nil
}

// sendDisconnect publishes that this leader stops, waits at most disconnectTimeout for the
// PUBACK, and disconnects, so that the broker discards the Will.
func (s *publishConn) sendDisconnect() {
	defer s.u.disconnect()
	h, _ := s.p.o.Source.Health()
	m, err := healthMessage(finalHealth(h, EventLeaderStopped))
	if err != nil {
		return
	}
	id := s.nextID()
	head := publishHeader(nil, m, header{v5: s.u.v5, qos: s.u.qos, retain: true, id: id})
	s.u.deadlineMu.Lock()
	s.u.timeout = min(s.u.timeout, disconnectTimeout)
	s.u.deadlineMu.Unlock()
	if s.u.write(net.Buffers{head, m.payload}) != nil || s.u.qos == 0 {
		return
	}
	timer := time.NewTimer(disconnectTimeout)
	defer timer.Stop()
	for {
		select {
		case a := <-s.u.acks:
			if a.id == id {
				return
			}
		case <-s.u.ended:
			return
		case <-timer.C:
			return
		}
	}
}
