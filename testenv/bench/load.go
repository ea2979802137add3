package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// target is one server and the request to make of it.
type target struct {
	name    string
	addr    string // host:port, or the path of a socket
	request []byte
	status  string // expected, such as "200"
}

func get(name, addr, path, etag string) target {
	t := target{name: name, addr: addr, status: "200"}
	conditional := ""
	if etag != "" {
		conditional = "If-None-Match: " + etag + "\r\n"
		t.status = "304"
	}
	t.request = []byte("GET " + path + " HTTP/1.1\r\nHost: " + addr + "\r\n" + conditional + "\r\n")
	return t
}

// turn is what one turn of load measured.
type turn struct {
	perSecond float64
	p50, p99  time.Duration
}

// load makes requests on conns kept-alive connections for d, one at a time on each.
func load(ctx context.Context, t target, conns int, d time.Duration) (turn, error) {
	ctx, cancel := context.WithTimeout(ctx, d+10*time.Second)
	defer cancel()
	all := make([]*conn, conns)
	for i := range all {
		c, err := dial(ctx, t.addr)
		if err != nil {
			return turn{}, err
		}
		defer c.Close()
		all[i] = c
		if err := c.roundTrip(t); err != nil { // warm
			return turn{}, err
		}
	}
	took := make([][]time.Duration, conns)
	errs := make([]error, conns)
	var wg sync.WaitGroup
	start := time.Now()
	end := start.Add(d)
	for i, c := range all {
		took[i] = make([]time.Duration, 0, 1<<14)
		wg.Go(func() {
			for before := time.Now(); before.Before(end); {
				if errs[i] = c.roundTrip(t); errs[i] != nil {
					return
				}
				now := time.Now()
				took[i] = append(took[i], now.Sub(before))
				before = now
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	var latencies []time.Duration
	for i := range all {
		if errs[i] != nil {
			return turn{}, fmt.Errorf("%s: %w", t.name, errs[i])
		}
		latencies = append(latencies, took[i]...)
	}
	return turn{
		perSecond: float64(len(latencies)) / elapsed.Seconds(),
		p50:       quantile(latencies, 0.5), p99: quantile(latencies, 0.99),
	}, nil
}

// conn is one connection with just enough HTTP to read an answer whole.
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

var (
	headEnd = []byte("\r\n\r\n")
	length  = []byte("\r\nContent-Length: ")
)

// roundTrip sends the request and reads its answer to the last byte.
func (c *conn) roundTrip(t target) error {
	_, err := c.answer(t)
	return err
}

func (c *conn) answer(t target) (body []byte, err error) {
	if _, err := c.Write(t.request); err != nil {
		return nil, err
	}
	n, head, want := 0, -1, 0
	for head < 0 || n < want {
		if n == len(c.buf) {
			c.buf = append(c.buf, make([]byte, len(c.buf))...)
		}
		k, err := c.Read(c.buf[n:])
		if err != nil {
			return nil, err
		}
		n += k
		if head >= 0 {
			continue
		}
		if head = bytes.Index(c.buf[:n], headEnd); head < 0 {
			continue
		}
		if string(c.buf[9:12]) != t.status {
			return nil, fmt.Errorf("want status %s, got: %s", t.status, c.buf[:n])
		}
		want = head + len(headEnd)
		if at := bytes.Index(c.buf[:head], length); at >= 0 && t.status != "304" {
			digits := c.buf[at+len(length) : head+2]
			size, err := strconv.Atoi(string(digits[:bytes.IndexByte(digits, '\r')]))
			if err != nil {
				return nil, err
			}
			want += size
		}
	}
	if n != want {
		return nil, fmt.Errorf("%d bytes more than the answer", n-want)
	}
	return c.buf[head+len(headEnd) : n], nil
}

// duel lets the sides take turns and returns the medians of each.
func (b *bench) duel(sides []target, conns int) ([]turn, error) {
	rates := make([][]float64, len(sides))
	p50s := make([][]time.Duration, len(sides))
	p99s := make([][]time.Duration, len(sides))
	for range b.rounds {
		for i, s := range sides {
			t, err := load(b.ctx, s, conns, b.slice)
			if err != nil {
				return nil, err
			}
			rates[i] = append(rates[i], t.perSecond)
			p50s[i], p99s[i] = append(p50s[i], t.p50), append(p99s[i], t.p99)
		}
	}
	out := make([]turn, len(sides))
	for i := range sides {
		out[i] = turn{perSecond: median(rates[i]), p50: median(p50s[i]), p99: median(p99s[i])}
	}
	return out, nil
}
