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
	s.serveWatch(w, r, target{service: p[0].Value})
}

func (s *Server) watchOwn(w http.ResponseWriter, r *http.Request, _ httprouter.Params) {
	s.serveWatch(w, r, target{service: s.opts.Service, own: true})
}

// serveWatch streams a document, or one key of it, as server-sent events: what it
// is now, then each change. A slow reader skips what is outdated by the time it
// reads. What is not there yet is waited for.
func (s *Server) serveWatch(w http.ResponseWriter, r *http.Request, t target) {
	var err *conf.Error
	if t.trusted, err = s.guard.trusted(r); err == nil {
		err = t.watchQuery(r)
	}
	if err == nil && conf.CheckService(t.service) != nil {
		err = s.explain(t, nil) // it can never appear
	}
	if err == nil {
		if _, _, _, err = s.look(&t); err == errAbsent {
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
		// The answer has begun: all that is left is to cut it off.
		if v := recover(); v != nil {
			s.metrics.panics.Add(1)
			s.log.Error("local API watch panicked", "path", clip(r.URL.Path), "panic", v, "stack", string(debug.Stack()))
			panic(http.ErrAbortHandler)
		}
	}()
	s.watch(&stream{w: w, control: http.NewResponseController(w)}, r, t)
}

func (t *target) watchQuery(r *http.Request) *conf.Error {
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

// What a reader of a stream was told last, beside the tag of a representation.
const (
	toldNothing = ""
	toldAbsent  = "absent"
)

// watch writes events until the reader or the server is gone.
func (s *Server) watch(st *stream, r *http.Request, t target) {
	if st.comment("holdfast") != nil {
		return
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	seen := parseEventID(r.Header.Get("Last-Event-ID"))
	told := toldNothing
	for {
		// Before the look: a service that appears in between closes it.
		missing := s.source.Missing(t.service)
		doc, rep, changed, err := s.look(&t)
		tag := toldAbsent
		switch {
		case err == nil:
			tag = rep.tag
		case err != errAbsent:
			return // the next connection is told why
		case doc == nil:
			changed = missing
		}
		switch {
		case tag == told:
		case doc == nil && told == toldNothing:
			// Nothing was, and nothing is.
		case doc != nil && !seen.olderThan(doc):
			// The reader has this, or a later one, from an earlier connection.
		case st.event(doc, rep, t) != nil:
			return
		}
		if doc != nil || told != toldNothing {
			told = tag
		}
		if !s.await(st, r, changed, beat.C) {
			return
		}
	}
}

// await holds a stream until there may be news, and keeps it alive meanwhile.
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

// stream writes server-sent events. Each write has a deadline of its own, so a
// reader that does not read loses its connection and holds up nobody.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	buf     bytes.Buffer
}

// gone is the data of the event that says that a value is not there.
type gone struct {
	Service string `json:"service"`
	Key     string `json:"key,omitempty"`
	Version uint64 `json:"version,omitempty"`
}

// event writes what the target is in doc; a nil rep says that it is not there.
func (st *stream) event(doc *Document, rep *representation, t target) error {
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
		g := gone{Service: t.service, Key: t.key}
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

// olderThan says whether doc is news to a reader that saw id. Within an epoch
// versions only grow; another epoch is always news.
func (id eventID) olderThan(doc *Document) bool {
	return !id.ok || id.epoch != doc.epoch || id.version < doc.version
}
