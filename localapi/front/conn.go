package front

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/replication/connlimit"
)

const (
	maxHead  = 4 << 10         // a longer request is not plain
	maxCopy  = 16 << 10        // a longer body is written from where it is
	maxBatch = 64 << 10        // of responses to requests that came together
	minNext  = 4               // net/http looks at the next request when so many bytes are there
	slack    = 1 * time.Second // by which a deadline may be late
)

// States of a connection.
const (
	idle   int32 = iota // waits for a request, or the rest of one; Stop may close it
	busy                // answers, or is being handed on
	closed              // by Stop
)

// conn is a connection that is not handed on.
type conn struct {
	net     *connlimit.Conn
	f       *Front
	caller  Caller
	state   atomic.Int32
	readBy  time.Time // deadlines that are set
	writeBy time.Time

	in      []byte    // what was read and not answered, in buf
	first   bool      // no request is answered yet
	since   time.Time // when the request that is being read began; zero when it has not
	out     []byte    // responses that are not written
	last    []byte    // the last plain read: most clients send the same again and again
	request Request   // what it says
	host    string    // the last Host that the caller accepted
	buf     [maxHead]byte
}

var outs = sync.Pool{New: func() any { return new([]byte) }}

// serve answers until something else than a plain read comes.
func (c *conn) serve() {
	defer c.f.conns.Done()
	c.caller = c.f.reads.Open(c.net)
	handOn := c.run()
	c.f.forget(c)
	if !handOn {
		_ = c.net.Close()
		return
	}
	_ = c.net.NetConn().SetWriteDeadline(time.Time{})
	c.net.Unread(append([]byte(nil), c.in...))
	c.f.handOn(c.net)
}

// run reports whether the connection is to be handed on; else it is done with.
func (c *conn) run() (handOn bool) {
	c.in, c.first, c.since = c.buf[:0], true, time.Now() // the wait for the first byte counts
	c.setReadBy(c.since.Add(c.f.limits.Header))
	for {
		n, err := c.net.Read(c.buf[len(c.in):])
		if n == 0 {
			// The end. net/http has a response for some parts of a request.
			return errors.Is(err, io.EOF) && len(c.in) >= c.least() && c.state.CompareAndSwap(idle, busy)
		}
		if !c.state.CompareAndSwap(idle, busy) {
			return false
		}
		c.in = c.buf[:len(c.in)+n]
		now := time.Now()
		v, err := c.answerAll(now)
		switch {
		case err != nil:
			return false
		case v == other:
			return true
		case len(c.in) >= c.least():
			if c.since.IsZero() {
				c.since = now
			}
			c.setReadBy(c.since.Add(c.f.limits.Header))
		case v == plain:
			c.setReadBy(now.Add(c.f.limits.Idle))
		}
		if !c.state.CompareAndSwap(busy, idle) || c.f.stopped.Load() {
			return false
		}
	}
}

// least is how many bytes a request begins with, for net/http.
func (c *conn) least() int {
	if c.first {
		return 1
	}
	return minNext
}

// answerAll answers the requests that are there, and says what the rest is: plain when
// too little is left to tell, partly when nothing has changed.
func (c *conn) answerAll(now time.Time) (v verdict, err error) {
	p := outs.Get().(*[]byte)
	c.out = (*p)[:0]
	rest := c.in
	v = partly
	for len(rest) >= c.least() && err == nil {
		if v = c.read(rest); v != plain {
			break
		}
		if len(rest) == len(c.in) { // the first one
			connlimit.Track(c.net, http.StateActive)
		}
		if v, err = c.answer(now); v != plain {
			break
		}
		c.first, c.since = false, time.Time{}
		rest = rest[len(c.last):]
	}
	if v == partly && len(rest) == len(c.buf) {
		v = other
	}
	if len(rest) < len(c.in) {
		if err == nil && len(c.out) > 0 {
			err = c.flush(now, nil)
		}
		connlimit.Track(c.net, http.StateIdle)
		c.in = c.buf[:copy(c.buf[:], rest)]
	}
	if cap(c.out) <= 2*maxBatch {
		*p = c.out
		outs.Put(p)
	}
	c.out = nil
	return v, err
}

// read finds the request at the start of b: then last and request are it.
func (c *conn) read(b []byte) verdict {
	if n := len(c.last); n > 0 && len(b) >= n && string(b[:n]) == string(c.last) {
		return plain
	}
	h, v := parse(b)
	if v != plain {
		return v
	}
	if string(h.host) != c.host {
		host := string(h.host)
		if !c.allows(host) {
			return other
		}
		c.host = host
	}
	c.last = append(c.last[:0], b[:h.size]...)
	c.request = Request{Path: string(h.path), Head: !h.isGet, Tags: string(h.tags)}
	return plain
}

// answer adds the response to request to out. Where there is none, the request is other.
func (c *conn) answer(now time.Time) (verdict, error) {
	c.request.Date = c.f.date(now)
	was := len(c.out)
	out, body, ok := c.ask()
	if !ok {
		c.out = c.out[:was]
		return other, nil
	}
	c.out = out
	switch {
	case len(body) > maxCopy:
		return plain, c.flush(now, body)
	case len(body) > 0:
		c.out = append(c.out, body...)
	}
	if len(c.out) > maxBatch {
		return plain, c.flush(now, nil)
	}
	return plain, nil
}

// allows and ask call the caller. What panics in it is for net/http's handler, which says
// what it says then.
func (c *conn) allows(host string) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return c.caller.Host(host)
}

func (c *conn) ask() (out, body []byte, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return c.caller.Answer(c.out, &c.request)
}

// flush writes the responses, and then body.
func (c *conn) flush(now time.Time, body []byte) error {
	if by := now.Add(c.f.limits.Write); c.writeBy.Before(by) || c.writeBy.After(by.Add(slack)) {
		c.writeBy = by.Add(slack)
		if err := c.net.NetConn().SetWriteDeadline(c.writeBy); err != nil {
			return err
		}
	}
	var err error
	if body == nil {
		_, err = c.net.NetConn().Write(c.out)
	} else {
		_, err = (&net.Buffers{c.out, body}).WriteTo(c.net.NetConn())
	}
	c.out = c.out[:0]
	return err
}

func (c *conn) setReadBy(by time.Time) {
	if c.readBy.Before(by) || c.readBy.After(by.Add(slack)) {
		c.readBy = by.Add(slack)
		_ = c.net.SetReadDeadline(c.readBy)
	}
}
