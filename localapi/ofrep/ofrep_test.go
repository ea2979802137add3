package ofrep

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestMain(m *testing.M) { os.Exit(base.NoLeaks(m)) }

const (
	epoch    = "5b0f8f0e-6f0a-4a52-9d7c-0c3f7f1f9a11"
	config   = `{"big":1e+21,"db":{"port":5432,"ratio":3},"dash-ed":true,"labels":{"app.rate":4},"list":[1,2],"mode":null,"name":"","rate":2,"retries":2}`
	declared = `{"type":"object","x-keys":"any","properties":{"retries":{"type":"integer"},"rate":{"type":"number"},"big":{"type":"number"},
		"mode":{"type":["string","null"]},"name":{"type":"string"},"list":{"type":"array"},"dash-ed":{"type":"boolean"},
		"labels":{"type":"object","properties":{"app.rate":{"type":"number"}}},
		"db":{"type":"object","properties":{"port":{"type":"integer"},"ratio":{"type":["number","null"]},"password":{"type":"string","x-secret":true}}}}}`
	meta = `{"service":"stt","version":7,"config_epoch":"` + epoch + `"}`
)

// memory is a source that a test changes by hand.
type memory struct {
	mu      sync.Mutex
	docs    map[string]*localapi.Document
	changed chan struct{}
	source  string
}

func newMemory() *memory {
	return &memory{docs: map[string]*localapi.Document{}, changed: make(chan struct{}), source: "replica"}
}

// set stores a version of a service; an empty text deletes it.
func (m *memory) set(service string, version uint64, text, schema string) {
	render := localapi.Renderer{Secrets: func(string, *conf.Record) map[string]any {
		return map[string]any{"api_key": "canary", "db": map[string]any{"password": "canary"}}
	}}
	r := &conf.Record{Service: service, Version: version, Epoch: epoch, Config: json.RawMessage(text), Schema: json.RawMessage(schema), Deleted: text == ""}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.docs[service] = render.Render(r)
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *memory) Get(service string) (*localapi.Document, <-chan struct{}, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.docs[service]
	return d, m.changed, ok
}

func (m *memory) Missing(string) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}
func (m *memory) Names() []string        { return conf.SortedKeys(m.docs) }
func (m *memory) State() *localapi.State { return localapi.NewState(epoch, m.source, 42, time.Second) }

// start makes a server whose own service is stt.
func start(t *testing.T, m *memory, edit ...func(*localapi.Options)) (*localapi.Server, *room) {
	t.Helper()
	o := localapi.Options{Service: "stt", Source: m, Token: func() string { return "right" }}
	for _, e := range edit {
		e(&o)
	}
	s, err := localapi.New(o)
	if err != nil {
		t.Fatal(err)
	}
	r := &room{schemas: schema.NewCache(), reading: make(chan struct{}, 1)}
	s.Register(func(h localapi.Host) localapi.Room {
		r.server = h
		return r.routes()
	})
	return s, r
}

func ask(t *testing.T, s *localapi.Server, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r := httptest.NewRequestWithContext(t.Context(), method, path, in)
	r.Host = "localhost:2770"
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

const one, all = "/ofrep/v1/evaluate/flags/", "/ofrep/v1/evaluate/flags"

func flagText(key, value string) string {
	if value != "" {
		value = `,"value":` + value
	}
	return `{"key":"` + key + `"` + value + `,"reason":"STATIC","variant":"v7","metadata":` + meta + `}`
}

func TestOneFlag(t *testing.T) {
	m := newMemory()
	m.set("stt", 7, config, declared)
	s, _ := start(t, m)
	for key, value := range map[string]string{
		"retries": "2", "rate": "2.0", "big": "1e+21", "name": `""`, "dash-ed": "true", "mode": "", "db.port": "5432", "db.ratio": "3.0",
		"db": `{"port":5432,"ratio":3.0}`, "labels.app.rate": "4.0", "labels": `{"app.rate":4.0}`,
	} {
		for _, prefix := range []string{"", "/s/stt"} {
			w := ask(t, s, "POST", prefix+one+key, "{}")
			if diff := cmp.Diff(flagText(key, value), w.Body.String()); w.Code != 200 || diff != "" {
				t.Errorf("%s: %d %s", key, w.Code, diff)
			}
			if h := w.Header(); h.Get("Content-Type") != "application/json" || h.Get("X-Config-Version") != "7" || h.Get("X-Config-Source") != "replica" || h.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: %v", key, h)
			}
		}
	}
	w := ask(t, s, "POST", one+"labels.%22app.rate%22", "")
	if want := flagText(`labels.\"app.rate\"`, "4.0"); w.Body.String() != want {
		t.Errorf("got %s, want %s", w.Body, want)
	}
	// Without a schema, or of any type at all, a number is what the store has.
	for version, text := range []string{"", `{"type":"object","properties":{"rate":{}}}`, `not a schema`} {
		m.set("stt", uint64(8+version), config, text)
		if w := ask(t, s, "POST", one+"rate", ""); !strings.Contains(w.Body.String(), `"value":2,`) {
			t.Errorf("schema %q: %s", text, w.Body)
		}
	}
}

// TestWhatIsNoFlag: each failure with its status and code, and always with details and
// metadata.
func TestWhatIsNoFlag(t *testing.T) {
	m := newMemory()
	m.set("stt", 7, config, declared)
	m.set("gone", 9, "", "")
	m.set("bare", 0, "", "")
	s, _ := start(t, m)
	lkg := newMemory()
	lkg.source = "lkg"
	early, _ := start(t, lkg)
	none, _ := start(t, m, func(o *localapi.Options) { o.Service = "" })
	for name, c := range map[string]struct {
		s          *localapi.Server
		path       string
		status     int
		code, says string
		metadata   string
	}{
		"no such key":           {s, one + "retrie", 404, flagNotFound, "did you mean retries", meta},
		"a secret":              {s, one + "api_key", 404, flagNotFound, "", meta},
		"a secret below":        {s, one + "db.password", 404, flagNotFound, "", meta},
		"a key with dashes":     {s, one + "re-tries", 404, flagNotFound, `"x-keys": "any"`, meta},
		"a long key":            {s, one + strings.Repeat("k", 300), 404, flagNotFound, "", meta},
		"below a value":         {s, one + "retries.x", 404, flagNotFound, "", meta},
		"an element":            {s, one + "list.0", 404, flagNotFound, "", meta},
		"an array":              {s, one + "list", 400, general, "array", meta},
		"a deleted service":     {s, "/s/gone" + one + "x", 404, flagNotFound, "was deleted", `{"service":"gone"}`},
		"no such service":       {s, "/s/st" + one + "x", 404, flagNotFound, "did you mean stt", `{"service":"st"}`},
		"no name of a service":  {s, "/s/A%20B" + one + "x", 404, flagNotFound, "no such service", `{}`},
		"no service of its own": {none, one + "x", 404, flagNotFound, "/s/SERVICE", `{}`},
		"not known yet":         {early, one + "x", 500, general, "retry", `{"service":"stt"}`},
		"a wrong token":         {s, one + "retries", 401, general, "wrong local token", `{"service":"stt"}`},

		"all of a deleted service":     {s, "/s/gone" + all, 400, general, "was deleted", `{"service":"gone"}`},
		"all of no such service":       {s, "/s/st" + all, 400, general, "did you mean stt", `{"service":"st"}`},
		"all of no service of its own": {none, all, 400, general, "/s/SERVICE", `{}`},
		"all that is not known yet":    {early, all, 500, general, "retry", `{"service":"stt"}`},
	} {
		var headers []string
		if strings.Contains(name, "token") {
			headers = []string{"X-Holdfast-Token: wrong"}
		}
		w := ask(t, c.s, "POST", c.path, `{"context":{}}`, headers...)
		var got struct {
			Key          *string
			ErrorCode    string
			ErrorDetails string
			Metadata     json.RawMessage
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatalf("%s: %v: %s", name, err, w.Body)
		}
		if w.Code != c.status || got.ErrorCode != c.code || got.ErrorDetails == "" || !strings.Contains(got.ErrorDetails, c.says) || string(got.Metadata) != c.metadata {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		_, key, single := strings.Cut(c.path, one)
		if single != (got.Key != nil) || single && *got.Key != key {
			t.Errorf("%s: key %v of %q", name, got.Key, key)
		}
		if strings.Contains(w.Body.String(), "canary") {
			t.Errorf("%s shows a secret: %s", name, w.Body)
		}
	}
	// The right token opens what it opens elsewhere, and no secret here.
	for _, path := range []string{one + "api_key", one + "db.password", one + "db", all} {
		if w := ask(t, s, "POST", path, "", "X-Holdfast-Token: right"); strings.Contains(w.Body.String(), "canary") || strings.Contains(w.Body.String(), `password"`) && path == one+"db" {
			t.Errorf("%s: %s", path, w.Body)
		}
	}
}

func TestQuestions(t *testing.T) {
	m := newMemory()
	m.set("stt", 7, config, declared)
	s, _ := start(t, m)
	deep := strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)
	for _, c := range []struct {
		body   string
		status int
		code   string
		header string
	}{
		{"", 200, "", ""},
		{"{}", 200, "", "Content-Type: application/json; charset=UTF-8"},
		{`{"context":null}`, 200, "", "Content-Type: application/json"},
		{`{"context":{"targetingKey":null,"id":12345678901234567890}}`, 200, "", "Authorization: Bearer wrong"},
		{` {"context":{"targetingKey":"user-1","a":[1,{"b":2}]},"more":1} `, 200, "", "X-API-Key: wrong"},
		{"[]", 400, parseError, ""},
		{"null", 400, parseError, ""},
		{"{", 400, parseError, ""},
		{"hello", 400, parseError, ""},
		{"{}{}", 400, parseError, ""},
		{`{"context":{"a":1,"a":2}}`, 400, parseError, ""},
		{`{"context":{},"context":{}}`, 400, parseError, ""},
		{`{"context":` + deep + `}`, 400, parseError, ""},
		{"{\"context\":{\"a\":\"\xff\"}}", 400, parseError, ""},
		{"\xef\xbb\xbf{}", 400, parseError, ""},
		{`{"context":{"a":"` + strings.Repeat("x", maxBody) + `"}}`, 400, parseError, ""},
		{strings.Repeat(" ", 2<<20), 400, parseError, ""},
		{"{}", 400, parseError, "Content-Type: text/plain"},
		{"{}", 400, parseError, "Content-Type: application/x-www-form-urlencoded"},
		{"{}", 400, parseError, "Content-Type: ;"},
		{`{"context":[]}`, 400, invalidContext, ""},
		{`{"context":"user-1"}`, 400, invalidContext, ""},
		{`{"context":{"targetingKey":5}}`, 400, invalidContext, ""},
	} {
		for _, path := range []string{one + "retries", all, all + "?flagConfigEtag=%22x%22&flagConfigLastModified=1771622898", all + "?flagConfigLastModified=2026-02-20T21:28:18Z&%zz"} {
			w := ask(t, s, "POST", path, c.body, append([]string{}, c.header)...)
			if w.Code != c.status || c.code != "" && !strings.Contains(w.Body.String(), `"errorCode":"`+c.code+`"`) {
				t.Errorf("%s with %.60q and %q: %d %.300s", path, c.body, c.header, w.Code, w.Body)
			}
			if c.code != "" && !strings.HasSuffix(strings.TrimSpace(w.Body.String()), `"metadata":{"service":"stt"}}`) {
				t.Errorf("no metadata: %s", w.Body)
			}
		}
	}
}

// TestGuards: the paths are exact, take one method each, and have the guards of the rest.
func TestGuards(t *testing.T) {
	m := newMemory()
	m.set("stt", 7, config, declared)
	s, r := start(t, m)
	for _, c := range []struct {
		method, path string
		status       int
		header       string
	}{
		{"GET", all, 405, ""},
		{"HEAD", one + "rate", 405, ""},
		{"PUT", all, 405, ""},
		{"DELETE", one + "rate", 405, ""},
		{"OPTIONS", all, 405, ""},
		{"POST", eventsPath, 405, ""},
		{"POST", "/v1/config/stt", 405, ""},
		{"POST", "/healthz", 405, ""},
		{"POST", all + "/", 405, ""},
		{"POST", "/ofrep/v1/evaluate", 405, ""},
		{"POST", one + "a/b", 405, ""},
		{"POST", "/ofrep/V1/evaluate/flags", 405, ""},
		{"POST", "/s/stt/x" + all, 405, ""},
		{"GET", "/s/stt", 404, ""},
		{"GET", "/ofrep/v1/events/", 404, ""},
		{"POST", all, 403, "X-Forwarded-For: 10.0.0.1"},
		{"POST", all, 403, "Forwarded: for=10.0.0.1"},
		{"POST", all, 403, "Via: 1.1 x"},
		{"POST", all, 403, "Origin: https://evil.example"},
		{"POST", all, 403, "Sec-Fetch-Site: cross-site"},
		{"POST", all, 403, "Origin: null"},
		{"GET", eventsPath, 403, "Origin: https://evil.example"},
		{"GET", eventsPath, 401, "X-Holdfast-Token: wrong"},
		{"POST", all, 200, "Origin: http://localhost:2770"},
		{"HEAD", eventsPath, 200, ""},
		{"HEAD", "/s/nobody" + eventsPath, 200, ""},
		{"HEAD", "/s/A%20B" + eventsPath, 400, ""},
	} {
		w := ask(t, s, c.method, c.path, "", c.header)
		if w.Code != c.status {
			t.Errorf("%s %s with %q: %d %s", c.method, c.path, c.header, w.Code, w.Body)
		}
		own := c.path == all || c.path == one+"rate"
		if own && c.status > 400 && !strings.HasSuffix(w.Body.String(), `"metadata":{"service":"stt"}}`) {
			t.Errorf("%s %s with %q: %d without the form of the protocol: %s", c.method, c.path, c.header, w.Code, w.Body)
		}
		if c.status == 405 && w.Header().Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", c.method, c.path)
		}
	}
	if w := ask(t, s, "GET", all, ""); w.Header().Get("Allow") != "POST" {
		t.Errorf("Allow %q", w.Header().Get("Allow"))
	}
	rebound := httptest.NewRequestWithContext(t.Context(), "POST", all, strings.NewReader("{}"))
	rebound.Host = "evil.example"
	w := httptest.NewRecorder()
	if s.ServeHTTP(w, rebound); w.Code != 403 {
		t.Errorf("a foreign Host: %d", w.Code)
	}
	// Bodies take turns: one more than may is told to come back.
	r.reading <- struct{}{}
	for _, path := range []string{one + "rate", all} {
		if w := ask(t, s, "POST", path, "{}"); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), `"errorCode":"GENERAL"`) {
			t.Errorf("%s: %d %v %s", path, w.Code, w.Header(), w.Body)
		}
	}
	<-r.reading
	if w := ask(t, s, "POST", all, "{}"); w.Code != 200 {
		t.Errorf("afterwards: %d", w.Code)
	}
	metrics := ask(t, s, "GET", "/metrics", "").Body.String()
	for _, want := range []string{
		`holdfast_local_requests_total{code="429",route="ofrep"} 2`, `holdfast_local_requests_total{code="200",route="ofrep"} 4`,
		`holdfast_local_waiting{kind="ofrep"} 0`, `holdfast_local_refused_total{reason="origin"} 4`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
}

// TestPanic: a fault is a 500 with what providers read.
func TestPanic(t *testing.T) {
	m := newMemory()
	m.set("stt", 7, config, declared)
	s, r := start(t, m)
	r.made.Store("stt", &flags{doc: m.docs["stt"], values: func() (*values, error) { panic("a fault") }})
	w := ask(t, s, "POST", one+"rate", "")
	want := `{"key":"rate","errorCode":"GENERAL","errorDetails":"internal error; the agent's log has the details","metadata":{"service":"stt"}}`
	if w.Code != 500 || w.Body.String() != want {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if m := ask(t, s, "GET", "/metrics", "").Body.String(); !strings.Contains(m, "holdfast_local_panics_total 1\n") {
		t.Error("it is not counted")
	}
	// A document that cannot be read is one, too.
	m.set("torn", 3, `{"a":`, "")
	for path, key := range map[string]string{"/s/torn" + one + "a": `{"key":"a",`, "/s/torn" + all: `{`} {
		if w := ask(t, s, "POST", path, ""); w.Code != 500 || !strings.HasPrefix(w.Body.String(), key+`"errorCode":"GENERAL","errorDetails":"the document of`) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}
