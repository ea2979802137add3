package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/holdfast-config/holdfast/localapi/events"
	"github.com/holdfast-config/holdfast/localapi/fairqueue"
	"github.com/holdfast-config/holdfast/localapi/session"
	"github.com/holdfast-config/holdfast/replication/connlimit"
)

// Options are the backends and settings of a Handler. Every backend of the first
// block is required. Routes whose backend of the second block is missing answer
// conf.CodeUnsupported.
type Options struct {
	Auth          Authenticator
	Audit         Auditor
	Health        HealthReporter
	Reader        Reader
	Queries       Queries
	Versions      Versions
	Schemas       SchemaReader
	Profiles      ProfileReader
	Editor        Editor
	ProfileEditor ProfileEditor
	Rebuilder     Rebuilder

	Cluster   Cluster
	APITokens APITokens
	Keys      Keys
	Secrets   Secrets
	Backups   Backups
	Rollouts  Rollouts
	Instances Instances

	// RequestKeys are keys that the members share. Request ids are made with them,
	// because an id covers the body: a reader of ids must not be able to find a
	// body by trying. The first key makes new ids; the others recognize requests
	// from before a rotation. nil: none.
	RequestKeys func() [][]byte
	// SessionKeys are keys that the servers share, for the sessions of browsers, in the
	// same order. nil: sessions are valid at this agent alone.
	SessionKeys func() [][]byte
	// Links are the one-time links that log a browser in. Default: none.
	Links *session.Links
	// Events are the streams of what changes. nil: there are none.
	Events *events.Hub
	// Version is the one of the program, and Insecure reports that the port is open to a
	// network without TLS: both are for pages.
	Version  string
	Insecure bool
	// Forward sends writes, and reads with ?consistent=1, to the leader. nil
	// handles everything here.
	Forward Forwarder
	// Relay is for an agent that has no list of tokens: everything but health, the
	// OpenAPI document and a rebuild is forwarded, and the leader authorizes it.
	Relay bool
	// Consistent waits until a read of this agent is linearizable. It is called
	// for reads with ?consistent=1 that were not forwarded.
	Consistent func(ctx context.Context) error
	// Age returns how old the local view may be: its source ("replica", "lkg",
	// "default" or "") and the time since the last contact to a leader, negative
	// for never.
	Age func() (source string, age time.Duration)
	// Caller returns the client address of a request for the access log. Default:
	// CallerAddr.
	Caller func(*http.Request) string
	// Self returns this agent's node id, for the access log. Relay needs it to
	// leave the cluster.
	Self func() string

	// Share is what the handlers of one agent have in common. Default: its own.
	Limits *Limits

	Logger *slog.Logger     // default: slog.DiscardHandler
	Now    func() time.Time // default: time.Now

	// Failed attempts that one client address may make: FailRate a second after a
	// burst of FailBurst. Defaults: 2 and 20.
	FailRate  rate.Limit
	FailBurst int
	// Timeout bounds each request but a rebuild. Default: 30 s.
	Timeout time.Duration
	// BodyTimeout bounds how long a body may take to arrive. Default: 15 s.
	BodyTimeout time.Duration
}

func (o *Options) fill() error {
	var missing []error
	need := func(name string, ok bool) {
		if !ok {
			missing = append(missing, fmt.Errorf("admin: Options.%s is nil", name))
		}
	}
	need("Auth", o.Auth != nil)
	need("Audit", o.Audit != nil)
	need("Health", o.Health != nil)
	need("Reader", o.Reader != nil)
	need("Queries", o.Queries != nil)
	need("Versions", o.Versions != nil)
	need("Schemas", o.Schemas != nil)
	need("Profiles", o.Profiles != nil)
	need("Editor", o.Editor != nil)
	need("ProfileEditor", o.ProfileEditor != nil)
	need("Rebuilder", o.Rebuilder != nil)
	need("Forward (Relay is set)", o.Forward != nil || !o.Relay)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Limits == nil {
		o.Limits = NewLimits()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Links == nil {
		o.Links = session.NewLinks(o.Now)
	}
	if o.Caller == nil {
		o.Caller = CallerAddr
	}
	if o.Self == nil {
		o.Self = func() string { return "" }
	}
	if o.FailRate <= 0 {
		o.FailRate = 2
	}
	if o.FailBurst <= 0 {
		o.FailBurst = 20
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.BodyTimeout <= 0 {
		o.BodyTimeout = 15 * time.Second
	}
	return errors.Join(missing...)
}

const maxConnsPerAddress = 512 // open connections of one address that is not this host

// Limits is what the handlers of one agent have in common, whichever port a
// request arrives on: the queue of requests, and the counters of rejections.
type Limits struct {
	queue                 *fairqueue.Queue
	attempts, connections atomic.Uint64
}

// NewLimits makes one with the default limits.
func NewLimits() *Limits { return &Limits{queue: fairqueue.New(fairqueue.DefaultLimits)} }

// Rejections is how many 429 responses there were: to attempts after too many that
// failed, to requests of a caller with too many in progress, and to connections.
type Rejections struct {
	Attempts, Requests, Connections uint64
}

// Rejected returns the counters.
func (s *Limits) Rejected() Rejections {
	return Rejections{s.attempts.Load(), s.queue.Rejected(), s.connections.Load()}
}

// LimitConns bounds the open connections of l, and those from one address. Rejected
// ones get a 429 response and are counted in s and in b.
func LimitConns(l net.Listener, s *Limits, b *connlimit.Budget, p connlimit.Port) net.Listener {
	limits := connlimit.Limits{Max: b.Max(p), PerSource: maxConnsPerAddress, LoopbackExempt: true}
	return connlimit.Listen(l, limits, func() {
		s.connections.Add(1)
		b.Reject(p)
	})
}
