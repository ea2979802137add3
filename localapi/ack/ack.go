package ack

import (
	"context"
	"io"
	"mime"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/httperror"
)

const (
	perSecond  = 10
	maxReading = 64 // bodies at the same time
	maxDrained = 1 << 20
)

// Taker takes acknowledgements.
type Taker interface {
	// Acknowledge takes a checked acknowledgement. The error is CodeConflict when the
	// version is not served here.
	Acknowledge(ctx context.Context, service string, a conf.Ack) error
}

// room takes acknowledgements at a server of the local API.
type room struct {
	server  localapi.Host
	taker   Taker
	open    bool
	reading chan struct{}

	mu     sync.Mutex
	limits map[string]*rate.Limiter // of services that exist
}

// Register adds the room. open lets every process of this host acknowledge.
func Register(s *localapi.Server, taker Taker, open bool) {
	s.Register(func(h localapi.Host) localapi.Room {
		r := &room{server: h, taker: taker, open: open, reading: make(chan struct{}, maxReading), limits: map[string]*rate.Limiter{}}
		return localapi.Room{
			Name:   "ack",
			Routes: []localapi.Route{{Method: http.MethodPost, Path: "/v1/ack/:service", Handle: r.take}},
			Fail:   func(w http.ResponseWriter, _ *http.Request, status int, err *conf.Error) { fail(w, status, err) },
		}
	})
}

// accepted is the body of 202.
type accepted struct {
	Success bool `json:"success"`
}

func (a *room) take(w http.ResponseWriter, r *http.Request) {
	if err := a.handle(w, r); err != nil {
		fail(w, httperror.Status(conf.CodeOf(err)), err)
		return
	}
	httperror.WriteJSON(w, http.StatusAccepted, accepted{true})
}

func fail(w http.ResponseWriter, status int, err error) {
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	httperror.WriteJSON(w, status, httperror.New(err))
}

func (a *room) handle(w http.ResponseWriter, r *http.Request) error {
	trusted, e := a.server.Trusted(r)
	if e != nil {
		return e
	}
	if !trusted && !a.open {
		return conf.Errorf(conf.CodeUnauthenticated, "an acknowledgement needs the local token").
			WithHint("send the content of the agent's local-token file in X-Holdfast-Token, or use the unix socket; CONFIG_ACK_OPEN=1 lifts this for all processes of the host")
	}
	service := r.PathValue("service")
	doc, _, ok := a.server.Source().Get(service)
	if !ok || !doc.Exists() {
		return a.server.Absent(service, "", false)
	}
	if !a.allow(service) {
		return conf.Errorf(conf.CodeRateLimited, "more than %d acknowledgements of %s in a second", perSecond, service).
			WithHint("acknowledge once for each version and worker")
	}
	body, err := a.read(w, r)
	if err != nil {
		return err
	}
	var in conf.Ack
	if err := conf.DecodeStrict(body, conf.MaxAckBytes, &in); err != nil {
		return err
	}
	if err := in.Check(); err != nil {
		return err
	}
	err = a.taker.Acknowledge(r.Context(), service, in)
	if conf.CodeOf(err) == conf.CodeConflict {
		if now, _, ok := a.server.Source().Get(service); ok {
			now.WriteVersion(w.Header())
		}
	}
	return err
}

func (a *room) allow(service string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.limits[service]
	if l == nil {
		l = rate.NewLimiter(perSecond, perSecond)
		a.limits[service] = l
	}
	return l.AllowN(time.Now(), 1)
}

func (a *room) read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	select {
	case a.reading <- struct{}{}:
		defer func() { <-a.reading }()
	default:
		return nil, conf.Errorf(conf.CodeRateLimited, "too many acknowledgements under way").WithHint("send it again in a second")
	}
	if kind := r.Header.Get("Content-Type"); kind != "" {
		if media, _, err := mime.ParseMediaType(kind); err != nil || media != "application/json" {
			return nil, conf.Errorf(conf.CodeMalformed, "the Content-Type is not application/json").WithHint("send JSON, with -H 'Content-Type: application/json'")
		}
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, conf.MaxAckBytes+1))
	switch {
	case err != nil:
		w.Header().Set("Connection", "close")
		return nil, conf.Errorf(conf.CodeMalformed, "the body ended early: %w", err)
	case len(body) > conf.MaxAckBytes:
		w.Header().Set("Connection", "close")
		_, _ = io.CopyN(io.Discard, r.Body, maxDrained) // so that its sender reads the answer
		return nil, conf.Errorf(conf.CodeTooLarge, "the body is over the limit of %d bytes", conf.MaxAckBytes).WithHint("shorten reason and details")
	}
	return body, nil
}
