package localapi

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/httperror"
)

func TestDocument(t *testing.T) {
	s := newServer(t, newMemory(record("stt-worker", 7, sttConfig)))
	for _, path := range []string{"/v1/config/stt-worker", "/v1/config"} {
		w := get(t, s, path)
		wantStatus(t, w, 200)
		var got conf.ReadResponse
		if err := conf.DecodeStrict(w.Body.Bytes(), 1<<20, &got); err != nil {
			t.Fatal(err)
		}
		if string(got.Config) != sttConfig || got.Metadata.Version != 7 {
			t.Fatalf("got %+v", got)
		}
		want := http.Header{
			"Content-Type": {"application/json"}, "Content-Length": w.Header()["Content-Length"], "Etag": w.Header()["Etag"],
			"Cache-Control": {"no-cache"}, "X-Content-Type-Options": {"nosniff"}, "X-Config-Version": {"7"},
			"X-Config-Epoch": {testEpoch}, "X-Config-Source": {"replica"}, "X-Config-Age": {"3"},
		}
		if diff := cmp.Diff(want, w.Header()); diff != "" {
			t.Fatal(diff)
		}
		if !strings.HasPrefix(w.Header().Get("Etag"), `W/"7-`) {
			t.Fatalf("ETag %s", w.Header().Get("Etag"))
		}
	}
}

func TestNotModified(t *testing.T) {
	s := newServer(t, newMemory(record("stt-worker", 7, sttConfig)))
	for path, weak := range map[string]bool{"/v1/config/stt-worker": true, "/v1/config/stt-worker/vad": false, "/v1/env/stt-worker": false} {
		etag := get(t, s, path).Header().Get("Etag")
		if strings.HasPrefix(etag, "W/") != weak {
			t.Fatalf("%s: ETag %s", path, etag)
		}
		opaque := strings.TrimPrefix(etag, "W/")
		for inm, want := range map[string]int{
			etag: 304, opaque: 304, "W/" + opaque: 304, `"other", W/"more" ,` + etag: 304, "*": 304, etag + `, "other"`: 304,
			`"other"`: 200, `"a", W/"b"`: 200, "": 200, strings.Trim(opaque, `"`): 200, `W/`: 200, `"open`: 200, `x, ` + etag: 304,
			`"a,` + opaque[1:]: 200,
		} {
			w := get(t, s, path, "If-None-Match: "+inm)
			if w.Code != want {
				t.Errorf("%s with %s: %d, want %d", path, inm, w.Code, want)
			}
			if w.Code == 304 && (w.Body.Len() > 0 || w.Header().Get("Etag") != etag || w.Header().Get("X-Config-Age") != "3" || w.Header().Get("Content-Length") != "") {
				t.Errorf("%s: 304 with body %q and headers %v", path, w.Body, w.Header())
			}
		}
	}
}

func TestKeys(t *testing.T) {
	s := newServer(t, newMemory(record("stt-worker", 7, sttConfig)))
	for path, want := range map[string]string{
		"whisper_model": `"base.en"`, "whisper_model?raw": `base.en`, "whisper_model?raw=false": `"base.en"`, "whisper_model?raw=1": `base.en`,
		"vad": `0.5`, "vad?raw": `0.5`, "mode": `null`, "mode?raw": ``, "streaming": `false`, "streaming?raw": "false",
		"list": `[1,"two"]`, "list?raw": `[1,"two"]`, "limits.name": `"a<b&c"`, "limits.name?raw": `a<b&c`,
		"limits": `{"max":9007199254740991,"name":"a<b&c"}`, "limits.max?raw": "9007199254740991",
	} {
		w := get(t, s, "/v1/config/stt-worker/"+path)
		wantStatus(t, w, 200)
		if w.Body.String() != want {
			t.Errorf("%s: %q, want %q", path, w.Body, want)
		}
		kind := "application/json"
		if strings.Contains(path, "?raw") && !strings.Contains(path, "false") {
			kind = "text/plain; charset=utf-8"
		}
		if w.Header().Get("Content-Type") != kind || w.Header().Get("X-Config-Version") != "7" {
			t.Errorf("%s: headers %v", path, w.Header())
		}
	}
}

func TestEnvRoute(t *testing.T) {
	s := newServer(t, newMemory(record("stt-worker", 7, `{"a":"x y","b":"p\nq"}`)))
	for path, want := range map[string]string{
		"/v1/env/stt-worker": "A='x y'\nB=\"p\nq\"\n",
		"/v1/env":            "A='x y'\nB=\"p\nq\"\n",
		"/v1/env/stt-worker?format=sh&prefix=STT_":     "STT_A='x y'\nSTT_B=\"p\nq\"\n",
		"/v1/env/stt-worker?format=docker":             "A=x y\n# \"b\" is left out: its value has a line break\n",
		"/v1/env/stt-worker?format=docker&prefix=_stt": "_sttA=x y\n# \"b\" is left out: its value has a line break\n",
	} {
		w := get(t, s, path)
		wantStatus(t, w, 200)
		if w.Body.String() != want {
			t.Errorf("%s: %q, want %q", path, w.Body, want)
		}
	}
}

func TestBadQueries(t *testing.T) {
	s := newServer(t, newMemory(record("stt-worker", 7, sttConfig)))
	for _, path := range []string{
		"/v1/config/stt-worker?wiat=30s", "/v1/config/stt-worker?wait=soon", "/v1/config/stt-worker?wait=-1s", "/v1/config/stt-worker?wait=",
		"/v1/config/stt-worker?raw", "/v1/config/stt-worker?wait=1s&wait=2s", "/v1/config/stt-worker?%zz",
		"/v1/config/stt-worker/vad?raw=maybe", "/v1/config/stt-worker/vad?prefix=A", "/v1/env/stt-worker?prefix=9", "/v1/env/stt-worker?prefix=A-",
		"/v1/env/stt-worker?format=toml", "/v1/watch/stt-worker?wait=1s", "/v1/watch/stt-worker?key=a&key=b", "/v1/watch/stt-worker?key=",
		"/v1/env/stt-worker?prefix=" + strings.Repeat("A", 200),
	} {
		if f := wantFailure(t, get(t, s, path), 400, conf.CodeMalformed); len(f.Error) > 300 {
			t.Errorf("%s: a long error: %s", path, f.Error)
		}
	}
}

func TestAbsent(t *testing.T) {
	unconfigured := &conf.Record{Service: "wake-activation", Schema: json.RawMessage(`{}`)}
	m := newMemory(record("stt-worker", 7, sttConfig), record("tts-worker", 1, `{}`), tombstone("router", 4), unconfigured)
	s := newServer(t, m, func(o *Options) { o.Service = "" })
	for _, c := range []struct{ path, words, hint, version string }{
		{"/v1/config/sst-worker", `no service "sst-worker"`, "did you mean stt-worker, tts-worker?", ""},
		{"/v1/config/worker", `no service "worker"`, "stt-worker", ""},
		{"/v1/config/zzz", `no service "zzz"`, "known services: router, stt-worker", ""},
		{"/v1/config/Bad_Name", "bad service name", "lower-case", ""},
		{"/v1/config/", "bad service name", "lower-case", ""},
		{"/v1/config", "its own", "CONFIG_SERVICE_NAME", ""},
		{"/v1/env/router", `"router" was deleted (version 4)`, "rollback router 3", "4"},
		{"/v1/config/router", `"router" was deleted (version 4)`, "rollback router 3", "4"},
		{"/v1/config/router/x", `"router" was deleted`, "rollback", "4"},
		{"/v1/config/wake-activation", "no configuration yet", "required fields", "0"},
		{"/v1/config/stt-worker/wisper_model", `no key "wisper_model"`, "did you mean whisper_model?", "7"},
		{"/v1/config/stt-worker/zzzzzz", `no key "zzzzzz"`, "known keys: channels, limits", "7"},
		{"/v1/config/tts-worker/x", `no key "x"`, "no keys yet", "1"},
		{"/v1/config/stt-worker/a/b", "no such path", "/v1/config/SERVICE", ""},
		{"/v1/config/stt-worker/", "no such path", "/v1/config/SERVICE", ""},
		{"/v1/CONFIG/stt-worker", "no such path", "/v1/", ""},
		{"//v1/config/stt-worker", "no such path", "/v1/", ""},
		{"/v1/keys/", "no such path", "/v1/", ""},
		{"/", "no such path", "/v1/", ""},
		{"/v1/config/../config/stt-worker", "no such path", "/v1/", ""},
	} {
		w := get(t, s, c.path)
		f := wantFailure(t, w, 404, conf.CodeNotFound)
		if !strings.Contains(f.Error, c.words) || !strings.Contains(f.Hint, c.hint) {
			t.Errorf("%s: %q, hint %q", c.path, f.Error, f.Hint)
		}
		if got := w.Header().Get("X-Config-Version"); got != c.version {
			t.Errorf("%s: X-Config-Version %q, want %q", c.path, got, c.version)
		}
		if w.Header().Get("X-Config-Epoch") != testEpoch || w.Header().Get("X-Config-Source") != "replica" {
			t.Errorf("%s: headers %v", c.path, w.Header())
		}
	}
}

func TestMethods(t *testing.T) {
	s := newServer(t, newMemory(record("stt-worker", 7, sttConfig)))
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "BREW"} {
		for _, path := range []string{"/v1/config/stt-worker", "/v1/keys", "/nowhere"} {
			w := do(t, s, method, path)
			wantFailure(t, w, 405, conf.CodeMethod)
			if got := w.Header().Get("Allow"); got != "GET, HEAD" {
				t.Errorf("%s %s: Allow %q", method, path, got)
			}
		}
	}
}

func TestHead(t *testing.T) {
	s := newServer(t, newMemory(record("stt-worker", 7, sttConfig)))
	c := client(t, "tcp", listen(t, s))
	for _, path := range []string{
		"/v1/config/stt-worker", "/v1/config/stt-worker/vad?raw", "/v1/env/stt-worker", "/v1/keys", "/readyz", "/v1/config/none", "/v1/watch/stt-worker",
	} {
		head, err := c.Head("http://localhost" + path)
		if err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(head.Body)
		if err != nil || len(rest) > 0 {
			t.Errorf("%s: body %q, %v", path, rest, err)
		}
		if strings.Contains(path, "watch") {
			continue // its GET does not end
		}
		res, _ := fetch(t, c, path)
		head.Header.Del("Date")
		res.Header.Del("Date")
		if diff := cmp.Diff(res.Header, head.Header); diff != "" || head.StatusCode != res.StatusCode || head.ContentLength != res.ContentLength {
			t.Errorf("%s: %d, %d: %s", path, head.StatusCode, res.StatusCode, diff)
		}
	}
}

func TestKeysRoute(t *testing.T) {
	pub, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := NewKey("0123456789abcdef", pub)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewKey("short", pub[:5]); err == nil {
		t.Error("half a key was taken")
	}
	s := newServer(t, newMemory(), func(o *Options) { o.Keys = func() []Key { return []Key{key} } })
	var got struct {
		Keys []struct {
			ID  string `json:"key_id"`
			Alg string `json:"algorithm"`
			PEM string `json:"public_key_pem"`
			Raw string `json:"public_key"`
		} `json:"keys"`
	}
	w := get(t, s, "/v1/keys")
	wantStatus(t, w, 200)
	if err := conf.DecodeStrict(w.Body.Bytes(), 1<<20, &got); err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(got.Keys[0].Raw)
	if err != nil || !pub.Equal(ed25519.PublicKey(raw)) || got.Keys[0].Alg != "Ed25519" || got.Keys[0].ID != key.ID ||
		!strings.HasPrefix(got.Keys[0].PEM, "-----BEGIN PUBLIC KEY-----\n") {
		t.Fatalf("%v: %+v", err, got)
	}
	if got := get(t, newServer(t, newMemory()), "/v1/keys").Body.String(); got != `{"keys":[]}` {
		t.Errorf("without keys: %s", got)
	}
}

func TestHealthAndReady(t *testing.T) {
	var ready error
	s := newServer(t, newMemory(), func(o *Options) {
		o.Health = func() conf.Health {
			return conf.Health{DatabaseStatus: conf.DatabaseLocked, OperationalMode: conf.ModeReadOnly, ConfigEpoch: testEpoch, LitestreamStatus: "disabled"}
		}
		o.Ready = func() error { return ready }
	})
	w := get(t, s, "/healthz")
	wantStatus(t, w, 200) // alive, though not well
	var h conf.Health
	if err := conf.DecodeStrict(w.Body.Bytes(), 1<<20, &h); err != nil || h.OK || h.DatabaseStatus != conf.DatabaseLocked {
		t.Fatalf("%v: %s", err, w.Body)
	}
	if w := get(t, s, "/readyz"); w.Code != 200 || w.Body.String() != `{"ready":true}` {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	ready = conf.Errorf(conf.CodeReadOnly, "not yet").WithHint("wait")
	if f := wantFailure(t, get(t, s, "/readyz"), 503, conf.CodeReadOnly); f.Hint != "wait" {
		t.Fatalf("%+v", f)
	}
	ready = errors.New("plain")
	wantFailure(t, get(t, s, "/readyz"), 503, conf.CodeInternal)
	wantFailure(t, get(t, newServer(t, newMemory()), "/healthz"), 501, conf.CodeUnsupported)
}

func TestBeforeThereIsAnything(t *testing.T) {
	m := newMemory()
	m.state.Store(nil)
	w := get(t, newServer(t, m), "/v1/config/stt-worker")
	if f := wantFailure(t, w, 503, conf.CodeReadOnly); f.Hint == "" || w.Header().Get("Retry-After") == "" {
		t.Fatalf("no way out: %+v, headers %v", f, w.Header())
	}
	if _, ok := w.Header()["X-Config-Source"]; ok {
		t.Fatalf("headers %v", w.Header())
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := newServer(t, newMemory(record("stt-worker", 7, sttConfig)), withToken, func(o *Options) { o.Metrics = reg })
	etag := get(t, s, "/v1/config/stt-worker").Header().Get("Etag")
	get(t, s, "/v1/config/stt-worker", "If-None-Match: "+etag)
	get(t, s, "/v1/config/none")
	get(t, s, "/v1/config/stt-worker/vad", "X-Holdfast-Token: wrong")
	get(t, s, "/v1/config/stt-worker", "X-Forwarded-For: 10.0.0.1")
	w := get(t, s, "/metrics")
	wantStatus(t, w, 200)
	for _, line := range []string{
		`holdfast_local_requests_total{code="200",route="document"} 1`, `holdfast_local_requests_total{code="304",route="document"} 1`,
		`holdfast_local_requests_total{code="404",route="document"} 1`, `holdfast_local_requests_total{code="401",route="key"} 1`,
		`holdfast_local_refused_total{reason="token"} 1`, `holdfast_local_refused_total{reason="proxy"} 1`, `holdfast_local_refused_total{reason="host"} 0`,
		`holdfast_local_connections 0`, `holdfast_local_waiting{kind="poll"} 0`, `holdfast_local_config_index 42`, `holdfast_local_config_age_seconds 3`,
	} {
		if !has(strings.Split(w.Body.String(), "\n"), line) {
			t.Errorf("missing: %s", line)
		}
	}
	if t.Failed() {
		t.Log(w.Body)
	}
	if _, err := New(Options{Source: newMemory(), Metrics: reg}); err == nil {
		t.Error("a second server took the same registry")
	}
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"no source": {}, "bad service": {Source: newMemory(), Service: "Bad"}, "bad host": {Source: newMemory(), AllowedHosts: []string{"a:b:c"}},
		"empty host": {Source: newMemory(), AllowedHosts: []string{""}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestEveryCodeHasAStatus(t *testing.T) {
	for _, code := range conf.Codes() {
		status := httperror.Status(code)
		if status < 400 || http.StatusText(status) == "" || status == 500 && code != conf.CodeInternal {
			t.Errorf("%s: status %d", code, status)
		}
	}
}

func TestAPanicIsA500(t *testing.T) {
	s := newServer(t, newMemory(), func(o *Options) { o.Health = func() conf.Health { panic("boom") } })
	c := client(t, "tcp", listen(t, s))
	for range 2 {
		res, body := fetch(t, c, "/healthz")
		if res.StatusCode != 500 || !strings.Contains(body, `"code":"internal"`) || strings.Contains(body, "boom") {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
	}
	if s.metrics.panics.Load() != 2 {
		t.Error("panics are not counted")
	}
}
