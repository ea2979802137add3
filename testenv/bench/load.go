package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// target is one server and the request to make of it.
type target struct {
	name    string
	addr    string // host:port, or the path of a socket
	request []byte
	status  string       // expected, such as "200"
	cpu     func() usage // of the processes of the server; nil: not measured
}

// usage is processor time, in seconds.
type usage float64

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

// of adds the processes whose processor time a turn counts.
func (t target) of(pids ...int) target {
	t.cpu = func() (sum usage) {
		for _, pid := range pids {
			used, err := cpuOf(pid)
			if err != nil {
				return 0
			}
			sum += usage(used)
		}
		return sum
	}
	return t
}

// turn is what one turn of load measured.
type turn struct {
	perSecond float64
	p50, p99  time.Duration
	cpu       float64 // of the server a request, in microseconds; 0 when not measured
}

// load makes requests on conns kept-alive connections for d, one at a time on each. It is
// one thread with sockets of its own, so that the server has the rest of the machine: a
// goroutine a connection takes as much of it as the server that it measures. It has the last
// processor for itself, and the servers of reads have the others: where both have all, a
// slower server leaves the load less, and the ratios shrink. With one connection the two
// never run at the same time and share: else waking the other processor is what is measured.
func load(ctx context.Context, t target, conns int, d time.Duration) (turn, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cpus := loader()
	if conns == 1 {
		cpus = servers()
	}
	if cpus != nil {
		defer pin(cpus)()
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a turn makes no garbage
	g, err := newGenerator(t, conns)
	if err != nil {
		return turn{}, err
	}
	defer g.close()
	for i := range g.socks { // warm
		if err := g.send(&g.socks[i]); err != nil {
			return turn{}, err
		}
		if err := g.wait(true); err != nil {
			return turn{}, err
		}
	}
	g.took = g.took[:0]
	before := usage(0)
	if t.cpu != nil {
		before = t.cpu()
	}
	start := time.Now()
	g.until = start.Add(d)
	for i := range g.socks {
		if err := g.send(&g.socks[i]); err != nil {
			return turn{}, err
		}
	}
	if err := g.run(ctx); err != nil {
		return turn{}, fmt.Errorf("%s: %w", t.name, err)
	}
	elapsed := time.Since(start)
	out := turn{perSecond: float64(len(g.took)) / elapsed.Seconds()}
	if t.cpu != nil {
		out.cpu = float64(t.cpu()-before) / float64(len(g.took)) * 1e6
	}
	out.p50, out.p99 = quantile(g.took, 0.5), quantile(g.took, 0.99)
	return out, nil
}

// generator has the sockets of one turn.
type generator struct {
	target
	epoll int
	socks []sock
	until time.Time
	took  []time.Duration
	open  int // sockets with a request under way
}

// sock is one connection.
type sock struct {
	fd   int
	sent time.Time
	n    int // bytes of the response so far
	size int // of the last response
	buf  []byte
}

func newGenerator(t target, conns int) (*generator, error) {
	g := &generator{target: t, took: make([]time.Duration, 0, 1<<20)}
	var err error
	if g.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	for range conns {
		fd, err := rawDial(t.addr)
		if err != nil {
			g.close()
			return nil, err
		}
		g.socks = append(g.socks, sock{fd: fd, buf: make([]byte, 64<<10)})
		event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(len(g.socks) - 1)}
		if err := syscall.EpollCtl(g.epoll, syscall.EPOLL_CTL_ADD, fd, &event); err != nil {
			g.close()
			return nil, err
		}
	}
	return g, nil
}

func (g *generator) close() {
	for _, s := range g.socks {
		_ = syscall.Close(s.fd)
	}
	_ = syscall.Close(g.epoll)
}

// rawDial returns a connected socket that does not block.
func rawDial(addr string) (fd int, err error) {
	var to syscall.Sockaddr
	family := syscall.AF_UNIX
	if strings.HasPrefix(addr, "/") {
		to = &syscall.SockaddrUnix{Name: addr}
	} else {
		a, err := net.ResolveTCPAddr("tcp4", addr)
		if err != nil {
			return 0, err
		}
		family, to = syscall.AF_INET, &syscall.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())}
	}
	if fd, err = syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0); err != nil {
		return 0, err
	}
	if err = syscall.Connect(fd, to); err == nil && family == syscall.AF_INET {
		err = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	}
	if err == nil {
		err = syscall.SetNonblock(fd, true)
	}
	if err != nil {
		_ = syscall.Close(fd)
		return 0, fmt.Errorf("connect to %s: %w", addr, err)
	}
	return fd, nil
}

// send writes the request. It is small: it goes in one piece.
func (g *generator) send(s *sock) error {
	s.sent, s.n = time.Now(), 0
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(s.fd), uintptr(unsafe.Pointer(&g.request[0])), uintptr(len(g.request)))
	if errno != 0 || int(n) != len(g.request) {
		return fmt.Errorf("send: %d of %d bytes: %w", int(n), len(g.request), errno)
	}
	g.open++
	return nil
}

const (
	eventBatch   = 64
	pollMS       = 100
	silencePolls = 100
)

// run receives and sends until the end of the turn.
func (g *generator) run(ctx context.Context) error {
	for g.open > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := g.wait(false); err != nil {
			return err
		}
	}
	return nil
}

// wait receives what is there, and sends again; with one it returns after a whole response.
func (g *generator) wait(one bool) error {
	var events [eventBatch]syscall.EpollEvent
	for silent := 0; ; {
		// Go's scheduler need not know of a call that does not wait.
		n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(g.epoll), uintptr(unsafe.Pointer(&events[0])), eventBatch, 0, 0, 0)
		if errno == 0 && n == 0 {
			n, _, errno = syscall.Syscall6(syscall.SYS_EPOLL_PWAIT, uintptr(g.epoll), uintptr(unsafe.Pointer(&events[0])), eventBatch, pollMS, 0, 0)
		}
		switch {
		case errno == syscall.EINTR:
			continue
		case errno != 0:
			return errno
		case n == 0:
			if silent++; silent == silencePolls {
				return errors.New("no answer for 10 s")
			}
			continue
		}
		for _, e := range events[:n] {
			s := &g.socks[e.Fd]
			whole, err := s.receive(g.status)
			if err != nil {
				return err
			}
			if !whole {
				continue
			}
			now := time.Now()
			g.open--
			g.took = append(g.took, now.Sub(s.sent))
			if one {
				return nil
			}
			if now.Before(g.until) {
				if err := g.send(s); err != nil {
					return err
				}
			}
		}
		if !one {
			return nil
		}
	}
}

var (
	headEnd = []byte("\r\n\r\n")
	length  = []byte("\r\nContent-Length: ")
)

// receive reads, and reports whether the response is whole. One that is as long as the one
// before it is; the head of any other tells.
func (s *sock) receive(status string) (whole bool, err error) {
	if s.n == len(s.buf) {
		s.buf = append(s.buf, make([]byte, len(s.buf))...)
	}
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(s.fd), uintptr(unsafe.Pointer(&s.buf[s.n])), uintptr(len(s.buf)-s.n))
	switch {
	case errno == syscall.EAGAIN:
		return false, nil
	case errno != 0:
		return false, errno
	case n == 0:
		return false, errors.New("the server closed the connection")
	}
	s.n += int(n)
	if s.n > 12 && string(s.buf[9:12]) != status {
		return false, fmt.Errorf("want status %s, got: %s", status, s.buf[:s.n])
	}
	if s.n == s.size {
		return true, nil
	}
	want, err := wholeSize(s.buf[:s.n], status)
	if err != nil || want == 0 || s.n < want {
		return false, err
	}
	if s.n > want {
		return false, fmt.Errorf("%d bytes more than the answer", s.n-want)
	}
	s.size = want
	return true, nil
}

// wholeSize is the size of the response that b begins with, 0 while its head is not whole.
func wholeSize(b []byte, status string) (int, error) {
	head := bytes.Index(b, headEnd)
	if head < 0 {
		return 0, nil
	}
	want := head + len(headEnd)
	if at := bytes.Index(b[:head], length); at >= 0 && status != "304" {
		digits := b[at+len(length) : head+2]
		size, err := strconv.Atoi(string(digits[:bytes.IndexByte(digits, '\r')]))
		if err != nil {
			return 0, err
		}
		want += size
	}
	return want, nil
}

// series is what the turns of one side measured.
type series []turn

func (s series) each(of func(turn) float64) (out []float64) {
	for _, t := range s {
		out = append(out, of(t))
	}
	return out
}

func rate(t turn) float64 { return t.perSecond }
func cost(t turn) float64 { return t.cpu }
func tail(t turn) float64 { return float64(t.p99) }

// ratio is the median of the ratios of the rounds: what slows a round slows both sides.
func ratio(a, b series, of func(turn) float64) float64 {
	var all []float64
	for i := range min(len(a), len(b)) {
		if y := of(b[i]); y > 0 {
			all = append(all, of(a[i])/y)
		}
	}
	return median(all)
}

// duel lets the sides take turns, and another side begin each round.
func (b *bench) duel(sides []target, conns int) ([]series, error) {
	out := make([]series, len(sides))
	order := make([]int, len(sides))
	for i := range order {
		order[i] = i
	}
	for range b.rounds {
		for _, i := range order {
			t, err := load(b.ctx, sides[i], conns, b.slice)
			if err != nil {
				return nil, err
			}
			out[i] = append(out[i], t)
		}
		if len(order) == 2 {
			slices.Reverse(order)
		} else {
			order = append(order[1:], order[0])
		}
	}
	return out, nil
}
