package admin_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// sample is a request that each route answers with 200 for a permitted caller.
func sample(r admin.Route) (target, body string) {
	target = strings.NewReplacer(":service", "stt-worker", ":name", "night", ":node", "n2", ":id", "t1", ":rollout", "stt-worker-6-0123ab", ":kind", "signing", ":key", "db.password").Replace(r.Path)
	return target, map[string]string{
		"PUT /api/config/services/:service":                      `{"service":"stt-worker","config":{"a":1},"version":5}`,
		"PATCH /api/config/services/:service":                    `{"a":null}`,
		"POST /api/config/services/:service/rollouts":            `{"patch":{"a":1},"preset":"canary"}`,
		"POST /api/config/services/:service/validate":            `{"config":{}}`,
		"POST /api/config/services/:service/restore":             `{"version":3}`,
		"PUT /api/config/services/:service/secrets/:key":         `{"value":"hunter2"}`,
		"POST /api/config/services/:service/secrets/:key/reveal": `{"reason":"an outage"}`,
		"POST /api/config/search":                                `{"query":"whisper"}`,
		"PUT /api/config/schemas/:service":                       `{"type":"object"}`,
		"POST /api/config/rebuild":                               `{"token":"` + rebuildToken + `"}`,
		"POST /api/config/cluster/tokens":                        `{"role":"server"}`,
		"POST /api/session":                                      `{"token":"` + readToken + `"}`,
		"POST /api/config/tokens":                                `{"role":"config.read","name":"ci"}`,
		"POST /api/config/instances":                             `{"reports":[]}`,
	}[r.Method+" "+r.Path]
}

func TestRoles(t *testing.T) {
	t.Parallel()
	open := map[string]bool{
		"GET /api/config/health": true, "GET /openapi.json": true, "POST /api/config/rebuild": true,
		"GET /api/session": true, "POST /api/session": true, "DELETE /api/session": true,
	}
	writes := map[string]bool{"GET /api/config/access": true}
	for _, r := range admin.Routes() {
		name := r.Method + " " + r.Path
		reads := r.Method == http.MethodGet || strings.HasSuffix(r.Path, "/validate") || strings.HasSuffix(r.Path, "/search")
		want := map[string]int{"": 401, "wrong": 401, readToken: 200, writeToken: 200}
		if !reads || writes[name] {
			want[readToken] = 403
		}
		if open[name] {
			want = map[string]int{"": 200, "wrong": 200, readToken: 200, writeToken: 200}
		}
		if name == "GET /api/session" {
			want["wrong"] = 401
		}
		for token, status := range want {
			t.Run(name+" "+token, func(t *testing.T) {
				t.Parallel()
				s := newHarness(t, func(o *admin.Options) { o.Self = func() string { return "n7" } })
				target, body := sample(r)
				a := s.do(r.Method, target, token, body)
				if a.Code != status && (status != 200 || a.Code != 201) {
					t.Fatalf("got %d %s, want %d", a.Code, a.Body, status)
				}
				unauthorized := slices.ContainsFunc(s.audit, func(x conf.Access) bool { return x.Action == "unauthorized" })
				if unauthorized != (status != 200) {
					t.Errorf("audit: %+v", s.audit)
				}
				if status == 200 {
					return
				}
				code := map[int]conf.Code{401: conf.CodeUnauthenticated, 403: conf.CodeDenied}[status]
				s.refused(a, status, code)
				user := ""
				if status == 403 {
					user = "reader"
				}
				service := ""
				if strings.Contains(r.Path, ":service") {
					service = "stt-worker"
				}
				why := map[string]string{"": "no token", readToken: "needs " + string(r.Role)}[token]
				if why == "" {
					why = "wrong token"
				}
				reason := name + ": " + why + ", from 192.0.2.1 at n7"
				row := conf.Access{UserID: user, Action: "unauthorized", Service: service, Reason: reason, Timestamp: "2026-01-02T03:04:05+00:00"}
				if len(s.audit) != 1 || s.audit[0] != row {
					t.Errorf("audit %+v, want %+v", s.audit, row)
				}
				if auth := a.Header().Get("WWW-Authenticate"); (status == 401) != strings.Contains(auth, "X-API-Token") {
					t.Errorf("WWW-Authenticate: %q", auth)
				}
			})
		}
	}
}

// Every path and method that the table does not have is refused, and without a
// token in the same words as one that it has.
func TestNothingElseAnswers(t *testing.T) {
	t.Parallel()
	known := map[string][]string{}
	for _, r := range admin.Routes() {
		target, _ := sample(r)
		known[target] = append(known[target], r.Method)
		if r.Method == http.MethodGet {
			known[target] = append(known[target], http.MethodHead)
		}
	}
	paths := []string{
		"/", "/api", "/api/config", "/api/config/", "/api/config/services/", "/api/config/services/stt-worker/",
		"/api/config/services/stt-worker/versions/3", "/api//config/health", "/API/config/health", "/api/config/health/",
		"/api/config/../config/health", "/api/config/secrets", "/v1/config", "/metrics", "/debug/pprof/", "/%00",
	}
	for p := range known {
		paths = append(paths, p)
	}
	s := newHarness(t)
	var words string
	for _, path := range paths {
		for _, method := range methods {
			if slices.Contains(known[path], method) {
				continue
			}
			target := path
			if method == http.MethodHead {
				want := 404
				if known[path] != nil {
					want = 405
				}
				if a, b := s.do(method, target, "", ""), s.do(method, target, readToken, ""); a.Code != 401 || b.Code != want {
					t.Errorf("HEAD %s: %d and %d, want 401 and %d", path, a.Code, b.Code, want)
				}
				continue
			}
			a := s.do(method, target, "", "")
			s.refused(a, 401, conf.CodeUnauthenticated)
			if text := a.Body.String(); words == "" {
				words = text
			} else if text != words {
				t.Errorf("%s %s without a token: %s, elsewhere %s", method, path, text, words)
			}
			a = s.do(method, target, readToken, "")
			if allow := known[path]; allow != nil {
				s.refused(a, 405, conf.CodeMethod)
				slices.Sort(allow)
				if got := a.Header().Get("Allow"); got != strings.Join(allow, ", ") {
					t.Errorf("%s %s: Allow: %q, want %v", method, path, got, allow)
				}
			} else {
				s.refused(a, 404, conf.CodeNotFound)
			}
		}
	}
}

func TestHead(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	a := s.do("HEAD", "/api/config/services/stt-worker", readToken, "")
	if a.Code != 200 || a.Body.Len() != 0 || a.Header().Get("ETag") == "" || a.Header().Get("Content-Length") == "" {
		t.Errorf("HEAD: %d, headers %v, body %q", a.Code, a.Header(), a.Body)
	}
}

func TestFailedAttemptsAreSlowed(t *testing.T) {
	t.Parallel()
	s := newHarness(t, func(o *admin.Options) { o.FailBurst = 3 })
	const target = "/api/config/me"
	if a := s.do("GET", target, writeToken, ""); a.Code != 200 {
		t.Fatalf("got %d", a.Code)
	}
	for range 3 {
		if a := s.do("GET", target, "guess", ""); a.Code != 401 {
			t.Fatalf("got %d, want 401", a.Code)
		}
	}
	rows := len(s.audit)
	for _, token := range []string{"guess", "", readToken} {
		a := s.do("GET", target, token, "")
		s.refused(a, 429, conf.CodeRateLimited)
		if a.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	if len(s.audit) != rows {
		t.Error("attempts that are refused unseen fill the access log")
	}
	if a := s.do("GET", target, writeToken, ""); a.Code != 200 {
		t.Errorf("a token that worked before is locked out: %d", a.Code)
	}
	if a := s.do("POST", "/api/config/rebuild", "", `{"token":"guess"}`); a.Code != 429 {
		t.Errorf("guessing the rebuild token is not slowed: %d", a.Code)
	}
	if a := s.do("GET", "/api/config/health", "", ""); a.Code != 200 {
		t.Errorf("health: %d", a.Code)
	}
}

// stuck is a backend whose reads do not come back.
type stuck struct {
	reader
	entered chan struct{}
	done    chan struct{}
}

func (s stuck) ListServices(context.Context) ([]conf.ServiceInfo, error) {
	s.entered <- struct{}{}
	<-s.done
	return nil, nil
}

// A caller with any number of requests under way keeps nobody else out; what is too
// much of it is told so.
func TestFloodOfOneCaller(t *testing.T) {
	t.Parallel()
	b := stuck{entered: make(chan struct{}, 1000), done: make(chan struct{})}
	s := newHarness(t, func(o *admin.Options) { b.reader = o.Reader.(reader); o.Reader, o.Limits = b, admin.PatientShare() })
	codes := make(chan int, 1000)
	const running, waiting, more = 128, 512, 7
	for range running + waiting + more {
		go func() {
			r := newRequest("GET", "/api/config/services", "")
			r.Header.Set("X-API-Token", readToken)
			w := newRecorder()
			s.h.ServeHTTP(w, r)
			if w.Code == http.StatusTooManyRequests && (w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), `"rate_limited"`)) {
				t.Errorf("429 without a time or a code: %v %s", w.Header(), w.Body)
			}
			codes <- w.Code
		}()
	}
	for range running {
		<-b.entered
	}
	for range more {
		if code := <-codes; code != http.StatusTooManyRequests {
			t.Fatalf("%d while the line is full", code)
		}
	}
	// The same address, another token; and what needs none.
	if a := s.do("GET", "/api/config/services/stt-worker", writeToken, ""); a.Code != http.StatusOK {
		t.Errorf("another caller: %d %s", a.Code, a.Body)
	}
	if a := s.do("GET", "/api/config/health", "", ""); a.Code != http.StatusOK {
		t.Errorf("health: %d", a.Code)
	}
	if a := s.do("GET", "/api/config/me", readToken, ""); a.Code != http.StatusTooManyRequests {
		t.Errorf("the same caller: %d", a.Code)
	}
	close(b.done)
	for range running + waiting {
		if code := <-codes; code != http.StatusOK {
			t.Fatalf("%d after a turn", code)
		}
	}
}

func TestRebuildGuessesCount(t *testing.T) {
	t.Parallel()
	s := newHarness(t, func(o *admin.Options) { o.FailBurst = 2 })
	for _, body := range []string{`{"token":"guess"}`, ``} {
		a := s.do("POST", "/api/config/rebuild", "", body)
		s.refused(a, 403, conf.CodeDenied)
	}
	if len(s.audit) != 2 || s.audit[0].Action != "unauthorized" || s.audit[0].Reason != "POST /api/config/rebuild: wrong rebuild token, from 192.0.2.1" {
		t.Errorf("audit: %+v", s.audit)
	}
	if a := s.do("POST", "/api/config/rebuild", "", `{"token":"`+rebuildToken+`"}`); a.Code != 429 {
		t.Errorf("got %d, want 429", a.Code)
	}
}

// A caller with a token that has ended gets that reason, and its name is in the log.
func TestLapsedToken(t *testing.T) {
	t.Parallel()
	s := newHarness(t, func(o *admin.Options) { o.FailBurst = 3 })
	a := s.do("GET", "/api/config/me", lapsedToken, "")
	s.refused(a, 401, conf.CodeUnauthenticated)
	if !strings.Contains(a.Body.String(), "expired or was revoked") || len(s.audit) != 1 || s.audit[0].UserID != "gone" ||
		s.audit[0].Reason != "GET /api/config/me: token expired or revoked, from 192.0.2.1" {
		t.Errorf("%s, audit %+v", a.Body, s.audit)
	}
	// A token that worked from here is let through without a limit only while it works.
	if a := s.do("GET", "/api/config/me", "fading", ""); a.Code != 200 {
		t.Fatalf("got %d", a.Code)
	}
	s.faded.Store(true)
	for range 2 {
		s.refused(s.do("GET", "/api/config/me", "fading", ""), 401, conf.CodeUnauthenticated)
	}
	s.refused(s.do("GET", "/api/config/me", "fading", ""), 429, conf.CodeRateLimited)
}

func TestTwoTokensAreNone(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	a := s.do("GET", "/api/config/me", readToken, "", "X-API-Token: "+writeToken)
	s.refused(a, 401, conf.CodeUnauthenticated)
}

func TestOtherOrigins(t *testing.T) {
	t.Parallel()
	for _, r := range admin.Routes() {
		s := newHarness(t)
		target, body := sample(r)
		a := s.do(r.Method, target, writeToken, body, "Sec-Fetch-Site: cross-site", "Origin: https://evil.example")
		if r.Method == http.MethodGet {
			if a.Code != 200 || a.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s %s: %d, headers %v", r.Method, r.Path, a.Code, a.Header())
			}
			continue
		}
		s.refused(a, 403, conf.CodeDenied)
	}
}

func TestReadsAreLogged(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"GET /api/config/services/:service":          "stt-worker",
		"GET /api/config/services/:service/versions": "stt-worker",
		"GET /api/config/services/:service/secrets":  "stt-worker",
		"POST /api/config/search":                    "",
		"GET /api/config/history":                    "",
		"GET /api/config/access":                     "",
		"GET /api/config/tokens":                     "",
		"GET /api/config/profiles/:name":             "",
	}
	for _, r := range admin.Routes() {
		s := newHarness(t)
		target, body := sample(r)
		s.do(r.Method, target, writeToken, body)
		name := r.Method + " " + r.Path
		service, logged := want[name]
		if !logged {
			if len(s.audit) != 0 {
				t.Errorf("%s: audit %+v, want none from the edge", name, s.audit)
			}
			continue
		}
		row := conf.Access{UserID: "admin", Action: "read", Service: service, Success: true, Reason: name + ", from 192.0.2.1", Timestamp: "2026-01-02T03:04:05+00:00"}
		if len(s.audit) != 1 || s.audit[0] != row {
			t.Errorf("%s: audit %+v, want %+v", name, s.audit, row)
		}
	}
}

func TestTokensStayOutOfTheLog(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	for _, r := range admin.Routes() {
		target, body := sample(r)
		for _, token := range []string{"wrong-token", readToken, writeToken} {
			a := s.do(r.Method, target, token, body)
			if strings.Contains(a.Body.String(), token) {
				t.Errorf("%s %s answers with the token", r.Method, r.Path)
			}
		}
	}
	for _, token := range []string{"wrong-token", readToken, writeToken, rebuildToken, joinToken, apiToken, lapsedToken} {
		if strings.Contains(s.log.String(), token) {
			t.Errorf("the log has %q in it", token)
		}
	}
	if !strings.Contains(s.log.String(), "route=/api/config/services/:service status=200 user=admin") {
		t.Errorf("requests are not logged:\n%s", s.log)
	}
}
