package localapi

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/httperror"
)

// fail responds with an error.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, route route, err *conf.Error) {
	s.failStatus(w, r, route, httperror.Status(err.Code), err)
}

func (s *Server) failStatus(w http.ResponseWriter, r *http.Request, route route, status int, err *conf.Error) {
	s.stateHeaders(w.Header())
	if status == http.StatusServiceUnavailable {
		w.Header()["Retry-After"] = retrySoon
	}
	s.writeJSON(w, r, route, status, httperror.Body{Error: err.Error(), Code: err.Code, Hint: err.Hint})
}

// writeJSON responds with a value that is not a document.
func (s *Server) writeJSON(w http.ResponseWriter, r *http.Request, route route, status int, v any) {
	body := encode(v)
	h := w.Header()
	h["Content-Type"] = typeJSON
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	h["Cache-Control"] = cacheNever
	h["X-Content-Type-Options"] = noSniff
	s.metrics.count(route, status)
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

// unknownPath is the 404 of the router.
func (s *Server) unknownPath(w http.ResponseWriter, r *http.Request) {
	if s.guard.posts(r.URL.Path) {
		w.Header()["Allow"] = allowPost
		rejectedAtDoor(s.router, w, r, errPostOnly())
		return
	}
	s.fail(w, r, routeOther, conf.Errorf(conf.CodeNotFound, "no such path").
		WithHint("there are /v1/config/SERVICE[/KEY], /v1/env/SERVICE, /v1/watch/SERVICE, /v1/keys, /healthz, /readyz and /metrics"))
}

const hintLater = "retry in a moment, or with ?wait=30s; /readyz shows when it is ready, /healthz the reason"

// Values of X-Config-Source.
const (
	sourceReplica = "replica"
	sourceDefault = "default"
)

// explain is the error for a missing resource. It suggests what the caller may
// have meant. doc is nil when the service has no document.
func (s *Server) explain(t resource, doc *Document) *conf.Error {
	source := ""
	if st := s.source.State(); st != nil && st.source != nil {
		source = st.source[0]
	}
	switch {
	case doc != nil && source == sourceDefault:
		return conf.Errorf(conf.CodeReadOnly, "the defaults of %q do not have this, and its stored values are not here yet", doc.service).
			WithHint(hintLater)
	case doc != nil && doc.exists:
		names := doc.plain.derived.get().names
		return conf.Errorf(conf.CodeNotFound, "service %q has no key %q", doc.service, clip(t.key)).
			WithHint("%s", suggest(t.key, names, "keys"))
	case doc != nil && doc.deleted:
		return conf.Errorf(conf.CodeNotFound, "service %q was deleted (version %d)", doc.service, doc.version).
			WithHint("restore it with: holdfast rollback %s %d", doc.service, max(doc.version, 2)-1)
	case doc != nil:
		return conf.Errorf(conf.CodeNotFound, "service %q has a schema but no configuration yet", doc.service).
			WithHint("set its required fields with: holdfast set %s KEY=VALUE", doc.service)
	case t.service == "" && t.own:
		return conf.Errorf(conf.CodeNotFound, "this agent has no service of its own").
			WithHint("request /v1/config/SERVICE, or start the agent with CONFIG_SERVICE_NAME")
	}
	if err := conf.CheckService(t.service); err != nil {
		return conf.Errorf(conf.CodeNotFound, "no such service: %w", err).WithHint("%s", conf.HintOf(err))
	}
	switch { // whether the service may exist although this agent has nothing of it
	case s.opts.Unheard != nil && s.opts.Unheard(t.service):
		return conf.Errorf(conf.CodeReadOnly, "nothing was heard yet of %q", t.service).WithHint(hintLater)
	case s.opts.Unheard != nil:
	case source == "":
		return conf.Errorf(conf.CodeReadOnly, "this agent has no values yet: its first copy is on the way").WithHint(hintLater)
	case source != sourceReplica:
		return conf.Errorf(conf.CodeReadOnly, "this agent cannot know whether %q exists: its source is %s, which may be older than the store", t.service, source).
			WithHint(hintLater)
	}
	return conf.Errorf(conf.CodeNotFound, "no service %q", t.service).
		WithHint("%s", suggest(t.service, s.source.Names(), "services"))
}

// suggest lists names that are similar to a missing one, or some that exist.
func suggest(name string, all []string, many string) string {
	all = slices.Sorted(slices.Values(all))
	if len(all) == 0 {
		return "there are no " + many + " yet"
	}
	type match struct {
		name string
		far  int
	}
	var close []match
	limit := max(2, len(name)/3)
	for _, n := range all {
		if len(name) > 0 && len(name) <= conf.MaxKey {
			if strings.Contains(n, name) || 2*len(n) > len(name) && strings.Contains(name, n) {
				close = append(close, match{n, 1})
			} else if far := conf.EditDistance(name, n, limit); far <= limit {
				close = append(close, match{n, far})
			}
		}
	}
	slices.SortStableFunc(close, func(a, b match) int { return a.far - b.far })
	const most = 3
	if len(close) > 0 {
		names := make([]string, 0, most)
		for _, m := range close[:min(most, len(close))] {
			names = append(names, m.name)
		}
		return "did you mean " + strings.Join(names, ", ") + "?"
	}
	const some = 10
	text := "known " + many + ": " + strings.Join(all[:min(some, len(all))], ", ")
	if more := len(all) - some; more > 0 {
		text += " and " + strconv.Itoa(more) + " more"
	}
	return text
}
