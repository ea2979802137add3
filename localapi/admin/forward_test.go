package admin_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// leader is a Forwarder that notes what it is given and answers as it is told.
type leader struct {
	seen   []string // "METHOD URI TOKEN BODY"
	here   bool     // this agent leads
	status int
	header http.Header
	body   string
	err    error
	target admin.Target // of the last request
}

func (l *leader) Forward(ctx context.Context, r *http.Request, body []byte) (int, http.Header, []byte, bool, error) {
	if _, ok := ctx.Deadline(); !ok {
		return 0, nil, nil, false, io.ErrUnexpectedEOF // every call is bounded
	}
	l.target = admin.TargetOf(ctx)
	l.seen = append(l.seen, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("X-API-Token")+" "+string(body)))
	if l.here || l.err != nil {
		return 0, nil, nil, false, l.err
	}
	return l.status, l.header, []byte(l.body), true, nil
}

// follow makes a harness whose agent does not lead.
func follow(t *testing.T, change ...func(*admin.Options)) (*harness, *leader) {
	t.Helper()
	l := &leader{status: 200, header: http.Header{"Content-Type": {"application/json"}}, body: `{"from":"the leader"}`}
	return newHarness(t, append([]func(*admin.Options){func(o *admin.Options) { o.Forward = l }}, change...)...), l
}

func routeName(r admin.Route) string { return r.Method + " " + r.Path }

// What changes something is forwarded, and what the leader alone knows, and nothing else.
func TestChangesAreForwarded(t *testing.T) {
	t.Parallel()
	var got []string
	for _, r := range admin.Routes() {
		s, l := follow(t)
		target, body := sample(r)
		a := s.do(r.Method, target, writeToken, body)
		if a.Code != 200 {
			t.Errorf("%s: %d %s", routeName(r), a.Code, a.Body)
		}
		if len(l.seen) == 0 {
			continue
		}
		got = append(got, routeName(r))
		if want := strings.TrimSpace(r.Method + " " + target + " " + writeToken + " " + body); len(l.seen) != 1 || l.seen[0] != want {
			t.Errorf("forwarded %q, want %q", l.seen, want)
		}
		if len(s.calls) > 0 || a.body["from"] != "the leader" {
			t.Errorf("%s is handled here as well: %v, %s", routeName(r), s.calls, a.Body)
		}
		want := admin.Target{Route: r.Name}
		if strings.Contains(r.Path, "/:service") {
			want.Service = "stt-worker"
		}
		if strings.Contains(r.Path, "/:node") {
			want.Node = "n2"
		}
		if l.target != want {
			t.Errorf("%s: target %+v, want %+v", routeName(r), l.target, want)
		}
		if len(s.audit) > 0 {
			t.Errorf("%s: the leader and this agent both log it: %+v", routeName(r), s.audit)
		}
	}
	want := []string{
		"PUT /api/config/services/:service", "PATCH /api/config/services/:service", "DELETE /api/config/services/:service",
		"POST /api/config/services/:service/restore",
		"POST /api/config/services/:service/rollouts", "GET /api/config/services/:service/rollouts", "GET /api/config/rollouts", "GET /api/config/rollouts/:rollout",
		"POST /api/config/rollouts/:rollout/promote", "POST /api/config/rollouts/:rollout/pause", "POST /api/config/rollouts/:rollout/resume", "POST /api/config/rollouts/:rollout/abort",
		"PUT /api/config/services/:service/secrets/:key",
		"DELETE /api/config/services/:service/secrets/:key", "POST /api/config/services/:service/secrets/:key/reveal", "PUT /api/config/schemas/:service", "PUT /api/config/profiles/:name",
		"DELETE /api/config/profiles/:name", "POST /api/config/profiles/:name/activate",
		"POST /api/config/tokens", "DELETE /api/config/tokens/:id",
		"POST /api/config/keys/:kind/rotate", "POST /api/config/keys/:kind/prepare", "POST /api/config/keys/:kind/abort", "POST /api/config/keys/:kind/retire", "POST /api/config/backups/drill", "POST /api/config/cluster/tokens", "DELETE /api/config/cluster/tokens/:id", "POST /api/config/cluster/members/:node/promote",
		"POST /api/config/cluster/members/:node/demote", "POST /api/config/cluster/members/:node/remove", "POST /api/config/cluster/transfer",
		"GET /api/config/services/:service/instances", "POST /api/config/instances",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("forwarded (-want +got):\n%s", diff)
	}
}

// A request that is refused here does not reach the leader.
func TestRefusedIsNotForwarded(t *testing.T) {
	t.Parallel()
	const svc = "/api/config/services/stt-worker"
	s, l := follow(t)
	s.refused(s.do("DELETE", svc, "", ""), 401, conf.CodeUnauthenticated)
	s.refused(s.do("DELETE", svc, "guess", ""), 401, conf.CodeUnauthenticated)
	s.refused(s.do("DELETE", svc, readToken, ""), 403, conf.CodeDenied)
	s.refused(s.do("DELETE", svc, writeToken, "", "Sec-Fetch-Site: cross-site"), 403, conf.CodeDenied)
	s.refused(s.do("DELETE", svc+"?force=1", writeToken, ""), 400, conf.CodeMalformed)
	s.refused(s.do("PUT", svc, writeToken, strings.Repeat("x", 3<<20)), 413, conf.CodeTooLarge)
	s.refused(s.do("DELETE", "/api/config/services/UPPER", writeToken, ""), 422, conf.CodeInvalid)
	if len(l.seen) > 0 {
		t.Errorf("forwarded: %v", l.seen)
	}
}

func TestForwardedAnswerIsPassedOn(t *testing.T) {
	t.Parallel()
	s, l := follow(t)
	l.status, l.body = 409, `{"success":false,"error":"conflict","code":"version_conflict","current_version":7}`
	l.header = http.Header{
		"Content-Type": {"application/problem+json"}, "Etag": {`"7"`}, "Retry-After": {"1"}, "X-Config-Version": {"7"}, "X-Config-Anything": {"a", "b"},
		"X-Request-Id": {"of-the-leader"}, "Set-Cookie": {"a=b"}, "Content-Length": {"1"}, "Connection": {"close"}, "Access-Control-Allow-Origin": {"*"},
		"Cache-Control": {"public"}, "Content-Encoding": {"gzip"},
	}
	a := s.do("DELETE", "/api/config/services/stt-worker", writeToken, "")
	if a.Code != 409 || a.Body.String() != l.body {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	for k, v := range map[string][]string{
		"Content-Type": {"application/problem+json"}, "Etag": {`"7"`}, "Retry-After": {"1"}, "X-Config-Version": {"7"}, "X-Config-Anything": {"a", "b"},
		"X-Leader-Request-Id": {"of-the-leader"}, "Set-Cookie": nil, "Connection": nil, "Access-Control-Allow-Origin": nil,
		"Cache-Control": {"no-store"}, "Content-Encoding": nil,
	} {
		if got := a.Header()[k]; !slices.Equal(got, v) {
			t.Errorf("%s: %q, want %q", k, got, v)
		}
	}
	if id := a.Header().Get("X-Request-Id"); id == "" || id == "of-the-leader" {
		t.Errorf("X-Request-Id: %q", id)
	}
	if n := a.Header().Get("Content-Length"); n == "1" {
		t.Error("Content-Length is that of another body")
	}
}

func TestForwardErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err    error
		status int
		code   conf.Code
		retry  string
	}{
		{conf.Errorf(conf.CodeNoQuorum, "no leader"), 503, conf.CodeNoQuorum, "1"},
		{conf.Errorf(conf.CodeOutcomeUnknown, "lost"), 504, conf.CodeOutcomeUnknown, ""},
		{io.ErrUnexpectedEOF, 500, conf.CodeInternal, ""},
	} {
		s, l := follow(t)
		l.err = tc.err
		a := s.do("PATCH", "/api/config/services/stt-worker", writeToken, `{}`)
		s.refused(a, tc.status, tc.code)
		if a.Header().Get("Retry-After") != tc.retry {
			t.Errorf("%v: Retry-After %q, want %q", tc.err, a.Header().Get("Retry-After"), tc.retry)
		}
		if v, ok := a.body["new_version"]; !ok || v != nil {
			t.Errorf("%v: %s", tc.err, a.Body)
		}
	}
	s, l := follow(t)
	l.status = 99
	s.refused(s.do("PATCH", "/api/config/services/stt-worker", writeToken, `{}`), 500, conf.CodeInternal)
	// A read whose answer is lost has no outcome that could be unknown.
	s, l = follow(t)
	l.err = conf.Errorf(conf.CodeOutcomeUnknown, "lost")
	s.refused(s.do("POST", "/api/config/search?consistent=1", readToken, `{}`), 503, conf.CodeNoQuorum)
}

func TestTheLeaderHandlesItself(t *testing.T) {
	t.Parallel()
	s, l := follow(t, func(o *admin.Options) {
		o.Consistent = func(context.Context) error { t.Error("a change needs no consistent read"); return nil }
	})
	l.here = true
	a := s.do("DELETE", "/api/config/services/stt-worker", writeToken, "")
	if a.Code != 200 || len(l.seen) != 1 {
		t.Errorf("%d %s, asked %v", a.Code, a.Body, l.seen)
	}
	s.wantCalls("Do")
}

func TestConsistentReads(t *testing.T) {
	t.Parallel()
	want := []string{
		"GET /api/config/services", "GET /api/config/services/:service", "GET /api/config/services/:service/versions", "GET /api/config/services/:service/secrets", "POST /api/config/search",
		"GET /api/config/history", "GET /api/config/schemas", "GET /api/config/schemas/:service", "GET /api/config/profiles",
		"GET /api/config/profiles/:name", "GET /api/config/cluster/tokens", "GET /api/config/tokens",
	}
	for _, r := range admin.Routes() {
		target, body := sample(r)
		name := routeName(r)
		if !slices.Contains(want, name) {
			if slices.Contains(r.Query, "consistent") {
				t.Errorf("%s takes consistent", name)
			}
			continue
		}
		for query, asks := range map[string]bool{"": false, "?consistent=0": false, "?consistent=1": true, "?consistent": true, "?consistent=true": true} {
			// Forwarded, when there is somebody to forward to.
			s, l := follow(t)
			if a := s.do(r.Method, target+query, readToken, body); a.Code != 200 || (len(l.seen) == 1) != asks || (len(s.calls) == 0) != asks {
				t.Errorf("%s%s: %d, forwarded %v, calls %v", name, query, a.Code, l.seen, s.calls)
			}
			// Else settled here, before anything is read.
			for _, to := range []admin.Forwarder{nil, &leader{here: true}} {
				settled := 0
				var s *harness
				s = newHarness(t, func(o *admin.Options) {
					o.Forward = to
					o.Consistent = func(context.Context) error {
						settled++
						if len(s.calls) > 0 {
							t.Errorf("%s: read before it was settled", name)
						}
						return nil
					}
				})
				if a := s.do(r.Method, target+query, readToken, body); a.Code != 200 || (settled == 1) != asks || len(s.calls) == 0 {
					t.Errorf("%s%s: %d, settled %d times", name, query, a.Code, settled)
				}
			}
		}
	}
	s := newHarness(t, func(o *admin.Options) {
		o.Consistent = func(context.Context) error { return conf.Errorf(conf.CodeStale, "too slow") }
	})
	s.refused(s.do("GET", "/api/config/services?consistent=1", readToken, ""), 503, conf.CodeStale)
}

// HEAD is a GET for the leader, so that the length of the answer is known.
func TestForwardedHead(t *testing.T) {
	t.Parallel()
	s, l := follow(t)
	a := s.do("HEAD", "/api/config/services?consistent=1", readToken, "")
	if len(l.seen) != 1 || !strings.HasPrefix(l.seen[0], "GET ") {
		t.Fatalf("forwarded: %v", l.seen)
	}
	if a.Code != 200 || a.Body.Len() != 0 || a.Header().Get("Content-Length") != "21" {
		t.Errorf("%d, headers %v, body %q", a.Code, a.Header(), a.Body)
	}
	l.status, l.body, l.header = 304, "", http.Header{"Etag": {`"5"`}}
	a = s.do("GET", "/api/config/services/stt-worker?consistent=1", readToken, "", `If-None-Match: "5"`)
	if a.Code != 304 || a.Header().Get("Etag") != `"5"` || a.Body.Len() != 0 {
		t.Errorf("%d, headers %v, body %q", a.Code, a.Header(), a.Body)
	}
}

func TestAge(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		source string
		age    time.Duration
		want   [2]string
	}{
		{"replica", 1900 * time.Millisecond, [2]string{"replica", "1"}},
		{"lkg", -1, [2]string{"lkg", ""}},
		{"", 0, [2]string{"", "0"}},
	} {
		s := newHarness(t, func(o *admin.Options) { o.Age = func() (string, time.Duration) { return tc.source, tc.age } })
		for target, has := range map[string]bool{
			"/api/config/services": true, "/api/config/services/stt-worker": true, "/api/config/history": true, "/api/config/me": false,
		} {
			a := s.do("GET", target, readToken, "")
			want := tc.want
			if !has {
				want = [2]string{}
			}
			if got := [2]string{a.Header().Get("X-Config-Source"), a.Header().Get("X-Config-Age")}; got != want {
				t.Errorf("%s: %q, want %q", target, got, want)
			}
		}
	}
}

// relay makes an agent that knows no tokens.
func relay(t *testing.T, change ...func(*admin.Options)) (*harness, *leader) {
	t.Helper()
	return follow(t, append([]func(*admin.Options){func(o *admin.Options) {
		o.Relay, o.Self = true, func() string { return "n9" }
	}}, change...)...)
}

func TestRelaySendsEverythingOn(t *testing.T) {
	t.Parallel()
	here := []string{"GET /api/config/health", "GET /openapi.json", "POST /api/config/rebuild", "DELETE /api/session"}
	for _, r := range admin.Routes() {
		if routeName(r) == "POST /api/session" || routeName(r) == "GET /api/session" || routeName(r) == "GET /api/events" {
			continue // TestSessionAtARelay
		}
		s, l := relay(t)
		target, body := sample(r)
		a := s.do(r.Method, target, "token of the leader", body)
		if slices.Contains(here, routeName(r)) {
			if len(l.seen) > 0 || a.Code != 200 {
				t.Errorf("%s: %d, forwarded %v", routeName(r), a.Code, l.seen)
			}
			continue
		}
		if strings.HasSuffix(target, "/leave") {
			target = "/api/config/cluster/members/n9/remove"
			if want := (admin.Target{Route: admin.RouteRemoveMember, Node: "n9"}); l.target != want {
				t.Errorf("target %+v, want %+v", l.target, want)
			}
		}
		want := strings.TrimSpace(r.Method + " " + target + " token of the leader " + body)
		if len(l.seen) != 1 || l.seen[0] != want || a.body["from"] != "the leader" {
			t.Errorf("%s: forwarded %q, want %q; %s", routeName(r), l.seen, want, a.Body)
		}
		if len(s.calls)+len(s.audit) > 0 {
			t.Errorf("%s is handled here as well: %v, %+v", routeName(r), s.calls, s.audit)
		}
	}
}

func TestRelayRefuses(t *testing.T) {
	t.Parallel()
	s, l := relay(t)
	s.refused(s.do("GET", "/api/config/services", "", ""), 401, conf.CodeUnauthenticated)
	s.refused(s.do("GET", "/api/config/services", "a", "", "X-API-Token: b"), 401, conf.CodeUnauthenticated)
	s.refused(s.do("GET", "/api/config/nothing", "", ""), 401, conf.CodeUnauthenticated)
	s.refused(s.do("GET", "/api/config/nothing", "a", ""), 404, conf.CodeNotFound)
	s.refused(s.do("PUT", "/api/config/services/stt-worker", "a", strings.Repeat("x", 3<<20)), 413, conf.CodeTooLarge)
	s.refused(s.do("DELETE", "/api/config/services/stt-worker", "a", "", "Sec-Fetch-Site: cross-site"), 403, conf.CodeDenied)
	if len(l.seen) > 0 {
		t.Errorf("forwarded: %v", l.seen)
	}
	l.here = true // nobody leads
	a := s.do("GET", "/api/config/services", "a", "")
	s.refused(a, 503, conf.CodeNoQuorum)
	if a.Header().Get("Retry-After") != "1" {
		t.Errorf("Retry-After: %q", a.Header().Get("Retry-After"))
	}
	s, l = relay(t, func(o *admin.Options) { o.Self = nil })
	s.refused(s.do("POST", "/api/config/cluster/leave", "a", ""), 501, conf.CodeUnsupported)
	if len(l.seen) > 0 {
		t.Errorf("forwarded: %v", l.seen)
	}
	o := s.options()
	o.Relay, o.Forward = true, nil
	if _, err := admin.New(o); err == nil {
		t.Error("a relay without anybody to forward to is made")
	}
}

// Guesses through a relay are slowed by their own source; a token that the
// leader took goes on from there.
func TestRelaySlowsGuesses(t *testing.T) {
	t.Parallel()
	s, l := relay(t, func(o *admin.Options) { o.FailBurst = 3 })
	const target = "/api/config/me"
	s.do("GET", target, "good", "")
	l.status = 401
	for range 3 {
		if a := s.do("GET", target, "guess", ""); a.Code != 401 {
			t.Fatalf("got %d", a.Code)
		}
	}
	n := len(l.seen)
	s.refused(s.do("GET", target, "guess", ""), 429, conf.CodeRateLimited)
	if len(l.seen) != n {
		t.Error("a guess that is refused unseen reached the leader")
	}
	l.status = 200
	if a := s.do("GET", target, "good", ""); a.Code != 200 {
		t.Errorf("a token that worked before is locked out: %d", a.Code)
	}
}

// inside is a Forwarder to a handler in the same process, as an agent forwards
// over the wire: a new request, with the headers that matter.
type inside struct{ h http.Handler }

func (f inside) Forward(ctx context.Context, r *http.Request, body []byte) (int, http.Header, []byte, bool, error) {
	req := newRequest(r.Method, r.URL.RequestURI(), string(body)).WithContext(ctx)
	for _, k := range []string{"X-Api-Token", "Content-Type", "If-Match", "Idempotency-Key", "X-Config-Reason"} {
		req.Header[k] = r.Header[k]
	}
	w := newRecorder()
	f.h.ServeHTTP(w, req)
	return w.Code, w.Header(), w.Body.Bytes(), true, nil
}

// A request that is repeated on another agent is the same request: the leader
// sees one id, one author and one reason.
func TestForwardedIsTheSameRequest(t *testing.T) {
	t.Parallel()
	led := newHarness(t)
	var drafts []conf.Draft
	var bodies []string
	for _, s := range []*harness{
		led,
		newHarness(t, func(o *admin.Options) { o.Forward = inside{led.h} }),
		newHarness(t, func(o *admin.Options) { o.Forward, o.Relay = inside{led.h}, true }),
	} {
		a := s.do("PATCH", "/api/config/services/stt-worker?version=5", writeToken, `{"a":1}`,
			"Idempotency-Key: once", "X-Config-Reason: noisy room", "Content-Type: application/merge-patch+json", "If-Match: \"5\"")
		if a.Code != 200 || a.Header().Get("X-Config-Version") != "6" {
			t.Fatalf("%d %s", a.Code, a.Body)
		}
		drafts, bodies = append(drafts, led.draft), append(bodies, a.Body.String())
	}
	if drafts[0].RequestID == "" || drafts[0].Reason != "noisy room" || drafts[0].Author != "admin" {
		t.Errorf("draft: %+v", drafts[0])
	}
	for i := range drafts {
		if diff := cmp.Diff(drafts[0], drafts[i]); diff != "" || bodies[i] != bodies[0] {
			t.Errorf("way %d: %s\n%s, directly %s", i, diff, bodies[i], bodies[0])
		}
	}
	led.wantCalls("Do", "Do", "Do")
}
