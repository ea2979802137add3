package ack

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestMain(m *testing.M) { os.Exit(base.NoLeaks(m)) }

type source struct{ doc *localapi.Document }

func (s source) Get(name string) (*localapi.Document, <-chan struct{}, bool) {
	return s.doc, nil, name == "stt"
}
func (source) Missing(string) <-chan struct{} { return nil }
func (source) Names() []string                { return []string{"stt"} }
func (source) State() *localapi.State         { return localapi.NewState("e", "replica", 1, 0) }

type taker struct{ got []conf.Ack }

func (k *taker) Acknowledge(_ context.Context, _ string, a conf.Ack) error {
	if a.Version != 8 {
		return conf.Errorf(conf.CodeConflict, "version 8 is served here")
	}
	k.got = append(k.got, a)
	return nil
}

func newServer(t *testing.T, open bool) (*localapi.Server, *taker) {
	t.Helper()
	doc := (&localapi.Renderer{}).Render(&conf.Record{Service: "stt", Version: 8, Epoch: "e", Values: json.RawMessage(`{}`), Config: json.RawMessage(`{}`)})
	s, err := localapi.New(localapi.Options{Source: source{doc}, Token: func() string { return "secret" }})
	if err != nil {
		t.Fatal(err)
	}
	k := &taker{}
	Register(s, k, open)
	return s, k
}

func post(s *localapi.Server, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "http://localhost"+path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

const good = `{"version":8,"config_epoch":"e","status":"applied"}`

func TestWhatIsTaken(t *testing.T) {
	t.Parallel()
	trusted := []string{"X-Holdfast-Token", "secret"}
	for _, c := range []struct {
		what, path, body string
		headers          []string
		status           int
	}{
		{"a good one", "/v1/ack/stt", good, trusted, 202},
		{"without a token", "/v1/ack/stt", good, nil, 401},
		{"with a wrong token", "/v1/ack/stt", good, []string{"X-Holdfast-Token", "guess"}, 401},
		{"through a proxy", "/v1/ack/stt", good, append([]string{"X-Forwarded-For", "1.2.3.4"}, trusted...), 403},
		{"from a page", "/v1/ack/stt", good, append([]string{"Origin", "http://evil.example"}, trusted...), 403},
		{"of no service", "/v1/ack/tts", good, trusted, 404},
		{"a path below", "/v1/ack/stt/", good, trusted, 405},
		{"another version", "/v1/ack/stt", strings.Replace(good, "8", "7", 1), trusted, 409},
		{"an unknown member", "/v1/ack/stt", `{"version":8,"config_epoch":"e","status":"applied","x":1}`, trusted, 400},
		{"a member twice", "/v1/ack/stt", `{"version":8,"version":8,"config_epoch":"e","status":"applied"}`, trusted, 400},
		{"two objects", "/v1/ack/stt", good + good, trusted, 400},
		{"nothing", "/v1/ack/stt", "", trusted, 400},
		{"a bad status", "/v1/ack/stt", strings.Replace(good, "applied", "lost", 1), trusted, 422},
		{"too much", "/v1/ack/stt", good + strings.Repeat(" ", conf.MaxAckBytes), trusted, 413},
		{"another type", "/v1/ack/stt", good, append([]string{"Content-Type", "text/plain"}, trusted...), 400},
	} {
		s, k := newServer(t, false)
		w := post(s, c.path, c.body, c.headers...)
		if w.Code != c.status || (len(k.got) == 1) != (c.status == 202) {
			t.Errorf("%s: %d %s", c.what, w.Code, w.Body)
		}
		if c.status == 409 && (w.Header().Get("X-Config-Version") != "8" || w.Header().Get("X-Config-Epoch") != "e") {
			t.Errorf("%s: it does not tell which one is served: %v", c.what, w.Header())
		}
	}
}

func TestOpenAndQuota(t *testing.T) {
	t.Parallel()
	s, k := newServer(t, true)
	rejected := 0
	for range 2 * perSecond {
		if w := post(s, "/v1/ack/stt", good); w.Code == 429 && w.Header().Get("Retry-After") != "" {
			rejected++
		}
	}
	if rejected == 0 || len(k.got) < perSecond || len(k.got)+rejected != 2*perSecond {
		t.Errorf("%d taken, %d rejected", len(k.got), rejected)
	}
}
