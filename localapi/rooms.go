package localapi

import (
	"context"
	"encoding/json"
	"net/http"
	"runtime/debug"

	"github.com/julienschmidt/httprouter"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/httperror"
)

// Room is a package that adds a part of its own to the local API, behind the same
// guards: it reads too, and gets no request that the guard rejects.
type Room struct {
	Name   string // what its responses and streams are counted under
	Routes []Route

	// Fail writes an error that the server finds: what the guard rejects, a wrong token, a
	// panic. It takes the form that the callers of the room understand.
	Fail func(w http.ResponseWriter, r *http.Request, status int, err *conf.Error)
}

// Route is one path of a Room.
type Route struct {
	Method string // GET, which HEAD goes with; or POST, for a question with a body
	Path   string // exact; ":name" is a part that r.PathValue returns
	Stream bool   // goes on until its context ends: with the client, or with the server
	Handle http.HandlerFunc
}

// Host is what a room has of its server.
type Host struct{ s *Server }

// Register adds a room, before Serve.
func (s *Server) Register(newRoom func(Host) Room) {
	room := newRoom(Host{s})
	d := &door{s, room, &roomMetrics{name: room.Name}}
	s.metrics.rooms = append(s.metrics.rooms, d.metrics)
	for _, route := range room.Routes {
		h := d.open(route)
		s.router.Handle(route.Method, route.Path, h)
		if route.Method == http.MethodGet {
			s.router.HEAD(route.Path, h)
		}
	}
}

// posts returns what tells whether a path takes questions with a body.
func posts(router *httprouter.Router) func(path string) bool {
	return func(path string) bool {
		h, _, _ := router.Lookup(http.MethodPost, path)
		return h != nil
	}
}

type rejectedKey struct{}

// rejectedAtDoor lets the room that takes questions at the path of r write an error, in the
// form that its callers understand. It reports false when there is none.
func rejectedAtDoor(router *httprouter.Router, w http.ResponseWriter, r *http.Request, err *conf.Error) bool {
	h, params, _ := router.Lookup(http.MethodPost, r.URL.Path)
	if h != nil {
		h(w, r.WithContext(context.WithValue(r.Context(), rejectedKey{}, err)), params)
	}
	return h != nil
}

// door lets requests into a room.
type door struct {
	*Server
	room    Room
	metrics *roomMetrics
}

// open returns the handler of a route.
func (s *door) open(route Route) httprouter.Handle {
	m, room := s.metrics, s.room
	return func(w http.ResponseWriter, r *http.Request, params httprouter.Params) {
		c := &counted{ResponseWriter: w, count: func(status int) { m.requests[statusSlot(status)].Add(1) }}
		for _, p := range params {
			r.SetPathValue(p.Key, p.Value)
		}
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v == http.ErrAbortHandler { //nolint:errorlint // the value itself is the signal
				panic(v)
			}
			s.Server.metrics.panics.Add(1)
			alarm.LocalPanic.Report(s.log, "path", clip(r.URL.Path), "panic", v, "stack", string(debug.Stack()))
			if c.wrote {
				panic(http.ErrAbortHandler) // the response has started: it can only be cut off
			}
			clear(w.Header())
			room.Fail(c, r, http.StatusInternalServerError, conf.Errorf(conf.CodeInternal, "internal error").WithHint("the agent's log has the details"))
		}()
		s.stateHeaders(w.Header())
		w.Header()["X-Content-Type-Options"] = noSniff
		w.Header()["Cache-Control"] = cacheNever
		if err, ok := r.Context().Value(rejectedKey{}).(*conf.Error); ok {
			room.Fail(c, r, httperror.Status(err.Code), err)
			return
		}
		if _, err := s.guard.trusted(r); err != nil {
			room.Fail(c, r, http.StatusUnauthorized, err)
			return
		}
		if route.Stream {
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			defer context.AfterFunc(s.life, cancel)()
			m.streams.Add(1)
			defer m.streams.Add(-1)
			r = r.WithContext(ctx)
		}
		route.Handle(c, r)
	}
}

// counted is a response that is counted when its header is written.
type counted struct {
	http.ResponseWriter
	count func(status int)
	wrote bool
}

// WriteHeader implements http.ResponseWriter.
func (c *counted) WriteHeader(status int) {
	c.wrote = true
	c.count(status)
	c.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// Service is the agent's own service, "" for none.
func (h Host) Service() string { return h.s.opts.Service }

// OwnVersions reports whether versions are the agent's own count: a lower one is not older.
func (h Host) OwnVersions() bool { return h.s.opts.OwnVersions }

// Source is where the documents are.
func (h Host) Source() Source { return h.s.source }

// Trusted reports whether the caller may see secrets. A wrong token is an error.
func (h Host) Trusted(r *http.Request) (bool, *conf.Error) { return h.s.guard.trusted(r) }

// Absent is the error for a key that a service does not have, or for a service that is
// not there. own says that the caller did not name it.
func (h Host) Absent(service, key string, own bool) *conf.Error {
	doc, _, _ := h.s.source.Get(service)
	return h.s.explain(resource{service: service, key: key, kind: kindKey, own: own}, doc)
}

// HasSeen reports whether a client that sends this Last-Event-ID has d, of which the tag
// is given, or a later version.
func (h Host) HasSeen(lastEventID string, d *Document, tag string) bool {
	return parseEventID(lastEventID).has(d, tag, h.s.opts.OwnVersions)
}

// Exists reports whether the service of d has a configuration.
func (d *Document) Exists() bool { return d.exists }

// Service is the name of the service.
func (d *Document) Service() string { return d.service }

// Version is the version of the service.
func (d *Document) Version() uint64 { return d.version }

// Epoch is the epoch that the version is of.
func (d *Document) Epoch() string { return d.epoch }

// Schema is the JSON Schema of the service, nil when this agent has none.
func (d *Document) Schema() json.RawMessage { return d.schema }

// Public is the effective document without secrets, nil when there is none.
func (d *Document) Public() json.RawMessage {
	if d.plain == nil {
		return nil
	}
	return d.plain.derived.config
}

// WriteVersion sets the headers that tell which version a response is of.
func (d *Document) WriteVersion(h http.Header) {
	h["X-Config-Version"] = d.versionHeader
	if d.epochHeader != nil {
		h["X-Config-Epoch"] = d.epochHeader
	}
}
