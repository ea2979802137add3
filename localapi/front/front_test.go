package front

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-config/holdfast/replication/connlimit"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestMain(m *testing.M) { os.Exit(base.NoLeaks(m)) }

// fixed answers /v1/config/small and /v1/config/large, and panics at /v1/config/panic.
type fixed struct{}

const small = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsmall"

var largeBody = strings.Repeat("large", maxCopy)

func (fixed) Open(net.Conn) Caller { return fixed{} }

func (fixed) Host(host string) bool {
	if host == "panic" {
		panic(host)
	}
	return host == "localhost"
}

func (fixed) Answer(out []byte, r *Request) (head, body []byte, ok bool) {
	switch r.Path {
	case "/v1/config/small":
		return append(out, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"...), []byte("small"), true
	case "/v1/config/large":
		return append(out, "HTTP/1.1 200 OK\r\n\r\n"...), []byte(largeBody), true
	case "/v1/config/panic":
		panic("in the caller")
	}
	return nil, nil, false
}

// pipes is a listener in memory, which synctest can see through.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

var limits = Limits{Header: 5 * time.Second, Idle: 2 * time.Minute, Write: 30 * time.Second}

// run starts a front in a bubble. Connections that are handed on go to the channel.
func run(t *testing.T, most int, test func(t *testing.T, f *Front, dial func() net.Conn, handed <-chan net.Conn)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		in := newPipes()
		f := New(connlimit.Listen(in, connlimit.Limits{Max: most}, func() {}), fixed{}, limits)
		handed := make(chan net.Conn, 10)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				c, err := f.Accept()
				if err != nil {
					if !errors.Is(err, net.ErrClosed) {
						t.Error(err)
					}
					return
				}
				handed <- c
			}
		}()
		dial := func() net.Conn {
			ours, theirs := net.Pipe()
			in.conns <- theirs
			synctest.Wait()
			return ours
		}
		test(t, f, dial, handed)
		f.Stop(context.Background())
		<-done
	})
}

func request(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n" }

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, c net.Conn, text string) {
	t.Helper()
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != text {
		t.Fatalf("%.100q, %v, want %.100q", b, err, text)
	}
}

// endsIn wants the connection to be closed without a byte, after so long.
func endsIn(t *testing.T, c net.Conn, least, most time.Duration) {
	t.Helper()
	began := time.Now()
	n, err := c.Read(make([]byte, 1))
	if took := time.Since(began); n != 0 || !errors.Is(err, io.EOF) || took < least || took > most {
		t.Errorf("%d bytes, %v after %v, want the end in %v to %v", n, err, took, least, most)
	}
}

func TestDeadlines(t *testing.T) {
	run(t, 10, func(t *testing.T, _ *Front, dial func() net.Conn, _ <-chan net.Conn) {
		endsIn(t, dial(), 5*time.Second, 6*time.Second) // a new connection that sends nothing

		c := dial()
		send(t, c, "GET /v1/con") // or a part
		time.Sleep(4 * time.Second)
		send(t, c, "fig/small HTTP/1.1\r\n")
		endsIn(t, c, time.Second, 2*time.Second)

		c = dial()
		for range 3 {
			send(t, c, request("/v1/config/small"))
			want(t, c, small)
			time.Sleep(119 * time.Second)
		}
		send(t, c, request("/v1/config/small"))
		want(t, c, small)
		endsIn(t, c, 2*time.Minute, 2*time.Minute+time.Second)

		c = dial()
		send(t, c, request("/v1/config/small"))
		want(t, c, small)
		time.Sleep(time.Minute)
		send(t, c, "GET /v") // the second request has its own time
		endsIn(t, c, 5*time.Second, 6*time.Second)

		c = dial()
		send(t, c, request("/v1/config/large"))
		want(t, c, "HTTP/1.1 200 OK")
		time.Sleep(29 * time.Second)
		want(t, c, "\r\n\r\nlarge")
		time.Sleep(3 * time.Second)
		if rest, _ := io.ReadAll(c); len(rest) > 0 {
			t.Errorf("%d bytes after the time for a response", len(rest))
		}
	})
}

// What is not plain goes on with all that was read and not answered, as it came.
func TestHandOn(t *testing.T) {
	run(t, 10, func(t *testing.T, _ *Front, dial func() net.Conn, handed <-chan net.Conn) {
		for _, rest := range []string{
			request("/v1/config/none"), request("/v1/config/panic"), "POST / HTTP/1.1\r\n", "GET /v1/config/small HTTP/1.1\n", strings.Replace(request("/v1/config/small"), "localhost", "panic", 1),
			"GET /v1/config/small HTTP/1.1\r\nUser-Agent: " + strings.Repeat("x", maxHead),
		} {
			for _, before := range []string{"", request("/v1/config/small"), request("/v1/config/small") + request("/v1/config/small")} {
				c := dial()
				go func() { _, _ = io.WriteString(c, before+rest+"and more") }()
				want(t, c, strings.Repeat(small, strings.Count(before, "GET")))
				on := <-handed
				b := make([]byte, len(rest)+len("and more"))
				if _, err := io.ReadFull(on, b); err != nil || string(b) != rest+"and more" {
					t.Errorf("%q and %v, want %q", b, err, rest+"and more")
				}
				time.Sleep(time.Hour) // no deadline is left
				go func() { _, _ = io.WriteString(on, "from net/http") }()
				want(t, c, "from net/http")
				_ = on.Close()
			}
		}
	})
}

// Stop lets a response that is being written end, and closes the others at once.
func TestStop(t *testing.T) {
	run(t, 10, func(t *testing.T, f *Front, dial func() net.Conn, _ <-chan net.Conn) {
		fresh, idle, half, working := dial(), dial(), dial(), dial()
		send(t, idle, request("/v1/config/small"))
		want(t, idle, small)
		send(t, half, "GET /v1/con")
		send(t, working, request("/v1/config/large"))
		want(t, working, "HTTP/1.1 200 OK\r\n\r\n")
		stopped := make(chan struct{})
		go func() { defer close(stopped); f.Stop(context.Background()) }()
		for _, c := range []net.Conn{fresh, idle, half} {
			endsIn(t, c, 0, 0)
		}
		synctest.Wait()
		select {
		case <-stopped:
			t.Error("Stop returns while a response is being written")
		default:
		}
		want(t, working, largeBody)
		endsIn(t, working, 0, 0)
		<-stopped
	})
}

// Stop gives up on a client that does not read.
func TestStopIsBounded(t *testing.T) {
	run(t, 10, func(t *testing.T, f *Front, dial func() net.Conn, _ <-chan net.Conn) {
		c := dial()
		send(t, c, request("/v1/config/large"))
		want(t, c, "HTTP/1.1 200 OK\r\n\r\n")
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		began := time.Now()
		f.Stop(ctx)
		if took := time.Since(began); took != time.Second {
			t.Errorf("Stop took %v", took)
		}
	})
}

// A full port closes who has been without a request for longest, and nobody with one.
func TestRoomIsMade(t *testing.T) {
	run(t, 3, func(t *testing.T, _ *Front, dial func() net.Conn, _ <-chan net.Conn) {
		working, first, second := dial(), dial(), dial()
		send(t, working, request("/v1/config/large"))
		want(t, working, "HTTP/1.1 200 OK\r\n\r\n")
		send(t, first, request("/v1/config/small")) // and is the younger one now
		want(t, first, small)
		third := dial()
		endsIn(t, second, 0, 0)
		send(t, third, "GET /v1/config/sm") // a part makes nobody young
		send(t, first, request("/v1/config/small"))
		want(t, first, small)
		fourth := dial()
		endsIn(t, third, 0, 0)
		send(t, fourth, request("/v1/config/small"))
		want(t, fourth, small)
		want(t, working, largeBody)
		_ = fourth.Close()
	})
}

func TestParse(t *testing.T) {
	t.Parallel()
	whole := "GET /v1/config/stt-worker HTTP/1.1\r\nHost: localhost:2770\r\nIf-None-Match: W/\"7-aa\"\r\naccept: */*\r\n\r\n"
	h, v := parse([]byte(whole + "next"))
	if v != plain || h.size != len(whole) || !h.isGet || string(h.path) != "/v1/config/stt-worker" || string(h.host) != "localhost:2770" || string(h.tags) != `W/"7-aa"` {
		t.Errorf("%v %+v", v, h)
	}
	for i := range len(whole) {
		if _, v := parse([]byte(whole[:i])); v != partly {
			t.Errorf("%q: %v", whole[:i], v)
		}
	}
	// Any other byte at any place, or one more or less, is another plain read or none: it is
	// plain only as net/http reads it, too.
	for i := range len(whole) {
		for c := range 256 {
			for _, text := range []string{whole[:i] + string([]byte{byte(c)}) + whole[i+1:], whole[:i] + string([]byte{byte(c)}) + whole[i:], whole[:i] + whole[i+1:]} {
				h, v := parse([]byte(text))
				if v != plain {
					continue
				}
				r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader([]byte(text)[:h.size])))
				switch {
				case err != nil:
					t.Fatalf("%q: net/http says %v", text, err)
				case r.URL.Path != string(h.path) || r.URL.RawQuery != "" || r.Host != string(h.host) || r.Header.Get("If-None-Match") != string(h.tags) || (r.Method == http.MethodGet) != h.isGet:
					t.Fatalf("%q: net/http reads %v", text, r)
				case r.ContentLength != 0 || r.Close || r.Proto != "HTTP/1.1" || h.size > len(text):
					t.Fatalf("%q: net/http reads %v", text, r)
				}
			}
		}
	}
}
