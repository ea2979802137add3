package main

import (
	"context"
	"fmt"
	"net"
	"strings"
)

// conn is one connection with just enough HTTP to read an answer whole, for what is not a
// load.
type conn struct {
	net.Conn
	buf []byte
}

func dial(ctx context.Context, addr string) (*conn, error) {
	var d net.Dialer
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	return &conn{Conn: c, buf: make([]byte, 64<<10)}, nil
}

// roundTrip sends the request and reads its answer to the last byte.
func (c *conn) roundTrip(t target) error {
	_, err := c.answer(t)
	return err
}

func (c *conn) answer(t target) (body []byte, err error) {
	if _, err := c.Write(t.request); err != nil {
		return nil, err
	}
	n, want := 0, 0
	for want == 0 || n < want {
		if n == len(c.buf) {
			c.buf = append(c.buf, make([]byte, len(c.buf))...)
		}
		k, err := c.Read(c.buf[n:])
		if err != nil {
			return nil, err
		}
		n += k
		if want > 0 {
			continue
		}
		if want, err = wholeSize(c.buf[:n], t.status); err != nil {
			return nil, err
		}
		if want > 0 && string(c.buf[9:12]) != t.status {
			return nil, fmt.Errorf("want status %s, got: %s", t.status, c.buf[:n])
		}
	}
	if n != want {
		return nil, fmt.Errorf("%d bytes more than the answer", n-want)
	}
	head := strings.Index(string(c.buf[:n]), string(headEnd))
	return c.buf[head+len(headEnd) : n], nil
}
