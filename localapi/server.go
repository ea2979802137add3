package localapi

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/julienschmidt/httprouter"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-config/holdfast/localapi/front"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/connlimit"
)

// Defaults and limits of the server.
const (
	DefaultMaxWait        = 5 * time.Minute
	DefaultMaxConnections = 4096
	Heartbeat             = 15 * time.Second // of a stream

	headerTimeout  = 5 * time.Second
	idleTimeout    = 2 * time.Minute
	writeTimeout   = 30 * time.Second        // of one response, and of one event of a stream
	stopGrace      = 1500 * time.Millisecond // for responses in progress
	maxHeaderBytes = 16 << 10
	bodyTimeout    = time.Second // of a body that is not read
	postTimeout    = 5 * time.Second
)

// Options are what a Server needs. Source is required.
type Options struct {
	Service string             // the agent's own service, for /v1/config; may be empty
	Source  Source             // the documents
	Token   func() string      // the local token; nil or "" accepts none
	Keys    func() []Key       // the keys that verify signed updates
	Health  func() conf.Health // for /healthz
	Ready   func() error       // for /readyz; nil is always ready

	// OwnVersions says that versions are the agent's own count, or not signed, as an
	// observer's are: a lower one is not older.
	OwnVersions bool

	// Unheard says of a service without a document that this agent should have one and
	// has not received it yet. Nil: whatever the store has is there when the source is the
	// replica.
	Unheard func(service string) bool

	// Explain returns where the values of a service come from, with the values of
	// secrets in clear only when open is set; nil is unsupported.
	Explain func(ctx context.Context, service string, open bool) (conf.Explanation, error)

	Logger  *slog.Logger         // default: discard
	Metrics *prometheus.Registry // where to register, and what /metrics shows; nil makes its own

	AllowedHosts   []string      // more names for the Host header, without a port
	AllowedUIDs    []uint32      // that may read secrets on the unix socket, besides this uid and root
	MaxWait        time.Duration // longest ?wait=, DefaultMaxWait when 0
	MaxConnections int           // open connections of one listener, DefaultMaxConnections when 0
	OnFull         func()        // called for each connection over MaxConnections; may be nil

	// Front answers plain reads without net/http: see localapi/front.
	Front bool
}

// Key is a public key that verifies signed updates, as /v1/keys shows it.
type Key struct {
	ID        string `json:"key_id"`
	Algorithm string `json:"algorithm"`
	PEM       string `json:"public_key_pem"`
	Raw       string `json:"public_key"` // base64 of the 32 bytes

	// Set during a rotation.
	Proof     string `json:"proof,omitempty"`      // base64 of a signature of the key before it
	State     string `json:"state,omitempty"`      // announced, active, old
	NotBefore string `json:"not_before,omitempty"` // when it became active
	NotAfter  string `json:"not_after,omitempty"`  // end of its grace period
}

// NewKey describes an Ed25519 public key.
func NewKey(id string, pub ed25519.PublicKey) (Key, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil || len(pub) != ed25519.PublicKeySize {
		return Key{}, conf.Errorf(conf.CodeInternal, "public key %s is not an Ed25519 key", id)
	}
	return Key{
		ID: id, Algorithm: "Ed25519",
		PEM: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
		Raw: base64.StdEncoding.EncodeToString(pub),
	}, nil
}

// Server serves the local HTTP API.
type Server struct {
	opts    Options
	source  Source
	log     *slog.Logger
	router  *httprouter.Router
	metrics *metrics
	prom    http.Handler
	guard   *guard

	life     context.Context // ends when stopping does
	stopping <-chan struct{} // closed by the first Stop
	end      context.CancelFunc
	mu       sync.Mutex
	stopped  bool
	servers  []*http.Server
	ports    []*connlimit.Listener
	fronts   []*front.Front
	serving  sync.WaitGroup // Serve calls
}

// New makes a Server without a listener.
func New(opts Options) (*Server, error) {
	if opts.Source == nil {
		return nil, conf.Errorf(conf.CodeInternal, "the local API needs a source")
	}
	if opts.Service != "" {
		if err := conf.CheckService(opts.Service); err != nil {
			return nil, err
		}
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Metrics == nil {
		opts.Metrics = prometheus.NewRegistry()
	}
	if opts.MaxWait <= 0 {
		opts.MaxWait = DefaultMaxWait
	}
	if opts.MaxConnections <= 0 {
		opts.MaxConnections = DefaultMaxConnections
	}
	s := &Server{
		opts: opts, source: opts.Source, log: opts.Logger, metrics: &metrics{state: opts.Source.State},
	}
	s.life, s.end = context.WithCancel(context.Background())
	s.stopping = s.life.Done()
	var err error
	if s.guard, err = newGuard(opts, s.metrics); err != nil {
		return nil, err
	}
	s.metrics.connections = s.connections
	if err := opts.Metrics.Register(s.metrics); err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "register metrics: %w", err)
	}
	s.prom = metricsHandler(opts.Metrics)
	s.router = s.routes()
	s.guard.posts = posts(s.router)
	return s, nil
}

// routes has everything of its own but a whole document, which ServeHTTP handles first: the
// router allocates for a path with a parameter. It gets reads only.
func (s *Server) routes() *httprouter.Router {
	r := httprouter.New()
	r.RedirectTrailingSlash, r.RedirectFixedPath = false, false
	r.HandleMethodNotAllowed, r.HandleOPTIONS = false, false
	r.NotFound = http.HandlerFunc(s.unknownPath)
	for path, h := range map[string]httprouter.Handle{
		"/v1/config": func(w http.ResponseWriter, r *http.Request, _ httprouter.Params) {
			s.serveResource(w, r, routeDocument, resource{service: s.opts.Service, own: true})
		},
		"/v1/config/:service/:key": func(w http.ResponseWriter, r *http.Request, p httprouter.Params) {
			s.serveResource(w, r, routeKey, resource{service: p[0].Value, kind: kindKey, key: p[1].Value})
		},
		"/v1/env/:service": func(w http.ResponseWriter, r *http.Request, p httprouter.Params) {
			s.serveResource(w, r, routeEnv, resource{service: p[0].Value, kind: kindEnv})
		},
		"/v1/env": func(w http.ResponseWriter, r *http.Request, _ httprouter.Params) {
			s.serveResource(w, r, routeEnv, resource{service: s.opts.Service, own: true, kind: kindEnv})
		},
		"/v1/watch/:service": s.watchNamed,
		"/v1/watch":          s.watchOwn,
		"/v1/keys":           s.serveKeys,
		"/healthz":           s.serveHealth,
		"/readyz":            s.serveReady,
		"/metrics":           s.serveMetrics,
	} {
		r.GET(path, h)
		r.HEAD(path, h)
	}
	return r
}

// Handler is the API without a listener, for a server of the caller's own. That
// server needs ConnContext, or callers on a unix socket do not see secrets.
func (s *Server) Handler() http.Handler { return s }

// Serve serves the connections of l, TCP or unix, until Stop or until l fails, and
// closes l. It returns nil after Stop.
func (s *Server) Serve(l net.Listener) error {
	port := connlimit.Listen(l, connlimit.Limits{Max: s.opts.MaxConnections, Coarse: true}, func() {
		s.metrics.rejected[rejectedConnection].Add(1)
		if s.opts.OnFull != nil {
			s.opts.OnFull()
		}
	})
	srv := &http.Server{
		Handler:                      s,
		ReadHeaderTimeout:            headerTimeout,
		IdleTimeout:                  idleTimeout,
		WriteTimeout:                 writeTimeout,
		MaxHeaderBytes:               maxHeaderBytes,
		DisableGeneralOptionsHandler: true,
		ConnContext:                  ConnContext,
		ConnState:                    connlimit.Track,
		ErrorLog:                     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	var in net.Listener = port
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return l.Close()
	}
	s.servers, s.ports = append(s.servers, srv), append(s.ports, port)
	if s.opts.Front {
		f := front.New(port, plainReads{s}, front.Limits{Header: headerTimeout, Idle: idleTimeout, Write: writeTimeout})
		s.fronts, in = append(s.fronts, f), f
	}
	s.serving.Add(1)
	s.mu.Unlock()
	defer s.serving.Done()
	defer port.Wait()
	if err := srv.Serve(in); !errors.Is(err, http.ErrServerClosed) && !s.ended() {
		return conf.Errorf(conf.CodeInternal, "local API on %s: %w", l.Addr(), err)
	}
	return nil
}

// Stop closes the listeners and ends waiting requests and streams at once. Other
// responses may finish until ctx ends, or for stopGrace. It returns after every
// Serve.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	if !s.stopped {
		s.stopped = true
		s.end()
	}
	servers, fronts := s.servers, s.fronts
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, stopGrace)
	defer cancel()
	var wg sync.WaitGroup
	for _, f := range fronts {
		wg.Go(func() { f.Stop(ctx) })
	}
	errs := make([]error, len(servers))
	for i, srv := range servers {
		wg.Go(func() {
			if srv.Shutdown(ctx) != nil {
				errs[i] = srv.Close()
			}
		})
	}
	wg.Wait()
	s.serving.Wait()
	return errors.Join(errs...)
}

// connections is the number of open connections.
func (s *Server) connections() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.ports {
		n += p.Open()
	}
	return n
}

// ended reports whether Stop was called.
func (s *Server) ended() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}
