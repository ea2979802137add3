package broker

import "sync/atomic"

// Reason is why the broker rejected a packet or ended a connection.
type Reason string

// The reasons, as labels in metrics.
const (
	ReasonConnections Reason = "connections" // over the limit of all connections
	ReasonPerIP       Reason = "per_ip"      // over the limit of one address
	ReasonTLS         Reason = "tls"         // the handshake failed
	ReasonNoConnect   Reason = "no_connect"  // no CONNECT within the deadline
	ReasonMalformed   Reason = "malformed"   // not MQTT, or a protocol violation
	ReasonTooLarge    Reason = "too_large"   // a packet over Limits.Packet
	ReasonCredentials Reason = "credentials" // wrong user or password
	ReasonWill        Reason = "will"        // a CONNECT with a Will
	ReasonPublish     Reason = "publish"     // a publish by a client
	ReasonFilter      Reason = "filter"      // a subscription outside of system/
	ReasonQuota       Reason = "quota"       // too many filters
	ReasonSlow        Reason = "slow"        // did not read or acknowledge messages in time
	ReasonSilent      Reason = "silent"      // keep alive expired
	ReasonPanic       Reason = "panic"       // a panic on the goroutine of the connection
)

var reasons = []Reason{
	ReasonConnections, ReasonPerIP, ReasonTLS, ReasonNoConnect, ReasonMalformed, ReasonTooLarge, ReasonCredentials,
	ReasonWill, ReasonPublish, ReasonFilter, ReasonQuota, ReasonSlow, ReasonSilent, ReasonPanic,
}

// Stats are the counters of a Broker. Refused has all reasons.
type Stats struct {
	Connections int // open now
	Accepted    uint64
	Refused     map[Reason]uint64
	Published   uint64 // messages from the source
	Delivered   uint64 // messages written to subscribers
	Conflated   uint64 // messages that a newer one replaced in a client's queue
	Dropped     uint64 // messages over a client's packet limit
}

func (s *Stats) add(more Stats) {
	s.Connections += more.Connections
	s.Accepted += more.Accepted
	s.Published += more.Published
	s.Delivered += more.Delivered
	s.Conflated += more.Conflated
	s.Dropped += more.Dropped
	if s.Refused == nil {
		s.Refused = make(map[Reason]uint64, len(more.Refused))
	}
	for r, n := range more.Refused {
		s.Refused[r] += n
	}
}

type counters struct {
	accepted, published, delivered, conflated, dropped atomic.Uint64

	rejected map[Reason]*atomic.Uint64 // filled once, then only read
}

func newCounters() *counters {
	c := &counters{rejected: make(map[Reason]*atomic.Uint64, len(reasons))}
	for _, r := range reasons {
		c.rejected[r] = new(atomic.Uint64)
	}
	return c
}

func (c *counters) reject(r Reason) { c.rejected[r].Add(1) }

func (c *counters) stats() Stats {
	s := Stats{
		Accepted: c.accepted.Load(), Published: c.published.Load(), Delivered: c.delivered.Load(),
		Conflated: c.conflated.Load(), Dropped: c.dropped.Load(), Refused: make(map[Reason]uint64, len(reasons)),
	}
	for r, n := range c.rejected {
		s.Refused[r] = n.Load()
	}
	return s
}
