package localapi

import (
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/julienschmidt/httprouter"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func (s *Server) watchNamed(w http.ResponseWriter, r *http.Request, p httprouter.Params) {
	s.serveWatch(w, r, resource{service: p[0].Value})
}

func (s *Server) watchOwn(w http.ResponseWriter, r *http.Request, _ httprouter.Params) {
	s.serveWatch(w, r, resource{service: s.opts.Service, own: true})
}

// serveWatch streams a document, or one key of it, as server-sent events: the
// current value, then each change. A slow client skips outdated versions. A missing
// resource may appear later.
func (s *Server) serveWatch(w http.ResponseWriter, r *http.Request, t resource) {
	var err *conf.Error
	if t.trusted, err = s.guard.trusted(r); err == nil {
		err = t.watchQuery(r)
	}
	if err == nil && conf.CheckService(t.service) != nil {
		err = s.explain(t, nil) // it can never appear
	}
	if err == nil {
		if _, _, _, err = s.lookup(&t); err == errAbsent {
			err = nil
		}
	}
	if err != nil {
		s.fail(w, r, routeWatch, err)
		return
	}
	s.metrics.count(routeWatch, http.StatusOK)
	h := w.Header()
	s.stateHeaders(h)
	h["Content-Type"] = typeEvents
	h["Cache-Control"] = cacheNever
	h["X-Content-Type-Options"] = noSniff
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	s.metrics.watches.Add(1)
	defer s.metrics.watches.Add(-1)
	defer func() {
		// The response has started: it can only be cut off.
		if v := recover(); v != nil {
			s.metrics.panics.Add(1)
			alarm.WatchPanic.Report(s.log, "path", clip(r.URL.Path), "panic", v, "stack", string(debug.Stack()))
			panic(http.ErrAbortHandler)
		}
	}()
	s.watch(NewEventStream(w), r, t)
}

func (t *resource) watchQuery(r *http.Request) *conf.Error {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return conf.Errorf(conf.CodeMalformed, "malformed query: %w", err)
	}
	for name, v := range values {
		if name != "key" || len(v) != 1 || v[0] == "" {
			return conf.Errorf(conf.CodeMalformed, "bad parameter %q", clip(name)).WithHint("known here: key, once")
		}
		t.kind, t.key = kindKey, v[0]
	}
	return nil
}

// What was sent last on a stream, besides the tag of a representation.
const (
	sentNothing = ""
	sentAbsent  = "absent"
)

// watch writes events until the client disconnects or the server stops.
func (s *Server) watch(st *EventStream, r *http.Request, t resource) {
	if st.Comment("holdfast") != nil {
		return
	}
	beat := time.NewTicker(Heartbeat)
	defer beat.Stop()
	seen := parseEventID(r.Header.Get("Last-Event-ID"))
	told := sentNothing
	for {
		// Before the lookup: a service that appears in between closes it.
		missing := s.source.Missing(t.service)
		doc, rep, changed, err := s.lookup(&t)
		tag := sentAbsent
		switch {
		case err == nil:
			tag = rep.tag
		case err != errAbsent:
			return // the next connection gets the error
		case doc == nil:
			changed = missing
		}
		switch {
		case tag == told:
		case doc == nil && told == sentNothing:
			// It was missing and still is.
		case doc != nil && seen.has(doc, tag, s.opts.OwnVersions):
			// The client has this state, or a later one, from an earlier connection.
			if rep != nil && seen.version == doc.version {
				rep.read.note()
			}
		case t.event(st, doc, rep) != nil:
			return
		default:
			seen = eventID{} // what comes now is new to the client, also what it had once
		}
		if doc != nil || told != sentNothing {
			told = tag
		}
		if !st.Await(r.Context(), s.stopping, changed, beat.C) {
			return
		}
	}
}

// deletedEvent is the data of the event for a missing resource.
type deletedEvent struct {
	Service string `json:"service"`
	Key     string `json:"key,omitempty"`
	Version uint64 `json:"version,omitempty"`
}

// event writes the resource of doc; a nil rep is a missing one.
func (t *resource) event(st *EventStream, doc *Document, rep *representation) error {
	id, tag := "", sentAbsent
	if rep != nil {
		tag = rep.tag
	}
	if doc != nil {
		id = doc.EventID(tag)
	}
	if rep != nil {
		err := st.Send(id, "config", rep.body)
		if err == nil {
			rep.read.note()
		}
		return err
	}
	g := deletedEvent{Service: t.service, Key: t.key}
	if doc != nil {
		g.Version = doc.version
	}
	return st.Send(id, "deleted", encode(g))
}

// eventID is a parsed Last-Event-ID: "<epoch>:<version>:<tag>", what a client has seen.
// The tag differs when an environment secret does, which makes no version.
type eventID struct {
	epoch   string
	version uint64
	tag     string
}

// parseEventID returns the zero eventID, of a client that has seen nothing, for any other
// text: also for the ids without a tag of earlier builds.
func parseEventID(s string) eventID {
	parts := strings.Split(s, ":")
	if len(parts) != 3 || parts[2] == "" {
		return eventID{}
	}
	v, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return eventID{}
	}
	return eventID{parts[0], v, parts[2]}
}

// has reports whether a client with id has this state of doc, or a later one. Within an
// epoch the leader's versions only grow: an agent with an older one is catching up.
// Versions that the agent counts itself begin again when it loses its files, so with own
// they say nothing.
func (id eventID) has(doc *Document, tag string, own bool) bool {
	switch {
	case id.tag == "" || id.epoch != doc.epoch:
		return false
	case id.version != doc.version:
		return id.version > doc.version && !own
	default:
		return id.tag == strings.Trim(tag, `"`)
	}
}
