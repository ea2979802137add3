package connlimit

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/testenv/base"
)

// pretend is a connection that comes from another address.
type pretend struct {
	net.Conn
	from string
}

type pretendAddr string

func (a pretendAddr) Network() string { return "tcp" }
func (a pretendAddr) String() string  { return string(a) }

func (p pretend) RemoteAddr() net.Addr { return pretendAddr(p.from) }

// pipes is a listener of connections that a test makes.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return pretendAddr("here") }

func TestConnectionsAreLimited(t *testing.T) {
	t.Parallel()
	in := make(pipes)
	var rejected atomic.Int64
	l := Listen(in, Limits{Max: 6, PerSource: 3, LoopbackExempt: true}, func() { rejected.Add(1) })
	accepted := make(chan net.Conn)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	// dial says whether a connection from there is taken; else what it was told.
	dial := func(from string) (net.Conn, *http.Response) {
		ours, theirs := net.Pipe()
		in <- pretend{theirs, from}
		told := make(chan *http.Response, 1)
		go func() {
			_ = ours.SetReadDeadline(time.Now().Add(base.Patience))
			resp, err := http.ReadResponse(bufio.NewReader(ours), nil)
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = ours.Close()
				told <- resp
			}
		}()
		select {
		case c := <-accepted:
			return c, nil
		case resp := <-told:
			return nil, resp
		}
	}
	refused := func(from string) {
		t.Helper()
		if c, resp := dial(from); c != nil || resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
			t.Errorf("from %s: taken, or told %v", from, resp)
		}
	}
	var open []net.Conn
	taken := func(from string) {
		t.Helper()
		c, resp := dial(from)
		if c == nil {
			t.Fatalf("from %s: %v", from, resp.Status)
		}
		open = append(open, c)
	}
	for range 3 {
		taken("192.0.2.1:1")
	}
	refused("192.0.2.1:2")
	taken("192.0.2.2:1")
	_ = open[0].Close()
	_ = open[0].Close() // counts once
	taken("192.0.2.1:3")
	refused("192.0.2.1:4")
	taken("127.0.0.1:1")
	taken("127.0.0.1:2")
	refused("192.0.2.3:1") // all places are taken
	close(in)
	for _, c := range open {
		_ = c.Close()
	}
	l.Wait()
	if l.Open() != 0 || len(l.sources) != 0 || rejected.Load() != 3 {
		t.Errorf("%d open, from %v, %d rejected", l.Open(), l.sources, rejected.Load())
	}
}

// deadlines notes the write deadlines that are set.
type deadlines struct {
	net.Conn
	set []time.Time
}

func (d *deadlines) SetWriteDeadline(t time.Time) error { d.set = append(d.set, t); return nil }
func (d *deadlines) Write(b []byte) (int, error)        { return len(b), nil }

// With Coarse a timer is set for the first write, after a second, for a nearer deadline, and
// for none: never for a deadline that no write follows.
func TestCoarseDeadlines(t *testing.T) {
	t.Parallel()
	raw := &deadlines{}
	c := &Conn{Conn: raw, coarse: true}
	now := time.Now()
	for _, step := range []struct {
		by   time.Time
		want time.Time // zero: the timer stays as it is
	}{
		{by: now.Add(30 * time.Second), want: now.Add(31 * time.Second)},
		{by: now.Add(30*time.Second + time.Millisecond)},
		{by: now.Add(31 * time.Second)},
		{by: now.Add(31*time.Second + time.Millisecond), want: now.Add(32*time.Second + time.Millisecond)},
		{by: now.Add(5 * time.Second), want: now.Add(6 * time.Second)},
		{by: now.Add(-time.Hour), want: now.Add(-time.Hour + time.Second)},
	} {
		before := len(raw.set)
		if err := c.SetWriteDeadline(step.by); err != nil || len(raw.set) != before {
			t.Fatal("a deadline alone sets a timer", err)
		}
		_, _ = c.Write([]byte("x"))
		switch got := raw.set[before:]; {
		case step.want.IsZero() && len(got) != 0, !step.want.IsZero() && (len(got) != 1 || !got[0].Equal(step.want)):
			t.Errorf("deadline in %v: the timer is set to %v, want %v", step.by.Sub(now), got, step.want)
		}
	}
	_ = c.SetWriteDeadline(time.Time{})
	_, _ = c.Write([]byte("x"))
	if last := raw.set[len(raw.set)-1]; !last.IsZero() {
		t.Errorf("the timer of a write without a deadline is set to %v", last)
	}
}

// What was read ahead is read again, by whom the connection is handed on to.
func TestUnread(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	defer ours.Close()
	c := &Conn{Conn: theirs, idle: &idle{}, release: func() {}}
	defer c.Close()
	c.Unread([]byte("GET /"))
	go func() { _, _ = io.WriteString(ours, " HTTP/1.1") }()
	var got []byte
	for len(got) < len("GET / HTTP/1.1") {
		b := make([]byte, 3)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b[:n]...)
	}
	if string(got) != "GET / HTTP/1.1" {
		t.Errorf("%q", got)
	}
}
