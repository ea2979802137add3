package ofrep

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-config/holdfast/testenv"
)

const (
	one  = "/ofrep/v1/evaluate/flags/"
	many = "/ofrep/v1/evaluate/flags"
)

// ask makes one request; its answer is held against the document.
func (s *spec) ask(method, url string, body io.Reader, headers ...string) testenv.Reply {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, url, body)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, h := range headers {
		if name, value, ok := strings.Cut(h, ": "); ok {
			req.Header.Set(name, value)
		}
	}
	resp, err := s.RoundTrip(req)
	if err != nil {
		return testenv.Reply{Err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	return testenv.Reply{Status: resp.StatusCode, Header: resp.Header, Body: data, Err: err}
}

// TestAnswers asks a real agent, well and badly.
func TestAnswers(t *testing.T) {
	t.Parallel()
	canary := testenv.NewCanary("ofrep")
	schemas := t.TempDir()
	if err := os.WriteFile(filepath.Join(schemas, "demo.json"), []byte(`{"type":"object","x-keys":"any","properties":{
		"rate":{"type":"number","default":2},"retries":{"type":"integer","default":3},"dash-ed":{"type":"boolean","default":true},
		"tags":{"type":"array","items":{"type":"string"},"default":["a"]},"proxy":{"type":["string","null"],"default":null},
		"db":{"type":"object","properties":{"port":{"type":"integer","default":5432},"share":{"type":"number","default":1},
			"password":{"type":"string","x-secret":true,"x-secret-source":"database"}}}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	a := testenv.StartProcess(t, "CONFIG_SERVICE_NAME=demo", "CONFIG_SCHEMA_DIR="+schemas)
	a.Patch("demo", `{"db":{"password":`+canary.JSON()+`}}`)
	hunt := &testenv.Hunt{Canaries: []testenv.Canary{canary}}
	answers := newSpec(t)
	base := "http://" + a.LocalAddr
	secret, err := os.ReadFile(a.Path("local-token"))
	if err != nil {
		t.Fatal(err)
	}
	token := "X-Holdfast-Token: " + strings.TrimSpace(string(secret))
	open := testenv.Hunt{Canaries: hunt.Canaries}
	if open.Look("with the token", a.Local("/v1/config/demo", token).Body); len(open.Hits) == 0 {
		t.Fatal("the token shows no secret: the test looks for nothing")
	}
	for key, want := range map[string]string{
		"rate": "2.0", "retries": "3", "dash-ed": "true", "proxy": "", "db.port": "5432", "db.share": "1.0", "db": `{"port":5432,"share":1.0}`,
	} {
		for _, prefix := range []string{"", "/s/demo"} {
			for _, header := range []string{"", token, "Authorization: Bearer wrong", "X-API-Key: wrong"} {
				var got answer
				answers.ask("POST", base+prefix+one+key, nil, header).OK(t).Into(t, &got)
				if string(got.Value) != want {
					t.Errorf("%s is %s, want %s", key, got.Value, want)
				}
			}
		}
	}
	for _, key := range []string{"db.password", "password", "api_key"} {
		for _, header := range []string{"", token} {
			answers.ask("POST", base+one+key, nil, header).Want(t, http.StatusNotFound, "")
		}
	}
	big := func(n int) string { return `{"context":{"a":"` + strings.Repeat("x", n) + `"}}` }
	for _, path := range []string{one + "rate", many, many + "?flagConfigEtag=x&flagConfigLastModified=1"} {
		for body, status := range map[string]int{
			"": 200, "{}": 200, `{"context":{}}`: 200, big(60 << 10): 200, big(1 << 20): 400, strings.Repeat("[", 1<<20): 400,
			`{"context":` + strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1001): 400, `{"a":1,"a":1}`: 400, "no": 400, `"x"`: 400,
			`{"context":1}`: 400, `{"context":{"targetingKey":{}}}`: 400, "\x00": 400,
		} {
			r := answers.ask("POST", base+path, strings.NewReader(body), "Content-Type: application/json; charset=utf-8")
			hunt.Look(path, r.Body)
			if r.Err != nil || r.Status != status {
				t.Errorf("%s with %.40q: %s", path, body, r)
			}
			// Without a length, too.
			if r := answers.ask("POST", base+path, io.MultiReader(strings.NewReader(body))); r.Err != nil || r.Status != status {
				t.Errorf("%s with a stream of %.40q: %s", path, body, r)
			}
		}
		for _, header := range []string{"X-Forwarded-For: 10.0.0.1", "Via: 1.1 proxy", "Origin: https://evil.example", "Sec-Fetch-Site: cross-site"} {
			answers.ask("POST", base+path, nil, header).Want(t, http.StatusForbidden, "")
		}
		answers.ask("POST", base+path, nil, "X-Holdfast-Token: wrong").Want(t, http.StatusUnauthorized, "")
		answers.ask("POST", base+path, nil, "Content-Type: text/plain").Want(t, http.StatusBadRequest, "")
		for _, method := range []string{"GET", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"} {
			if r := answers.ask(method, base+path, nil); r.Status != http.StatusMethodNotAllowed || r.Header.Get("Allow") != "POST" || !bytes.Contains(r.Body, []byte(`"metadata":{`)) {
				t.Errorf("%s %s: %s", method, path, r)
			}
		}
	}
	for path, status := range map[string]int{
		one + "tags": 400, one + "nothing": 404, one + "no-thing": 404, one + "db.port.x": 404, one + "%2e": 404, one + "%22db%22": 200, one + strings.Repeat("k", 4000): 404,
		"/s/nobody" + one + "rate": 404, "/s/nobody" + many: 400, "/s/A_B" + many: 400, "/s/A_B" + one + "rate": 404,
	} {
		if r := answers.ask("POST", base+path, strings.NewReader("{}")); r.Status != status {
			t.Errorf("%s: %s", path, r)
		}
	}
	r := answers.ask("POST", base+many, nil, token).OK(t)
	hunt.Look("all flags", r.Body)
	var got all
	r.Into(t, &got)
	var keys []string
	for _, f := range got.Flags {
		keys = append(keys, f.Key)
	}
	if want := []string{"dash-ed", "db", "db.port", "db.share", "proxy", "rate", "retries"}; !slices.Equal(keys, want) {
		t.Errorf("all flags are %v, want %v", keys, want)
	}
	answers.ask("POST", base+many, nil, "If-None-Match: "+r.Header.Get("ETag")).Want(t, http.StatusNotModified, "")
	answers.event(base + got.EventStreams[0].Endpoint.RequestURI)
	hunt.Look("log", []byte(a.Log()))
	for _, found := range hunt.Hits {
		t.Error(found)
	}
	t.Logf("answers: %v", answers.checked)
}

// event holds the first event of a stream against the document.
func (s *spec) event(url string) {
	s.t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	event := map[string]string{}
	data := make([]byte, 4096)
	for text := ""; len(event) < 3; {
		n, err := resp.Body.Read(data)
		if err != nil {
			s.t.Fatalf("the stream ended: %v: %q", err, text)
		}
		text += string(data[:n])
		if !strings.HasSuffix(text, "\n\n") {
			continue
		}
		for line := range strings.Lines(text) {
			if field, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && field != "" {
				event[field] = value
			}
		}
	}
	if event["event"] != "message" || s.compiler == nil {
		s.t.Logf("event: %v", event)
		return
	}
	whole, err := json.Marshal(event)
	if err != nil {
		s.t.Fatal(err)
	}
	for schema, body := range map[string][]byte{"sseEvent": whole, "sseEventData": []byte(event["data"])} {
		s.validate("#/components/schemas/"+schema, body, func(format string, args ...any) { s.t.Errorf("%s: %s", body, fmt.Sprintf(format, args...)) })
	}
}

// setting is a setting of an agent.
func setting(a *testenv.Agent, name string) string {
	for _, e := range a.Env() {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value
		}
	}
	return ""
}

// TestProgram: a program that knows OpenFeature only follows three changes, keeps what it
// has while the agent is away, and starts in a total outage. What the agent answers from
// its last-known-good file alone is what it answered before, byte for byte.
func TestProgram(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t, "CONFIG_SERVICE_NAME=stt-worker")
	answers := newSpec(t)
	base := "http://" + a.LocalAddr
	program := testenv.Binary(t, "./testenv/services/openfeature")
	spawn := func() *testenv.Process {
		return testenv.Spawn(t, t.TempDir(), []string{"OFREP_ENDPOINT=" + base, "http_proxy=http://127.0.0.1:9"}, program)
	}
	await := func(p *testenv.Process, line string) {
		t.Helper()
		testenv.Await(t, fmt.Sprintf("the program to print %q", line), func() bool { return p.Transcript().Has(line) || !p.Running() })
		if !p.Transcript().Has(line) {
			t.Fatalf("the program has ended; it printed:\n%s", p.Output())
		}
	}
	first := spawn()
	await(first, "first whisper_model=base.en vad_threshold=0.50 asked=0.50 reason=STATIC\n")
	a.Patch("stt-worker", `{"whisper_model":"small.en"}`)
	await(first, "update whisper_model=small.en vad_threshold=0.50 asked=0.50 reason=STATIC\n")
	a.Patch("stt-worker", `{"vad_threshold":0.75}`)
	await(first, "update whisper_model=small.en vad_threshold=0.75 asked=0.75 reason=STATIC\n")
	a.Patch("stt-worker", `{"vad_threshold":1}`)
	await(first, "update whisper_model=small.en vad_threshold=1.00 asked=1.00 reason=STATIC\n")

	before := answers.ask("POST", base+many, nil).OK(t)
	outage := func(what, fault string, start func()) {
		t.Helper()
		a.Stop()
		start()
		a.Start()
		testenv.Await(t, what+": the file to be served", func() bool {
			d, err := a.TryDocument("stt-worker")
			return err == nil && d.Source == "lkg"
		})
		if says := string(a.Local("/healthz").Body); !strings.Contains(says, fault) {
			t.Errorf("%s: health %s", what, says)
		}
		after := answers.ask("POST", base+many, nil).OK(t)
		if !bytes.Equal(before.Body, after.Body) || before.Header.Get("ETag") != after.Header.Get("ETag") {
			t.Errorf("%s: %s, before %s", what, after, before)
		}
		answers.ask("POST", base+many, nil, "If-None-Match: "+before.Header.Get("ETag")).Want(t, http.StatusNotModified, "")
		answers.ask("POST", base+"/s/nobody"+many, nil).Want(t, http.StatusInternalServerError, "")
		answers.ask("POST", base+"/s/nobody"+one+"x", nil).Want(t, http.StatusInternalServerError, "")
		next := spawn()
		await(next, "first whisper_model=small.en vad_threshold=1.00 asked=1.00 reason=STATIC\n")
		next.Signal(syscall.SIGTERM)
		if code := next.Wait(t, "the program to end"); code != 0 {
			t.Errorf("%s: the program ended with %d:\n%s", what, code, next.Output())
		}
	}
	// The agent cannot even start: another process serves the file.
	var taken net.Listener
	outage("its port is taken", "address already in use", func() {
		var err error
		if taken, err = net.Listen("tcp", setting(a, "CONFIG_CLUSTER_ADDR")); err != nil {
			t.Fatal(err)
		}
	})
	outage("its store is lost", `"database_status":"corrupted"`, func() {
		_ = taken.Close()
		a.WreckReplica()
	})
	if out := first.Output(); !strings.HasSuffix(out, "vad_threshold=1.00 asked=1.00 reason=STATIC\n") || strings.Count(out, "\n") != 4 {
		t.Errorf("the program that was running went elsewhere:\n%s", out)
	}
	testenv.Do("POST", "http://"+a.AdminAddr+"/api/config/rebuild", `{"token":"`+testenv.RebuildToken+`"}`, "Content-Type: application/json").OK(t)
	a.AwaitNormal()
	a.Patch("stt-worker", `{"vad_threshold":0.25}`)
	await(first, "update whisper_model=small.en vad_threshold=0.25 asked=0.25 reason=STATIC\n")
	first.Signal(syscall.SIGTERM)
	if code := first.Wait(t, "the program to end"); code != 0 {
		t.Errorf("it ended with %d:\n%s", code, first.Output())
	}
	t.Logf("answers: %v", answers.checked)
}
