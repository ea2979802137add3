package transport

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	headerTimeout      = 5 * time.Second
	headerReplyTimeout = 30 * time.Second // until the header of a response is read
	idleClient         = 90 * time.Second // less than idleServer, so that the client closes first
	idleServer         = 2 * time.Minute
	maxHeader          = 64 << 10
)

// httpSide serves HTTP/1.1 over the connections of one protocol.
type httpSide struct {
	queue  *queue
	server *http.Server
	log    *slog.Logger

	mu       sync.Mutex
	draining bool
	inflight int
	idle     chan struct{} // closed when draining and nothing is in flight
}

func (t *Transport) newHTTPSide(h http.Handler) *httpSide {
	s := &httpSide{queue: newQueue(t.addr), log: t.log, idle: make(chan struct{})}
	s.server = &http.Server{
		Handler:           s.counted(h),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       time.Minute,
		IdleTimeout:       idleServer,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(t.log.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return t.ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if p, ok := PeerOf(c); ok {
				return WithPeer(ctx, p)
			}
			return ctx
		},
	}
	return s
}

// newRPCSide sets no deadline for responses, which may be streams: Conn has one for each
// write.
func (t *Transport) newRPCSide() *httpSide {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p, ok := PeerFrom(r.Context()); ok && t.opts.Admit != nil {
			if err := t.opts.Admit(p, r); err != nil {
				writeError(w, err)
				return
			}
		}
		switch {
		case r.URL.Path == renewPath:
			t.serveRenew(w, r)
		case t.opts.RPC != nil:
			t.opts.RPC.ServeHTTP(w, r)
		default:
			writeError(w, conf.Errorf(conf.CodeNotFound, "no such call"))
		}
	})
	return t.newHTTPSide(http.MaxBytesHandler(h, t.opts.Limits.Body))
}

func (s *httpSide) serve() {
	if err := s.server.Serve(s.queue); err != http.ErrServerClosed && err != net.ErrClosed { //nolint:errorlint // both are returned as they are
		alarm.PortStopped.Report(s.log, "err", err)
	}
}

func (s *httpSide) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.begin() {
			w.Header().Set("Connection", "close")
			writeError(w, conf.Errorf(conf.CodeNoQuorum, "this agent is stopping").WithHint("use another one"))
			return
		}
		defer s.end()
		h.ServeHTTP(w, r)
	})
}

func (s *httpSide) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.inflight++
	return true
}

func (s *httpSide) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inflight--; s.draining && s.inflight == 0 {
		close(s.idle)
	}
}

// drain waits for the requests in progress.
func (s *httpSide) drain(ctx context.Context) error {
	s.server.SetKeepAlivesEnabled(false)
	s.mu.Lock()
	s.draining = true
	if s.inflight == 0 {
		close(s.idle)
	}
	s.mu.Unlock()
	select {
	case <-s.idle:
	case <-ctx.Done():
		return ctx.Err()
	}
	// The handlers are done; net/http may still write their responses. Idle connections
	// are not waited for.
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	_ = s.server.Shutdown(ctx)
	return nil
}

// flushTimeout is how long writing the last responses may take.
const flushTimeout = time.Second

func (s *httpSide) close() {
	_ = s.queue.Close()
	_ = s.server.Close()
}

// newClient makes the pool of connections to other members. The hosts of its URLs are
// node ids.
func (t *Transport) newClient() *http.Transport {
	return &http.Transport{
		DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			node, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, conf.Errorf(conf.CodeUsage, "bad address %.80q: %w", addr, err)
			}
			if t.opts.AddrOf != nil {
				if addr, ok := t.opts.AddrOf(node); ok {
					c, err := t.dial(ctx, ProtoRPC, addr, node, nil)
					if err != nil {
						return nil, err // not a nil *Conn in an interface
					}
					return c, nil
				}
			}
			return nil, conf.Errorf(conf.CodeNotFound, "the address of node %.80q is not known", node).
				WithHint("list the members: holdfast cluster members")
		},
		DisableCompression:     true,
		MaxIdleConnsPerHost:    8,
		MaxConnsPerHost:        t.opts.Limits.ConnsPerPeer / 2,
		IdleConnTimeout:        idleClient,
		ResponseHeaderTimeout:  headerReplyTimeout,
		MaxResponseHeaderBytes: maxHeader,
	}
}

// Client calls a member by its node id, at the address that Options.AddrOf returns. It
// talks to that member only. The scheme and the host of the URLs that it is given do
// not matter; it follows no redirect and uses no proxy.
func (t *Transport) Client(nodeID string) *http.Client {
	return &http.Client{
		Transport:     memberClient{t.client, nodeID},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// memberClient sends requests to one member.
type memberClient struct {
	pool   *http.Transport
	nodeID string
}

func (m memberClient) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "https", m.nodeID
	return m.pool.RoundTrip(r)
}
