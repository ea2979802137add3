package localapi

import (
	"bytes"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/julienschmidt/httprouter"

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
			s.log.Error("local API watch panicked", "path", clip(r.URL.Path), "panic", v, "stack", string(debug.Stack()))
			panic(http.ErrAbortHandler)
		}
	}()
	s.watch(&stream{w: w, control: http.NewResponseController(w)}, r, t)
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
func (s *Server) watch(st *stream, r *http.Request, t resource) {
	if st.comment("holdfast") != nil {
		return
	}
	beat := time.NewTicker(heartbeat)
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
		case doc != nil && !seen.olderThan(doc):
			// The client has this version, or a later one, from an earlier connection.
		case st.event(doc, rep, t) != nil:
			return
		}
		if doc != nil || told != sentNothing {
			told = tag
		}
		if !s.await(st, r, changed, beat.C) {
			return
		}
	}
}

// await blocks until there may be a change, and keeps the stream alive.
func (s *Server) await(st *stream, r *http.Request, changed <-chan struct{}, beat <-chan time.Time) bool {
	for {
		select {
		case <-changed:
			return true
		case <-beat:
			if st.comment("") != nil {
				return false
			}
		case <-r.Context().Done():
			return false
		case <-s.stopping:
			return false
		}
	}
}

// stream writes server-sent events. Each write has a deadline, so a client that
// does not read is disconnected.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	buf     bytes.Buffer
}

// deletedEvent is the data of the event for a missing resource.
type deletedEvent struct {
	Service string `json:"service"`
	Key     string `json:"key,omitempty"`
	Version uint64 `json:"version,omitempty"`
}

// event writes the resource of doc; a nil rep is a missing one.
func (st *stream) event(doc *Document, rep *representation, t resource) error {
	st.buf.Reset()
	if doc != nil {
		st.buf.WriteString("id: " + doc.id + "\n")
	}
	var data []byte
	if rep != nil {
		st.buf.WriteString("event: config\n")
		data = rep.body
	} else {
		st.buf.WriteString("event: deleted\n")
		g := deletedEvent{Service: t.service, Key: t.key}
		if doc != nil {
			g.Version = doc.version
		}
		data = encode(g)
	}
	for line := range bytes.Lines(data) {
		st.buf.WriteString("data: ")
		st.buf.Write(bytes.TrimRight(line, "\r\n"))
		st.buf.WriteByte('\n')
	}
	st.buf.WriteByte('\n')
	return st.flush()
}

func (st *stream) comment(text string) error {
	st.buf.Reset()
	st.buf.WriteString(": " + text + "\n\n")
	return st.flush()
}

func (st *stream) flush() error {
	if err := st.control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := st.w.Write(st.buf.Bytes()); err != nil {
		return err
	}
	return st.control.Flush()
}

// eventID is a parsed Last-Event-ID: "<epoch>:<version>".
type eventID struct {
	epoch   string
	version uint64
	ok      bool
}

func parseEventID(s string) eventID {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return eventID{}
	}
	v, err := strconv.ParseUint(s[i+1:], 10, 64)
	return eventID{epoch: s[:i], version: v, ok: err == nil}
}

// olderThan reports whether doc is new to a client that has id. Within an epoch
// versions only grow; another epoch is always new.
func (id eventID) olderThan(doc *Document) bool {
	return !id.ok || id.epoch != doc.epoch || id.version < doc.version
}
