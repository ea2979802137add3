package transport

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/pki"
)

// remote is a connection from an address, which notes that it was closed.
type remote struct {
	net.Conn
	addr   string
	closed bool
}

func (r *remote) RemoteAddr() net.Addr { return address(r.addr) }

func (r *remote) Close() error {
	r.closed = true
	return nil
}

func enter(t *testing.T, g *connLimiter, addr string, want Reason) (*connSlot, *remote) {
	t.Helper()
	r := &remote{addr: addr}
	p, reason := g.acquire(r)
	if reason != want {
		t.Fatalf("%s: %q, want %q", addr, reason, want)
	}
	return p, r
}

func aged(p *connSlot) {
	p.limiter.mu.Lock()
	defer p.limiter.mu.Unlock()
	p.since = p.since.Add(-time.Second)
}

// A source that crowds the door gives way itself; others do not suffer.
func TestTheCrowdingSourceGivesWay(t *testing.T) {
	g := newConnLimiter(Limits{HandshakesPerSource: 2, Handshakes: 10}.withDefaults())
	other, otherConn := enter(t, g, "10.0.0.9:1", "")
	aged(other)
	first, firstConn := enter(t, g, "10.0.0.1:1", "")
	enter(t, g, "10.0.0.1:2", "")
	enter(t, g, "10.0.0.1:3", ReasonCrowded) // all of them are young
	aged(first)
	enter(t, g, "10.0.0.1:3", "")
	if !firstConn.closed || !first.wasEvicted() || otherConn.closed {
		t.Errorf("evicted: first %v, other %v", firstConn.closed, otherConn.closed)
	}
	if reason := first.finishHandshake(ProtoRaft, pki.Peer{NodeID: "a"}); reason != ReasonCrowded {
		t.Errorf("an evicted handshake settles: %q", reason)
	}
	first.done()
	first.done()
	if pending, open := g.count(); pending != 3 || open != 0 {
		t.Errorf("%d handshakes, %d open", pending, open)
	}
}

func TestTheOldestGivesWay(t *testing.T) {
	g := newConnLimiter(Limits{Handshakes: 2}.withDefaults())
	first, conn := enter(t, g, "10.0.0.1:1", "")
	second, _ := enter(t, g, "10.0.0.2:1", "")
	enter(t, g, "10.0.0.3:1", ReasonCrowded)
	aged(first)
	aged(second)
	enter(t, g, "10.0.0.3:1", "")
	if !conn.closed || second.wasEvicted() {
		t.Error("not the oldest gave way")
	}
	if reason := second.finishHandshake(ProtoRaft, pki.Peer{NodeID: "a"}); reason != "" {
		t.Errorf("%q", reason)
	}
	// What is settled never gives way.
	third, _ := enter(t, g, "10.0.0.4:1", "")
	aged(third)
	enter(t, g, "10.0.0.5:1", ReasonCrowded)
	second.done()
	if len(g.peers) != 0 {
		t.Errorf("left over: %v", g.peers)
	}
}

func TestSources(t *testing.T) {
	for addr, want := range map[string]string{
		"10.0.0.1:80":              "10.0.0.1",
		"[::ffff:10.0.0.1]:80":     "10.0.0.1",
		"[2001:db8::1]:80":         "2001:db8::",
		"[2001:db8:0:0:ffff::]:80": "2001:db8::",
		"[2001:db8:0:1::1]:80":     "2001:db8:0:1::",
		"[fe80::1%eth0]:80":        "fe80::",
		"@":                        "invalid IP",
	} {
		if got := sourceOf(&remote{addr: addr}).Addr().String(); got != want {
			t.Errorf("%s counts for %s, want %s", addr, got, want)
		}
	}
}

// A closed gate lets nobody in, and ends what is on its way.
func TestClosedGate(t *testing.T) {
	g := newConnLimiter(Limits{}.withDefaults())
	p, conn := enter(t, g, "10.0.0.1:1", "")
	g.close()
	if reason := p.finishHandshake(ProtoJoin, pki.Peer{}); !conn.closed || reason != ReasonShutdown {
		t.Errorf("closed %v, settles %q", conn.closed, reason)
	}
	enter(t, g, "10.0.0.1:2", ReasonShutdown)
}

func TestFailures(t *testing.T) {
	f := newFailureLimiter(2, time.Minute)
	a, now := netip.MustParseAddr("10.0.0.1"), time.Now()
	take := func(at time.Time, want bool) {
		t.Helper()
		if got := f.take(a, at); got != want {
			t.Fatalf("%v after %v", got, at.Sub(now))
		}
	}
	take(now, true)
	take(now, true)
	take(now, false)
	f.giveBack(a)
	take(now, true)
	take(now.Add(59*time.Second), false)
	take(now.Add(time.Minute), true)
	take(now.Add(time.Minute), false)
	take(now.Add(-time.Hour), false) // a clock that goes back gives nothing
	// A flood of sources does not take memory endlessly, and those that failed
	// are remembered longer than those that did not.
	for i := range 2 * maxSources {
		other := netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})
		f.take(other, now.Add(time.Minute))
		f.giveBack(other)
	}
	if n := len(f.sources); n > maxSources {
		t.Errorf("%d sources are kept", n)
	}
	take(now.Add(time.Minute), false)
	for i := range 2 * maxSources {
		f.take(netip.AddrFrom4([4]byte{12, byte(i >> 16), byte(i >> 8), byte(i)}), now.Add(time.Minute))
	}
	if n := len(f.sources); n > maxSources {
		t.Errorf("%d sources are kept", n)
	}
}

func TestReachable(t *testing.T) {
	for in, want := range map[string]address{"0.0.0.0:5": "127.0.0.1:5", "[::]:5": "127.0.0.1:5", "10.0.0.1:5": "10.0.0.1:5"} {
		a, err := net.ResolveTCPAddr("tcp", in)
		if err != nil {
			t.Fatal(err)
		}
		if got := reachable(a); got != want {
			t.Errorf("%s is reached at %s", in, got)
		}
	}
}
