package connlimit

import (
	"net/netip"
	"sync"
)

// Limits bound the connections of a Limiter.
type Limits struct {
	Max            int  // in all
	PerSource      int  // of one source; 0 is without a limit
	LoopbackExempt bool // the PerSource limit does not apply to this host
	Coarse         bool // write deadlines may be a second late: see Conn.SetWriteDeadline
}

// Result is what became of a connection.
type Result int

// The results of Acquire.
const (
	Accepted Result = iota
	Full            // Limits.Max is reached
	Crowded         // Limits.PerSource is reached
)

// Limiter counts connections.
type Limiter struct {
	limits Limits

	mu      sync.Mutex
	open    int
	sources map[netip.Prefix]int
}

// New returns a Limiter without connections.
func New(l Limits) *Limiter { return &Limiter{limits: l, sources: map[netip.Prefix]int{}} }

// Acquire counts a connection in, unless a limit is reached. An accepted
// connection must be released.
func (l *Limiter) Acquire(source netip.Prefix) Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.open >= l.limits.Max:
		return Full
	case l.limits.PerSource > 0 && l.sources[source] >= l.limits.PerSource && !(l.limits.LoopbackExempt && source.Addr().IsLoopback()):
		return Crowded
	}
	l.open++
	l.sources[source]++
	return Accepted
}

// Release counts an accepted connection out.
func (l *Limiter) Release(source netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.sources[source]--; l.sources[source] <= 0 {
		delete(l.sources, source)
	}
}

// Open returns the number of connections now.
func (l *Limiter) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// Source returns what a remote address (host:port) counts for; the zero Prefix
// when it is not an IP address.
func Source(remote string) netip.Prefix {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	addr := ap.Addr().Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits) // fails only for bits out of range
	return p
}
