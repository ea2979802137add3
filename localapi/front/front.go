package front

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/replication/connlimit"
)

// Reads is what is behind the front: the documents, and who may read them.
type Reads interface {
	// Open returns the caller at the other end of a connection.
	Open(c net.Conn) Caller
}

// Caller answers the requests of one connection, one at a time.
type Caller interface {
	// Host reports whether requests with this Host header are answered here.
	Host(host string) bool
	// Answer appends the head of the response to a request to out and returns it with the
	// body, which nobody changes. ok is false where the handler behind net/http has to
	// answer; then nothing has been counted.
	Answer(out []byte, r *Request) (head, body []byte, ok bool)
}

// Request is a plain read.
type Request struct {
	Path string // /v1/config, or /v1/config/ and a name of lower-case letters, digits and hyphens
	Tags string // If-None-Match
	Date []byte // value of the header of the response
	Head bool   // HEAD: no body
}

// Limits are those of the net/http server behind.
type Limits struct {
	Header time.Duration // for a request, once it has begun
	Idle   time.Duration // between requests
	Write  time.Duration // for a response
}

// Front accepts the connections of a port. It is the net.Listener of those that are handed
// on.
type Front struct {
	port   *connlimit.Listener
	reads  Reads
	limits Limits

	stamp   atomic.Pointer[stamp]
	stopped atomic.Bool
	start   sync.Once
	handed  chan net.Conn
	errs    chan error
	end     context.Context
	cancel  context.CancelFunc

	mu    sync.Mutex
	open  map[*conn]struct{}
	conns sync.WaitGroup // goroutines
}

// New returns a Front that begins with the first Accept.
func New(port *connlimit.Listener, reads Reads, limits Limits) *Front {
	f := &Front{
		port: port, reads: reads, limits: limits,
		handed: make(chan net.Conn), errs: make(chan error), open: map[*conn]struct{}{},
	}
	f.end, f.cancel = context.WithCancel(context.Background())
	return f
}

// Accept implements net.Listener: it returns a connection whose next request is not a plain
// read.
func (f *Front) Accept() (net.Conn, error) {
	f.start.Do(func() { f.conns.Go(f.accept) })
	select {
	case c := <-f.handed:
		return c, nil
	case err := <-f.errs:
		return nil, err
	case <-f.end.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener: no connection is accepted or handed on any more. Those
// that are open stay until Stop.
func (f *Front) Close() error {
	f.cancel()
	return f.port.Close()
}

// Addr implements net.Listener.
func (f *Front) Addr() net.Addr { return f.port.Addr() }

// Stop closes the listener and the connections that are not handed on: at once those
// without a request, the others after their response, or when ctx ends.
func (f *Front) Stop(ctx context.Context) {
	f.stopped.Store(true)
	_ = f.Close()
	f.each(func(c *conn) {
		if c.state.CompareAndSwap(idle, closed) {
			_ = c.net.Close()
		}
	})
	defer context.AfterFunc(ctx, func() { f.each(func(c *conn) { _ = c.net.Close() }) })()
	f.conns.Wait()
}

func (f *Front) each(do func(*conn)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.open {
		do(c)
	}
}

// accept starts the goroutines of connections. What it cannot accept net/http is told,
// which waits and tries again, or gives up.
func (f *Front) accept() {
	for {
		accepted, err := f.port.Accept()
		if err != nil {
			select {
			case f.errs <- err:
				continue
			case <-f.end.Done():
				return
			}
		}
		c := &conn{net: accepted.(*connlimit.Conn), f: f}
		connlimit.Track(c.net, http.StateNew)
		f.mu.Lock()
		if f.stopped.Load() {
			f.mu.Unlock()
			_ = c.net.Close()
			return
		}
		f.open[c] = struct{}{}
		f.conns.Add(1)
		f.mu.Unlock()
		go c.serve()
	}
}

func (f *Front) forget(c *conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, c)
}

// handOn gives a connection to net/http.
func (f *Front) handOn(c net.Conn) {
	select {
	case f.handed <- c:
	case <-f.end.Done():
		_ = c.Close()
	}
}

// stamp is a second as a Date header has it.
type stamp struct {
	second int64
	text   []byte
}

func (f *Front) date(now time.Time) []byte {
	s := f.stamp.Load()
	if sec := now.Unix(); s == nil || s.second != sec {
		s = &stamp{sec, now.UTC().AppendFormat(nil, http.TimeFormat)}
		f.stamp.Store(s)
	}
	return s.text
}
