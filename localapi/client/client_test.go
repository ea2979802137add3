package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestMain(m *testing.M) { os.Exit(base.NoLeaks(m)) }

func TestReads(t *testing.T) {
	t.Parallel()
	b, c := newAgent(t)
	ctx := t.Context()
	read, err := c.Service(ctx, "stt-worker")
	check(t, err)
	if read.Metadata.Version != 5 || string(read.Config) != `{"a":1,"b":2}` {
		t.Errorf("service: %+v", read)
	}
	stored, err := c.Stored(ctx, "stt-worker", 0)
	check(t, err)
	if string(stored.Config) != `{"a":1}` {
		t.Errorf("stored: %s", stored.Config)
	}
	old, err := c.Stored(ctx, "stt-worker", 3)
	check(t, err)
	if string(old.Config) != `{"old":3}` || old.Metadata.Version != 3 {
		t.Errorf("old: %+v", old)
	}
	services, err := c.Services(ctx)
	check(t, err)
	if len(services) != 1 || services[0].Service != "stt-worker" {
		t.Errorf("services: %+v", services)
	}
	versions, err := c.Versions(ctx, "stt-worker", 7)
	check(t, err)
	if len(versions) != 1 || b.limit != 7 {
		t.Errorf("versions: %+v, limit %d", versions, b.limit)
	}
	me, err := c.Me(ctx)
	check(t, err)
	if (me != conf.Principal{Name: "admin", Role: conf.RoleWrite}) {
		t.Errorf("me: %+v", me)
	}
	health, err := c.Health(ctx)
	check(t, err)
	if !health.OK || health.DatabaseStatus != conf.DatabaseHealthy {
		t.Errorf("health: %+v", health)
	}
	doc, err := c.OpenAPI(ctx)
	check(t, err)
	if !json.Valid(doc) || !strings.Contains(string(doc), `"openapi"`) {
		t.Errorf("openapi: %.80s", doc)
	}
	info, err := c.Schema(ctx, "stt-worker")
	check(t, err)
	if info.Hash != "hash" || len(info.Fields) != 1 {
		t.Errorf("schema: %+v", info)
	}
	schemas, err := c.Schemas(ctx)
	check(t, err)
	profiles, err := c.Profiles(ctx)
	check(t, err)
	profile, err := c.Profile(ctx, "night")
	check(t, err)
	if len(schemas) != 1 || len(profiles) != 1 || profile.Name != "night" {
		t.Errorf("schemas %v, profiles %v, profile %v", schemas, profiles, profile)
	}
}

func TestFiltersArriveWhole(t *testing.T) {
	t.Parallel()
	b, c := newAgent(t)
	simple, service := conf.Simple, "router"
	search := conf.SearchRequest{Query: "whisper & <co>", Service: &service, Complexity: &simple, Limit: 5, Offset: 10}
	_, err := c.Search(t.Context(), search)
	check(t, err)
	if diff := cmp.Diff(search, b.search); diff != "" {
		t.Error(diff)
	}
	history := conf.HistoryFilter{
		Service: "router", Key: "a.b", User: "token:1+2 &", Since: "2026-01-01T00:00:00+00:00", Until: "2026-01-02T00:00:00+00:00",
		Version: 4, Limit: 3, Offset: 2,
	}
	_, err = c.History(t.Context(), history)
	check(t, err)
	if diff := cmp.Diff(history, b.history); diff != "" {
		t.Error(diff)
	}
	access := conf.AccessFilter{User: "x", Action: "read", Service: "router", Since: "2026-01-01T00:00:00+00:00", Until: "2026-01-02T00:00:00+00:00", Limit: 3, Offset: 2}
	_, err = c.AccessLog(t.Context(), access)
	check(t, err)
	if diff := cmp.Diff(access, b.access); diff != "" {
		t.Error(diff)
	}
}

func TestChangesArriveWhole(t *testing.T) {
	t.Parallel()
	five := uint64(5)
	const reason = "why not: ümläut & more\nlines"
	for _, d := range []conf.Draft{
		{Op: conf.OpPut, Document: json.RawMessage(`{"a":"<b>&"}`), Expect: &five, Reason: reason},
		{Op: conf.OpPatch, Document: json.RawMessage(`{"a":null}`), Expect: &five, Reason: reason},
		{Op: conf.OpPatch, Document: json.RawMessage(`{"a":null}`)},
		{Op: conf.OpDelete, Expect: &five, Reason: reason},
		{Op: conf.OpDelete},
		{Op: conf.OpRestore, Restore: 3, Expect: &five, Reason: reason},
		{Op: conf.OpPut, Document: json.RawMessage(`{"a":1}`), DryRun: true},
		{Op: conf.OpPatch, Document: json.RawMessage(`{"a":1}`), DryRun: true},
	} {
		b, c := newAgent(t)
		d.Service, d.Author = "stt-worker", "admin"
		out, err := c.Do(t.Context(), d)
		check(t, err)
		if out.Service != "stt-worker" || out.Version != 6 || out.Changed {
			t.Errorf("%s: outcome %+v", d.Op, out)
		}
		if d.DryRun != (string(out.Config) == `{"a":2}`) {
			t.Errorf("%s: config of the outcome: %s", d.Op, out.Config)
		}
		if !d.DryRun && b.draft.RequestID == "" {
			t.Errorf("%s: no request id", d.Op)
		}
		b.draft.RequestID, b.draft.EarlierIDs, b.draft.Decoded = "", nil, nil // made on the way
		var want, got any
		check(t, json.Unmarshal(or(d.Document, `null`), &want))
		check(t, json.Unmarshal(or(b.draft.Document, `null`), &got))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: document (-want +got):\n%s", d.Op, diff)
		}
		b.draft.Document = d.Document
		if d.DryRun { // values are checked also while a rollout runs
			d.Rollout = conf.RolloutReplace
		}
		if diff := cmp.Diff(d, b.draft); diff != "" {
			t.Errorf("%s: draft (-want +got):\n%s", d.Op, diff)
		}
	}
}

func or(raw json.RawMessage, instead string) []byte {
	if raw == nil {
		return []byte(instead)
	}
	return raw
}

func TestRepeatedRequestsHaveOneID(t *testing.T) {
	t.Parallel()
	b, c := newAgent(t)
	ids := map[string]bool{}
	for _, id := range []string{"one", "one", "two", "", ""} {
		_, err := c.Do(t.Context(), conf.Draft{Service: "router", Op: conf.OpDelete, RequestID: id})
		check(t, err)
		ids[b.draft.RequestID] = true
	}
	if len(ids) != 4 {
		t.Errorf("%d ids, want 4", len(ids))
	}
}

func TestSchemasAndProfiles(t *testing.T) {
	t.Parallel()
	b, c := newAgent(t)
	stored, err := c.PutSchema(t.Context(), "router", json.RawMessage(`{"type": "object"}`), client.Change{Reason: "new"})
	check(t, err)
	if stored.Hash != "hash" || stored.Version != 6 || string(b.raw) != `{"type": "object"}` || b.reason != "new" || b.id == "" {
		t.Errorf("stored %+v, raw %s, reason %q, id %q", stored, b.raw, b.reason, b.id)
	}
	p := conf.Profile{Name: "night", Description: "d", Services: map[string]json.RawMessage{"router": json.RawMessage(`{"a":1}`)}}
	saved, err := c.SaveProfile(t.Context(), p, nil, client.Change{Reason: "s"})
	check(t, err)
	if diff := cmp.Diff(p, b.profile); diff != "" || saved.UpdatedBy != "admin" || b.reason != "s" {
		t.Errorf("%s, saved %+v", diff, saved)
	}
	_, err = c.SaveProfile(t.Context(), conf.Profile{Name: "night"}, []string{"router", "ui-web"}, client.Change{})
	check(t, err)
	if diff := cmp.Diff([]string{"router", "ui-web"}, b.of); diff != "" || b.profile.Services != nil {
		t.Errorf("%s, %+v", diff, b.profile)
	}
	out, err := c.ActivateProfile(t.Context(), "night", client.Change{Reason: "a"})
	check(t, err)
	if diff := cmp.Diff([]conf.Outcome{{Service: "stt-worker", Version: 6}}, out); diff != "" || b.reason != "a" {
		t.Error(diff)
	}
	check(t, c.DeleteProfile(t.Context(), "night", client.Change{Reason: "z"}))
	if b.reason != "z" {
		t.Errorf("reason %q", b.reason)
	}
	check(t, c.Rebuild(t.Context(), "rebuild-token"))
	if err := c.Rebuild(t.Context(), "guess"); conf.CodeOf(err) != conf.CodeDenied {
		t.Errorf("rebuild: %v", err)
	}
}

func TestErrorsCrossTheWire(t *testing.T) {
	t.Parallel()
	for _, code := range conf.Codes() {
		b, c := newAgent(t)
		b.err = &conf.Error{Code: code, Message: "it failed", Hint: "do this", Details: []conf.FieldError{{Key: "a", Message: "m"}}, Current: 9}
		_, err := c.Do(t.Context(), conf.Draft{Service: "router", Op: conf.OpDelete})
		got, ok := errors.AsType[*conf.Error](err)
		if !ok || !errors.Is(err, &conf.Error{Code: code}) {
			t.Fatalf("%s: got %v", code, err)
		}
		if code == conf.CodeInternal {
			continue // says nothing, on purpose
		}
		want := *b.err.(*conf.Error)
		if code != conf.CodeConflict {
			want.Current = 0
		}
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("%s (-sent +received):\n%s", code, diff)
		}
	}
}

func TestWrongToken(t *testing.T) {
	t.Parallel()
	_, c := newAgentFor(t, client.Options{Token: "wrong"})
	_, err := c.Services(t.Context())
	if conf.CodeOf(err) != conf.CodeUnauthenticated || conf.HintOf(err) == "" || strings.Contains(err.Error(), "wrong") {
		t.Errorf("got %v", err)
	}
	if _, err := c.Health(t.Context()); err != nil {
		t.Errorf("health: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	addr := fmt.Sprintf("127.0.0.1:%d", base.FreePorts(t, 1)[0]) // the kernel gives it to no other test
	c := newClient(t, client.Options{AdminURL: addr, LocalURL: addr, Token: "secret-token", LocalToken: "local-secret"})
	_, err := c.Services(t.Context())
	if conf.CodeOf(err) != conf.CodeInternal || !strings.Contains(err.Error(), "cannot reach the agent at http://"+addr) ||
		!strings.Contains(conf.HintOf(err), "CONFIG_MANAGER_PORT") {
		t.Errorf("admin: %v (%s)", err, conf.HintOf(err))
	}
	_, err = c.Do(t.Context(), conf.Draft{Service: "router", Op: conf.OpDelete})
	if conf.CodeOf(err) != conf.CodeInternal {
		t.Errorf("a change that was never sent: %v", err)
	}
	_, err = c.Document(t.Context(), "router")
	if !strings.Contains(conf.HintOf(err), "CONFIG_LOCAL_ADDR") || strings.Contains(err.Error(), "secret") {
		t.Errorf("local: %v (%s)", err, conf.HintOf(err))
	}
}

// What becomes of a change when the connection breaks after it was sent, nobody
// knows; a read may be repeated.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	}))
	defer srv.Close()
	c := newClient(t, client.Options{AdminURL: srv.URL})
	_, err := c.Do(t.Context(), conf.Draft{Service: "router", Op: conf.OpPatch, Document: json.RawMessage(`{}`)})
	if !errors.Is(err, conf.ErrOutcomeUnknown) || conf.HintOf(err) == "" {
		t.Errorf("change: %v", err)
	}
	if _, err = c.Services(t.Context()); conf.CodeOf(err) != conf.CodeInternal {
		t.Errorf("read: %v", err)
	}
}

func TestDeadlineOfAChange(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer srv.Close()
	defer close(release)
	c := newClient(t, client.Options{AdminURL: srv.URL, Timeout: 3 * time.Second}) // it has to get there before
	_, err := c.Do(t.Context(), conf.Draft{Service: "router", Op: conf.OpDelete})
	if !errors.Is(err, conf.ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestAnswersOfOthers(t *testing.T) {
	t.Parallel()
	var status int
	var body string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	defer srv.Close()
	c := newClient(t, client.Options{AdminURL: srv.URL})
	del := conf.Draft{Service: "router", Op: conf.OpDelete}
	for _, x := range []struct {
		status       int
		body         string
		read, change conf.Code
	}{
		{502, "<html>Bad Gateway", conf.CodeInternal, conf.CodeOutcomeUnknown},
		{404, "404 page not found", conf.CodeInternal, conf.CodeInternal},
		{200, "<html>hello", conf.CodeInternal, conf.CodeInternal},
		{400, `{"success":false,"error":"x","code":"of_the_future"}`, conf.CodeInternal, conf.CodeInternal},
	} {
		status, body = x.status, x.body
		if _, err := c.Services(t.Context()); conf.CodeOf(err) != x.read {
			t.Errorf("%d %q: read: %v", x.status, x.body, err)
		}
		if _, err := c.Do(t.Context(), del); conf.CodeOf(err) != x.change {
			t.Errorf("%d %q: change: %v", x.status, x.body, err)
		}
	}
}

func TestTokenDoesNotFollowARedirect(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s asked with token %q", r.URL, r.Header.Get("X-API-Token"))
	}))
	defer other.Close()
	srv := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer srv.Close()
	c := newClient(t, client.Options{AdminURL: srv.URL, Token: "admin-token"})
	if _, err := c.Services(t.Context()); err == nil {
		t.Error("a redirect is taken for an answer")
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"ftp://x", "http://", "http://user:secret@host", "http://host?x=1", "http://ho st", "::"} {
		_, err := client.New(client.Options{AdminURL: bad})
		if conf.CodeOf(err) != conf.CodeUsage || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	c := newClient(t, client.Options{})
	for name, err := range map[string]error{
		"no admin address": errorOf(c.Services(t.Context())),
		"no local address": errorOf(c.Document(t.Context(), "router")),
	} {
		if conf.CodeOf(err) != conf.CodeUsage || conf.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, c = newAgent(t)
	for name, d := range map[string]conf.Draft{
		"put without version": {Op: conf.OpPut, Document: json.RawMessage(`{}`)},
		"no operation":        {},
		"dry delete":          {Op: conf.OpDelete, DryRun: true},
	} {
		if _, err := c.Do(t.Context(), d); conf.CodeOf(err) != conf.CodeUsage {
			t.Errorf("%s: %v", name, err)
		}
	}
	five := uint64(5)
	for _, op := range []conf.Op{conf.OpPut, conf.OpPatch} {
		d := conf.Draft{Service: "router", Op: op, Expect: &five, Document: json.RawMessage(`{"a":1,"a":2}`)}
		for _, dry := range []bool{false, true} {
			d.DryRun = dry
			if _, err := c.Do(t.Context(), d); conf.CodeOf(err) != conf.CodeMalformed {
				t.Errorf("%s of a duplicate key: %v", op, err)
			}
		}
	}
	_, c = newAgentFor(t, client.Options{Token: "admin-token\n"})
	if _, err := c.Services(t.Context()); conf.CodeOf(err) != conf.CodeUsage || strings.Contains(err.Error(), "admin-token") {
		t.Errorf("token with a line break: %v", err)
	}
}

func errorOf[T any](_ T, err error) error { return err }

func TestNamesStayInTheirPlace(t *testing.T) {
	t.Parallel()
	b, c := newAgent(t)
	for _, name := range []string{"..", ".", "a/b", "a%2Fb", "stt-worker/versions", "stt-worker?values=stored", "a b"} {
		_, err := c.Service(t.Context(), name)
		if code := conf.CodeOf(err); code != conf.CodeInvalid && code != conf.CodeNotFound {
			t.Errorf("%q: %v", name, err)
		}
	}
	if b.recordCalls.Load() != 0 {
		t.Error("a name led to another place")
	}
}

func TestLocal(t *testing.T) {
	t.Parallel()
	var seen *http.Request
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r
		w.Header().Set("ETag", `W/"5-x"`)
		w.Header().Set("X-Config-Source", "lkg")
		w.Header().Set("X-Config-Age", "12")
		switch r.URL.Path {
		case "/v1/config", "/v1/config/router":
			_, _ = io.WriteString(w, `{"service":"router","config":{"a":1},"metadata":{"version":5}}`)
		case "/v1/config/router/a.b":
			if r.URL.Query().Has("raw") {
				_, _ = io.WriteString(w, "text")
				return
			}
			_, _ = io.WriteString(w, `"text"`)
		case "/v1/env/router":
			_, _ = io.WriteString(w, "A=1\n")
		case "/v1/keys":
			_, _ = io.WriteString(w, `{"keys":[]}`)
		case "/healthz":
		case "/readyz":
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"success":false,"error":"not yet","code":"stale","hint":"wait"}`)
		default:
			http.NotFound(w, r)
		}
	})
	srv := httptest.NewUnstartedServer(h)
	socket := filepath.Join(t.TempDir(), "s")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	check(t, err)
	unix := &http.Server{Handler: h, ReadHeaderTimeout: base.Patience}
	done := make(chan error, 1)
	go func() { done <- unix.Serve(l) }()
	srv.Start()
	t.Cleanup(func() {
		srv.Close()
		_ = unix.Close()
		<-done
	})
	for name, o := range map[string]client.Options{
		"tcp":  {LocalURL: srv.URL, LocalToken: "local-token", UserAgent: "me"},
		"unix": {UnixSocket: socket, LocalToken: "local-token", UserAgent: "me"},
	} {
		c := newClient(t, o)
		for _, service := range []string{"", "router"} {
			doc, err := c.Document(t.Context(), service)
			check(t, err)
			if doc.Service != "router" || doc.Metadata.Version != 5 || doc.ETag != `W/"5-x"` || doc.Source != "lkg" || doc.Age != 12*time.Second {
				t.Errorf("%s: %+v", name, doc)
			}
		}
		if seen.Header.Get("X-Holdfast-Token") != "local-token" || seen.UserAgent() != "me" || seen.Header.Get("X-API-Token") != "" {
			t.Errorf("%s: headers %v", name, seen.Header)
		}
		value, err := c.Key(t.Context(), "router", "a.b")
		check(t, err)
		raw, err := c.Raw(t.Context(), "router", "a.b")
		check(t, err)
		env, err := c.Env(t.Context(), "router", nil)
		check(t, err)
		keys, err := c.Keys(t.Context())
		check(t, err)
		check(t, c.Live(t.Context()))
		if string(value) != `"text"` || raw != "text" || env != "A=1\n" || string(keys) != `{"keys":[]}` {
			t.Errorf("%s: %s %s %s %s", name, value, raw, env, keys)
		}
		if err := c.Ready(t.Context()); conf.CodeOf(err) != conf.CodeStale || conf.HintOf(err) != "wait" {
			t.Errorf("%s: ready: %v", name, err)
		}
	}
}
