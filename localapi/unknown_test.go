package localapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// What an agent cannot know it does not deny: 404 is for what the store does not have.
func TestAbsentIsNotUnknown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		source  string
		follows []string // of an observer
		path    string
		status  int
	}{
		"replica":                               {"replica", nil, "/v1/config/router", 404},
		"replica, key":                          {"replica", nil, "/v1/config/stt-worker/none", 404},
		"replica, deleted":                      {"replica", nil, "/v1/config/gone", 404},
		"a file that may be older":              {"lkg", nil, "/v1/config/router", 503},
		"a file that may be older, key":         {"lkg", nil, "/v1/config/router/a", 503},
		"a file that may be older, environment": {"lkg", nil, "/v1/env/router", 503},
		"a file, key of a document that it has": {"lkg", nil, "/v1/config/stt-worker/none", 404},
		"defaults":                              {"default", nil, "/v1/config/router", 503},
		"defaults, a key that may be stored":    {"default", nil, "/v1/config/stt-worker/none", 503},
		"nothing":                               {"", nil, "/v1/config/router", 503},
		"observer that has not heard of it":     {"replica", []string{"stt-worker", "router"}, "/v1/config/router", 503},
		"observer that does not follow it":      {"replica", []string{"stt-worker"}, "/v1/config/router", 404},
		"observer with a file, does not follow": {"lkg", []string{"stt-worker"}, "/v1/config/router", 404},
		"observer with a file, has not heard":   {"lkg", []string{"stt-worker", "router"}, "/v1/config/router", 503},
		"a name that no service can have":       {"lkg", nil, "/v1/config/No_Such", 404},
		"a wait that is over, cannot know":      {"lkg", nil, "/v1/config/router?wait=1ms", 503},
		"a wait that is over, does not have it": {"replica", nil, "/v1/config/router?wait=1ms", 404},
	} {
		m := newMemory(record("stt-worker", 7, `{"a":1}`), tombstone("gone", 3))
		m.state.Store(NewState(testEpoch, c.source, 42, time.Second))
		s := newServer(t, m, func(o *Options) {
			if c.follows != nil {
				o.Unheard = func(service string) bool { return strings.Contains(strings.Join(c.follows, " "), service) }
			}
		})
		w := get(t, s, c.path)
		code := map[int]conf.Code{404: conf.CodeNotFound, 503: conf.CodeReadOnly}[c.status]
		if w.Code != c.status || !strings.Contains(w.Body.String(), `"code":"`+string(code)+`"`) || (w.Header().Get("Retry-After") != "") != (c.status == 503) {
			t.Errorf("%s: %d %v %s", name, w.Code, w.Header(), w.Body)
		}
	}
}

// A caller that waits gets the document as soon as it is known.
func TestWaitForWhatIsNotKnownYet(t *testing.T) {
	m := newMemory(record("stt-worker", 7, `{"a":1}`))
	m.state.Store(NewState(testEpoch, "lkg", 42, time.Second))
	bubble(t, m, func(t *testing.T, s *Server, _ *http.Client) {
		w := httptest.NewRecorder()
		done := make(chan struct{})
		go func() {
			defer close(done)
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/v1/config/router?wait=30s", nil)
			s.ServeHTTP(w, r)
		}()
		synctest.Wait() // it waits
		m.state.Store(NewState(testEpoch, "replica", 43, 0))
		m.set(record("router", 1, `{"b":2}`))
		<-done
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `{"b":2}`) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}
