package localapi

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

type kind uint8

const (
	kindDocument kind = iota
	kindKey
	kindEnv
)

// resource is what a request reads: a part of the document of a service, in one of
// its forms.
type resource struct {
	service string
	key     string
	prefix  string // env: before each name
	kind    kind
	own     bool                                        // the agent's own service, not named in the path
	raw     bool                                        // key: text instead of JSON
	format  func(vars []variable, prefix string) string // env: nil for sh
	json    bool                                        // env: format is a JSON object
	nulls   bool                                        // env: a null is an empty value instead of a comment
	explain bool                                        // document: where its values come from, instead of the document
	trusted bool                                        // the caller may see secrets
}

// selectRepresentation finds the resource in an existing document. A missing key is
// errAbsent.
func (t *resource) selectRepresentation(doc *Document) (*representation, *conf.Error) {
	c := doc.plain
	if t.trusted {
		if c = doc.full; c == nil {
			return nil, conf.Errorf(conf.CodeCorrupt, "the secrets of %q cannot be added: %w", doc.service, doc.err)
		}
	}
	if t.kind == kindDocument {
		return &c.representation, nil
	}
	d := c.derived.get()
	if d.err != nil {
		return nil, conf.Errorf(conf.CodeCorrupt, "the document of %q cannot be read: %w", doc.service, d.err)
	}
	if t.kind == kindEnv {
		return t.selectEnv(d), nil
	}
	v := d.value(t.key)
	switch {
	case v == nil && !t.trusted && doc.full != nil && doc.full.derived.get().value(t.key) != nil:
		return nil, conf.Errorf(conf.CodeUnauthenticated, "%q of service %q is a secret", t.key, doc.service).
			WithHint("send the content of the agent's local-token file in %s, or use the unix socket", tokenHeader)
	case v == nil:
		return nil, errAbsent
	case t.raw:
		return &v.raw, nil
	default:
		return &v.json, nil
	}
}

func (t *resource) selectEnv(d *derivedForms) *representation {
	if t.prefix == "" && t.format == nil && !t.nulls {
		return &d.env
	}
	vars := d.vars
	if t.nulls {
		vars = withEmptyNulls(vars)
	}
	format := t.format
	if format == nil {
		format = formatShell
	}
	kind := typeText
	if t.json {
		kind = typeJSON
	}
	rep := newRepresentation([]byte(format(vars, t.prefix)), kind)
	rep.secret, rep.read = d.env.secret, d.env.read
	return &rep
}

// query reads the parameters. An unknown one is an error: a misspelled wait would
// be a busy loop.
func (t *resource) query(r *http.Request, maxWait time.Duration) (wait time.Duration, e *conf.Error) {
	if r.URL.RawQuery == "" {
		return 0, nil
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return 0, conf.Errorf(conf.CodeMalformed, "malformed query: %w", err)
	}
	for _, name := range conf.SortedKeys(values) {
		v := values[name]
		if len(v) > 1 {
			return 0, conf.Errorf(conf.CodeMalformed, "parameter %q is given twice", clip(name))
		}
		known := true
		switch {
		case name == "wait":
			wait, e = parseWait(v[0], maxWait)
		case name == "explain" && t.kind == kindDocument:
			t.explain, e = parseFlag(name, v[0])
		case name == "raw" && t.kind == kindKey:
			t.raw, e = parseFlag(name, v[0])
		case name == "prefix" && t.kind == kindEnv:
			t.prefix = v[0]
			if conf.VariableName(v[0]) != strings.ToUpper(v[0]) || len(v[0]) > conf.MaxName {
				e = conf.Errorf(conf.CodeMalformed, "bad prefix %q", clip(v[0])).WithHint("use letters, digits and underscores, a letter first, such as STT_")
			}
		case name == "format" && t.kind == kindEnv:
			t.json = v[0] == "json"
			if t.format = envFormats[v[0]]; t.format == nil {
				e = conf.Errorf(conf.CodeMalformed, "unknown format %q", clip(v[0])).WithHint("use one of %s", strings.Join(conf.SortedKeys(envFormats), ", "))
			}
		case name == "nulls" && t.kind == kindEnv:
			if t.nulls = v[0] == "empty"; !t.nulls && v[0] != "comment" {
				e = conf.Errorf(conf.CodeMalformed, "bad nulls %q", clip(v[0])).WithHint("use nulls=empty or nulls=comment")
			}
		default:
			known = false
		}
		if !known {
			return 0, conf.Errorf(conf.CodeMalformed, "unknown parameter %q", clip(name)).WithHint("known here: %s", t.parameters())
		}
		if e != nil {
			return 0, e
		}
	}
	return wait, nil
}

func (t *resource) parameters() string {
	switch t.kind {
	case kindKey:
		return "raw, wait"
	case kindEnv:
		return "format, nulls, prefix, wait"
	default:
		return "explain, wait"
	}
}

func parseWait(s string, limit time.Duration) (time.Duration, *conf.Error) {
	d, err := time.ParseDuration(s)
	if n, numErr := strconv.ParseUint(s, 10, 31); numErr == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < 0 {
		return 0, conf.Errorf(conf.CodeMalformed, "bad wait %q", clip(s)).WithHint("write it as 30s, 500ms or 2m; at most %s is waited", limit)
	}
	return min(d, limit), nil
}

func parseFlag(name, s string) (bool, *conf.Error) {
	if s == "" {
		return true, nil
	}
	b, err := strconv.ParseBool(s)
	if err != nil {
		return false, conf.Errorf(conf.CodeMalformed, "bad %s %q", name, clip(s)).WithHint("write ?%s or ?%s=false", name, name)
	}
	return b, nil
}

// serveResource responds with a document or a part of it. It is the hot path.
func (s *Server) serveResource(w http.ResponseWriter, r *http.Request, route route, t resource) {
	var e *conf.Error
	if t.trusted, e = s.guard.trusted(r); e != nil {
		s.fail(w, r, route, e)
		return
	}
	wait, e := t.query(r, s.opts.MaxWait)
	if e != nil {
		s.fail(w, r, route, e)
		return
	}
	if t.explain {
		s.serveExplanation(w, r, route, t)
		return
	}
	doc, rep, _, e := s.lookup(&t)
	asked := r.Header["If-None-Match"]
	if wait > 0 && mayWait(rep, e, asked) {
		doc, rep, e = s.wait(r, t, rep, asked, wait)
		// The deadline of the response was set when the request arrived.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
		if s.ended() {
			w.Header()["Connection"] = closeHeader
		}
	}
	if e != nil {
		if doc != nil {
			w.Header()["X-Config-Version"] = doc.versionHeader
		}
		if e == errAbsent {
			e = s.explain(t, doc)
		}
		s.fail(w, r, route, e)
		return
	}
	h := w.Header()
	s.stateHeaders(h)
	h["Etag"] = rep.etag
	h["X-Config-Version"] = doc.versionHeader
	h["X-Config-Epoch"] = doc.epochHeader
	h["X-Content-Type-Options"] = noSniff
	h["Cache-Control"] = cacheRevalidate
	if rep.secret {
		h["Cache-Control"] = cacheNever
	}
	if r.Method != http.MethodHead {
		rep.read.note()
	}
	if MatchesTag(asked, rep.tag) {
		s.metrics.count(route, http.StatusNotModified)
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h["Content-Type"] = rep.contentType
	h["Content-Length"] = rep.length
	s.metrics.count(route, http.StatusOK)
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(rep.body)
	}
}

// stateHeaders sets where a response comes from and how fresh it is.
func (s *Server) stateHeaders(h http.Header) {
	st := s.source.State()
	if st == nil {
		return
	}
	if st.epoch != nil {
		h["X-Config-Epoch"] = st.epoch
	}
	if st.source != nil {
		h["X-Config-Source"] = st.source
	}
	if st.age != nil {
		h["X-Config-Age"] = st.age
	}
}

// MatchesTag reports whether an If-None-Match header has the tag: weak comparison,
// lists, and "*" for any.
func MatchesTag(header []string, tag string) bool {
	for _, list := range header {
		for list != "" {
			list = strings.TrimLeft(list, " \t,")
			if strings.HasPrefix(list, "*") {
				return true
			}
			list = strings.TrimPrefix(list, "W/")
			if strings.HasPrefix(list, tag) {
				return true
			}
			if !strings.HasPrefix(list, `"`) {
				// Not a tag: on to the next one.
				_, list, _ = strings.Cut(list, ",")
				continue
			}
			_, list, _ = strings.Cut(list[1:], `"`)
		}
	}
	return false
}
