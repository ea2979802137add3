package admin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv/base"
)

const svc = "/api/config/services/stt-worker"

func (s *harness) want(a answer, status int, body string) {
	s.t.Helper()
	if a.Code != status || strings.TrimSpace(a.Body.String()) != body {
		s.t.Errorf("got %d %s\nwant %d %s", a.Code, a.Body, status, body)
	}
}

// The requests and answers of the seed, member for member.
func TestSeedBodies(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.want(s.do("GET", "/api/config/health", "", ""), 200,
		`{"ok":true,"database_status":"healthy","operational_mode":"normal","config_epoch":"`+epoch+
			`","schema_version":1,"lkg_cache_valid":true,"litestream_status":"disabled","last_backup":null,"event":null,"err":null}`)
	s.want(s.do("GET", "/api/config/services", readToken, ""), 200, `{"services":[]}`)
	s.want(s.do("GET", svc, readToken, ""), 200,
		`{"service":"stt-worker","config":{"vad_threshold":0.6,"whisper_model":"base.en"},"metadata":{"version":5,`+
			`"updated_at":"2026-01-02T03:04:05+00:00","updated_by":"admin","config_epoch":"`+epoch+`","checksum":"`+checksum+
			`","issued_at":"2026-01-02T03:04:05+00:00","signature":"c2ln","key_id":"k1"}}`)
	s.want(s.do("PUT", svc, writeToken, `{
    "service": "stt-worker",
    "config": {
      "whisper_model": "small.en",
      "vad_threshold": 0.6
    },
    "version": 1
  }`, "Content-Type: application/json"), 200, `{"success":true,"new_version":6,"error":null}`)
	s.want(s.do("POST", "/api/config/search", readToken, `{
    "query": "whisper",
    "complexity_filter": "simple"
  }`, "Content-Type: application/json"), 200, `{"results":[],"total":0}`)
	if s.search.Query != "whisper" || *s.search.Complexity != conf.Simple || s.search.Limit != 100 {
		t.Errorf("search: %+v", s.search)
	}
	s.want(s.do("POST", "/api/config/rebuild", "", `{"token": "`+rebuildToken+`"}`, "Content-Type: application/json"), 200, `{"success":true}`)
}

func TestOtherBodies(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	for _, c := range []struct{ method, target, body, want string }{
		{"PATCH", svc, `{"a":null}`, `{"success":true,"new_version":6,"error":null}`},
		{"DELETE", svc, ``, `{"success":true,"new_version":6,"error":null}`},
		{"POST", svc + "/restore", `{"version":3}`, `{"success":true,"new_version":6,"error":null}`},
		{"POST", svc + "/validate", `{"config":{}}`, `{"valid":true,"config":{"vad_threshold":0.7},"new_version":6}`},
		{"GET", "/api/config/history", ``, `{"results":[],"total":0}`},
		{"GET", "/api/config/access", ``, `{"results":[],"total":0}`},
		{"GET", "/api/config/schemas", ``, `{"schemas":[]}`},
		{"PUT", "/api/config/schemas/router", `{"type":"object"}`, `{"success":true,"hash":"` + checksum + `","new_version":6}`},
		{"GET", "/api/config/profiles", ``, `{"profiles":[]}`},
		{"GET", "/api/config/me", ``, `{"name":"admin","role":"config.write"}`},
		{"POST", "/api/config/profiles/night/activate", ``, `{"success":true,"services":[{"service":"stt-worker","new_version":6,"changed":true}]}`},
		{"DELETE", "/api/config/profiles/night", ``, `{"success":true}`},
		{
			"PUT", "/api/config/profiles/night", `{"description":"d","services":{"router":{"a":1}}}`,
			`{"success":true,"profile":{"name":"night","description":"d","services":{"router":{"a":1}},"updated_at":"","updated_by":""}}`,
		},
	} {
		s.want(s.do(c.method, c.target, writeToken, c.body), 200, c.want)
	}
}

func TestDrafts(t *testing.T) {
	t.Parallel()
	n := func(v uint64) *uint64 { return &v }
	etag := `"5-550e8400-0123456789abcdef"`
	base := conf.Draft{Service: "stt-worker", Author: "admin"}
	with := func(f func(*conf.Draft)) conf.Draft {
		d := base
		f(&d)
		return d
	}
	put := `{"service":"stt-worker","config":{"a":1},"version":0}`
	for _, c := range []struct {
		name, method, target, body string
		headers                    []string
		want                       conf.Draft
	}{
		{"put", "PUT", svc, put, nil, with(func(d *conf.Draft) { d.Op, d.Document, d.Expect = conf.OpPut, json.RawMessage(`{"a":1}`), n(0) })},
		{
			"put with a reason", "PUT", svc + "?reason=because", put,
			[]string{"X-Config-Reason: because", "Content-Type: application/json; charset=UTF-8"},
			with(func(d *conf.Draft) {
				d.Op, d.Document, d.Expect, d.Reason = conf.OpPut, json.RawMessage(`{"a":1}`), n(0), "because"
			}),
		},
		{
			"patch", "PATCH", svc, `{"a":{"b":null}}`,
			[]string{"Content-Type: application/merge-patch+json"},
			with(func(d *conf.Draft) { d.Op, d.Document = conf.OpPatch, json.RawMessage(`{"a":{"b":null}}`) }),
		},
		{
			"patch with If-Match", "PATCH", svc, `{}`,
			[]string{`If-Match: "5"`},
			with(func(d *conf.Draft) { d.Op, d.Document, d.Expect = conf.OpPatch, json.RawMessage(`{}`), n(5) }),
		},
		{
			"patch with bare If-Match", "PATCH", svc, `{}`,
			[]string{`If-Match: 5`},
			with(func(d *conf.Draft) { d.Op, d.Document, d.Expect = conf.OpPatch, json.RawMessage(`{}`), n(5) }),
		},
		{"delete with version", "DELETE", svc + "?version=5&reason=old", ``, nil, with(func(d *conf.Draft) { d.Op, d.Expect, d.Reason = conf.OpDelete, n(5), "old" })},
		{"delete with ETag", "DELETE", svc, ``, []string{"If-Match: " + etag}, with(func(d *conf.Draft) { d.Op, d.Expect = conf.OpDelete, n(5) })},
		{
			"delete with ETag of stored values", "DELETE", svc, ``,
			[]string{`If-Match: "5-550e8400-0123456789abcdef-stored"`},
			with(func(d *conf.Draft) { d.Op, d.Expect = conf.OpDelete, n(5) }),
		},
		{
			"restore", "POST", svc + "/restore", `{"version":3,"expect":5,"reason":"r"}`, nil,
			with(func(d *conf.Draft) { d.Op, d.Restore, d.Expect, d.Reason = conf.OpRestore, 3, n(5), "r" }),
		},
		{
			"validate", "POST", svc + "/validate", `{"config":{"a":1},"mode":"patch"}`, nil,
			with(func(d *conf.Draft) {
				d.Op, d.Document, d.DryRun, d.Rollout = conf.OpPatch, json.RawMessage(`{"a":1}`), true, conf.RolloutReplace
			}),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newHarness(t)
			a := s.do(c.method, c.target, writeToken, c.body, c.headers...)
			if a.Code != 200 {
				t.Fatalf("got %d %s", a.Code, a.Body)
			}
			s.draft.Decoded = nil // of Document
			if diff := cmp.Diff(c.want, s.draft); diff != "" {
				t.Errorf("draft (-want +got):\n%s", diff)
			}
			if s.who.Name != "admin" || s.who.Role != conf.RoleWrite {
				t.Errorf("principal %+v", s.who)
			}
			if a.Header().Get("X-Config-Version") != "6" || a.Header().Get("X-Config-Changed") != "true" {
				t.Errorf("headers %v", a.Header())
			}
		})
	}
}

func TestOldETagIsAConflict(t *testing.T) {
	t.Parallel()
	for _, tag := range []string{`"5-00000000-0123456789abcdef"`, `"4-550e8400-0123456789abcdef"`, `"5-550e8400-ffffffffffffffff"`} {
		s := newHarness(t)
		a := s.do("PATCH", svc, writeToken, `{}`, "If-Match: "+tag)
		if a.Code != 409 || a.body["code"] != "version_conflict" || a.body["current_version"] != json.Number("5") {
			t.Errorf("%s: %d %s", tag, a.Code, a.Body)
		}
		s.wantCalls("Record")
	}
	s := newHarness(t)
	a := s.do("PATCH", "/api/config/services/nobody", writeToken, `{}`, `If-Match: "5-550e8400-0123456789abcdef"`)
	if a.Code != 409 || a.body["current_version"] != json.Number("0") {
		t.Errorf("service that is gone: %d %s", a.Code, a.Body)
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	id := func(token, target, body, key string) string {
		t.Helper()
		s.draft = conf.Draft{}
		if a := s.do("PATCH", target, token, body, "Idempotency-Key: "+key); a.Code != 200 {
			t.Fatalf("got %d %s", a.Code, a.Body)
		}
		return s.draft.RequestID
	}
	first := id(writeToken, svc, `{}`, "one")
	if first == "" || first != id(writeToken, svc, `{}`, "one") {
		t.Error("the same request has another id")
	}
	for _, other := range []string{
		id(writeToken, svc, `{}`, "two"),
		id(writeToken, svc, `{"a":1}`, "one"),
		id(writeToken, svc+"?version=5", `{}`, "one"),
		id(writeToken, "/api/config/services/router", `{}`, "one"),
	} {
		if other == first {
			t.Error("another request has the same id: it would be answered and never made")
		}
	}
	s.do("PATCH", svc, writeToken, `{}`)
	if s.draft.RequestID != "" {
		t.Error("a request without a key has an id")
	}
	s.do("PUT", "/api/config/schemas/router", writeToken, `{}`, "Idempotency-Key: k")
	schema := s.id
	s.do("POST", "/api/config/profiles/night/activate", writeToken, ``, "Idempotency-Key: k")
	if schema == "" || s.id == "" || schema == s.id {
		t.Errorf("ids of a schema and a profile: %q, %q", schema, s.id)
	}
}

func TestETag(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	a := s.do("GET", svc, readToken, "")
	tag := a.Header().Get("ETag")
	if tag != `"5-550e8400-0123456789abcdef"` || a.Header().Get("X-Config-Version") != "5" || a.Header().Get("X-Config-Epoch") != epoch {
		t.Errorf("headers %v", a.Header())
	}
	for _, none := range []string{tag, "W/" + tag, `"1", ` + tag, "*"} {
		if a := s.do("GET", svc, readToken, "", "If-None-Match: "+none); a.Code != 304 || a.Body.Len() != 0 || a.Header().Get("ETag") != tag {
			t.Errorf("If-None-Match %s: %d %q", none, a.Code, a.Body)
		}
	}
	if a := s.do("GET", svc, readToken, "", `If-None-Match: "4-550e8400-0123456789abcdef"`); a.Code != 200 {
		t.Errorf("other tag: %d", a.Code)
	}
	if a := s.do("GET", svc+"?values=stored", readToken, "", "If-None-Match: "+tag); a.Code != 200 {
		t.Errorf("the stored values have the tag of the document: %d", a.Code)
	}
}

func TestStoredValues(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	a := s.do("GET", svc+"?values=stored", readToken, "")
	if diff := cmp.Diff(map[string]any{"vad_threshold": json.Number("0.6")}, a.body["config"]); diff != "" {
		t.Error(diff)
	}
	a = s.do("GET", svc+"?values=stored&version=4", readToken, "")
	meta, _ := a.body["metadata"].(map[string]any)
	if diff := cmp.Diff(map[string]any{"vad_threshold": json.Number("0.3")}, a.body["config"]); diff != "" || meta["updated_by"] != "four" {
		t.Errorf("%s %s", diff, a.Body)
	}
}

func TestAbsentServices(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.records["gone"] = &conf.Record{Service: "gone", Version: 7, Deleted: true, Config: json.RawMessage(`{}`)}
	s.records["fresh"] = &conf.Record{Service: "fresh"}
	for name, says := range map[string]string{"gone": "version 7", "fresh": "not configured yet", "nobody": "no service"} {
		a := s.do("GET", "/api/config/services/"+name, readToken, "")
		if a.Code != 404 || a.body["code"] != "not_found" || !strings.Contains(a.Body.String(), says) || a.body["hint"] == nil {
			t.Errorf("%s: %d %s", name, a.Code, a.Body)
		}
	}
	if slices.ContainsFunc(s.audit, func(x conf.Access) bool { return x.Success }) {
		t.Errorf("reads that found nothing are logged as successes: %+v", s.audit)
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.do("GET", "/api/config/history?service=router&key=a.b&user=token:12&since=2026-01-01T00:00:00Z&until=2026-01-02T00:00:00%2B01:00&version=3&limit=7&offset=9", readToken, "")
	want := conf.HistoryFilter{
		Service: "router", Key: "a.b", User: "token:12", Since: "2026-01-01T00:00:00+00:00", Until: "2026-01-01T23:00:00+00:00",
		Version: 3, Limit: 7, Offset: 9,
	}
	if diff := cmp.Diff(want, s.history); diff != "" {
		t.Error(diff)
	}
	s.do("GET", "/api/config/access?service=router&action=unauthorized&user=x&limit=1000", writeToken, "")
	if diff := cmp.Diff(conf.AccessFilter{Service: "router", Action: "unauthorized", User: "x", Limit: 1000}, s.access); diff != "" {
		t.Error(diff)
	}
	s.do("GET", svc+"/versions?limit=3", readToken, "")
	if s.limit != 3 {
		t.Errorf("limit %d", s.limit)
	}
	s.do("PUT", "/api/config/profiles/night?service=router,stt-worker&reason=why", writeToken, `{"description":"d"}`)
	if diff := cmp.Diff([]string{"router", "stt-worker"}, s.of); diff != "" || s.profile.Services != nil || s.profile.Name != "night" || s.reason != "why" {
		t.Errorf("%s %+v", diff, s.profile)
	}
}

func TestStatusOfEveryCode(t *testing.T) {
	t.Parallel()
	want := map[conf.Code]int{
		"malformed": 400, "invalid": 422, "too_large": 413, "unauthenticated": 401, "denied": 403, "not_found": 404,
		"method_not_allowed": 405, "version_conflict": 409, "rollout_active": 409, "immutable": 409, "unsupported": 501, "read_only": 503,
		"no_quorum": 503, "outcome_unknown": 504, "stale": 503, "rate_limited": 429, "storage_full": 507, "corrupt": 503,
		"locked": 503, "schema_mismatch": 503, "usage": 400, "internal": 500,
	}
	for _, code := range conf.Codes() {
		s := newHarness(t)
		s.err = &conf.Error{Code: code, Message: "it failed", Current: 9, Details: []conf.FieldError{{Key: "a", Message: "must be from 0 to 1"}}, Err: errBackend}
		a := s.do("PUT", svc, writeToken, `{"service":"stt-worker","config":{},"version":5}`)
		if a.Code != want[code] || a.body["code"] != string(code) {
			t.Errorf("%s: %d %s, want %d", code, a.Code, a.Body, want[code])
		}
		if v, has := a.body["new_version"]; !has || v != nil || a.body["success"] != false || a.body["hint"] == nil {
			t.Errorf("%s: not a superset of ConfigUpdateResponse, or no hint: %s", code, a.Body)
		}
		if _, has := a.body["current_version"]; has != (code == conf.CodeConflict) {
			t.Errorf("%s: current_version: %s", code, a.Body)
		}
		if wait := a.Header().Get("Retry-After"); (code == conf.CodeNoQuorum && wait != "1") || (code == conf.CodeReadOnly && wait == "") || (code == conf.CodeRateLimited && wait != "1") {
			t.Errorf("%s: Retry-After %q", code, wait)
		}
		if a.Code >= 500 && (strings.Contains(a.Body.String(), "/var/lib") || !strings.Contains(s.log.String(), "disk I/O error")) {
			t.Errorf("%s: the cause belongs into the log and not into the answer: %s", code, a.Body)
		}
		if a.Code < 500 && a.body["details"] == nil {
			t.Errorf("%s: details are lost: %s", code, a.Body)
		}
	}
}

func TestInternalErrorsAndPanics(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*backend){
		"error": func(b *backend) { b.err = fmt.Errorf("read: %w", errBackend) },
		"panic": func(b *backend) { b.panics = true },
	} {
		s := newHarness(t)
		prepare(s.backend)
		a := s.do("GET", svc, readToken, "")
		id, _ := a.body["request_id"].(string)
		if a.Code != 500 || a.body["error"] != "internal error" || id == "" || id != a.Header().Get("X-Request-Id") {
			t.Errorf("%s: %d %s", name, a.Code, a.Body)
		}
		if strings.Contains(a.Body.String(), "secret") || strings.Contains(a.Body.String(), "disk") {
			t.Errorf("%s leaks: %s", name, a.Body)
		}
		if !strings.Contains(s.log.String(), id) {
			t.Errorf("%s: the log does not have the id", name)
		}
	}
}

func TestSecurityHeaders(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	for _, a := range []answer{s.do("GET", "/api/config/health", "", ""), s.do("GET", "/x", "", ""), s.do("GET", svc, readToken, "")} {
		for k, v := range map[string]string{
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Content-Type": "application/json",
			"Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		} {
			if got := a.Header().Get(k); got != v {
				t.Errorf("%s: %q, want %q", k, got, v)
			}
		}
	}
}

func TestRequestsHaveADeadlineButRebuild(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.do("GET", svc, readToken, "")
	if _, ok := s.ctx.Deadline(); !ok {
		t.Error("a read has no deadline")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := newRequest("POST", "/api/config/rebuild", `{"token":"`+rebuildToken+`"}`).WithContext(ctx)
	w := newRecorder()
	s.h.ServeHTTP(w, r)
	if _, ok := s.ctx.Deadline(); ok || s.ctx.Err() != nil || w.Code != 200 {
		t.Errorf("a rebuild ends with its caller: %d %v", w.Code, s.ctx.Err())
	}
}

func TestNewNeedsEveryBackend(t *testing.T) {
	t.Parallel()
	_, err := admin.New(admin.Options{})
	for _, name := range []string{"Auth", "Audit", "Health", "Reader", "Queries", "Versions", "Schemas", "Profiles", "Editor", "ProfileEditor", "Rebuilder"} {
		if err == nil || !strings.Contains(err.Error(), "Options."+name+" is nil") {
			t.Errorf("no word about %s: %v", name, err)
		}
	}
}

// A body that trickles in is given up, and the connection with it, while the
// handler of one that came whole may take its time.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	s := newHarness(t, func(o *admin.Options) { o.BodyTimeout = 50 * time.Millisecond })
	for _, c := range []struct {
		token, status string
		server        time.Duration // the deadline of the server, beside that of the handler
	}{
		{writeToken, "400", 0},
		{"", "401", 3 * time.Second}, // nobody reads its body; the header has to come before
	} {
		srv := httptest.NewUnstartedServer(s.h)
		srv.Config = admin.NewServer(s.h)
		srv.Config.ReadTimeout = c.server
		srv.Start()
		defer srv.Close()
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(base.Patience))
		_, err = fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: x\r\nX-API-Token: %s\r\nContent-Length: 500\r\n\r\n{", svc, c.token)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(conn) // to its end: the server must close it
		if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 "+c.status) {
			t.Errorf("token %q: %v, %s", c.token, err, got)
		}
	}
	s.wantCalls()
}

// The deadline of the body must not end a handler that runs longer.
func TestSlowBackend(t *testing.T) {
	t.Parallel()
	const wait = 30 * time.Millisecond
	b := newBackend()
	o := b.options()
	o.BodyTimeout = wait
	o.Editor = editorFunc(func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * wait):
			return nil
		}
	})
	h, err := admin.New(o)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	defer srv.Close()
	r, err := http.NewRequestWithContext(t.Context(), "PATCH", srv.URL+svc, strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-API-Token", writeToken)
	res, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != 200 {
		t.Errorf("got %s", res.Status)
	}
}

type editorFunc func(context.Context) error

func (f editorFunc) Do(ctx context.Context, _ conf.Principal, _ conf.Draft) (conf.Outcome, error) {
	return conf.Outcome{}, f(ctx)
}
