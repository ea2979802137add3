package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/localapi/events"
	"github.com/holdfast-config/holdfast/localapi/session"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// login gives the Cookie header of a new session.
func (s *harness) login(token string) string {
	s.t.Helper()
	a := s.do("POST", "/api/session", "", `{"token":"`+token+`"}`)
	if a.Code != 200 {
		s.t.Fatalf("login: %d %s", a.Code, a.Body)
	}
	for _, attribute := range []string{"holdfast_session_80=", "Path=/", "Max-Age=43200", "HttpOnly", "SameSite=Strict"} {
		if !strings.Contains(a.Header().Get("Set-Cookie"), attribute) {
			s.t.Errorf("cookie without %s: %s", attribute, a.Header().Get("Set-Cookie"))
		}
	}
	if strings.Contains(a.Header().Get("Set-Cookie")+a.Body.String(), token) && token != "fading" {
		s.t.Error("the answer has the token in it")
	}
	pair, _, _ := strings.Cut(a.Header().Get("Set-Cookie"), ";")
	return "Cookie: " + pair
}

func TestSession(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	cookie := s.login(writeToken)
	const own, fetch = "Origin: http://example.com", "Sec-Fetch-Site: same-origin" // httptest's Host
	for _, tc := range []struct {
		name, method, target, body string
		headers                    []string
		want                       int
	}{
		{"a read", "GET", "/api/config/me", "", nil, 200},
		{"a read of a page", "GET", "/api/config/me", "", []string{fetch}, 200},
		{"typed by the user", "GET", "/api/config/me", "", []string{"Sec-Fetch-Site: none"}, 200},
		{"a change of a page", "PATCH", "/api/config/services/stt-worker", `{"a":1}`, []string{fetch, own}, 200},
		{"a change, told by Origin alone", "PATCH", "/api/config/services/stt-worker", `{"a":1}`, []string{own}, 200},
		{"a change of nobody knows whom", "PATCH", "/api/config/services/stt-worker", `{"a":1}`, nil, 403},
		{"a change of a page of the same site", "PATCH", "/api/config/services/stt-worker", `{"a":1}`, []string{"Sec-Fetch-Site: same-site", "Origin: http://example.com:99"}, 403},
		{"a change of another site", "POST", "/api/config/services/stt-worker/restore", `{"version":3}`, []string{"Sec-Fetch-Site: cross-site", "Origin: https://evil.example"}, 403},
		{"another origin that lies about itself", "DELETE", "/api/config/services/stt-worker", "", []string{fetch, "Origin: https://evil.example"}, 403},
		{"a sandboxed page", "DELETE", "/api/config/services/stt-worker", "", []string{"Origin: null"}, 403},
		{"a read of another site", "GET", "/api/config/services/stt-worker", "", []string{"Sec-Fetch-Site: cross-site"}, 403},
		{"a read of the same site", "GET", "/api/config/services/stt-worker", "", []string{"Sec-Fetch-Site: same-site"}, 403},
		{"another cookie", "GET", "/api/config/me", "", []string{"Cookie: holdfast_session_80=other"}, 401}, // two of them: none counts
	} {
		a := s.do(tc.method, tc.target, "", tc.body, append([]string{cookie}, tc.headers...)...)
		if a.Code != tc.want {
			t.Errorf("%s: %d %s, want %d", tc.name, a.Code, a.Body, tc.want)
		}
	}
	if a := s.do("GET", "/api/config/me", "", "", "Cookie: holdfast_session_80=guess"); a.Code != 401 {
		t.Errorf("a guessed cookie: %d", a.Code)
	}
	// A token in the request takes its place, whether it is valid or not.
	if a := s.do("DELETE", "/api/config/services/stt-worker", readToken, "", cookie); a.Code != 403 {
		t.Errorf("with another token: %d", a.Code)
	}
	if a := s.do("GET", "/api/config/me", "wrong", "", cookie); a.Code != 401 {
		t.Errorf("with a wrong token: %d", a.Code)
	}
	if a := s.do("DELETE", "/api/session", "", "", cookie); a.Code != 200 || !strings.Contains(a.Header().Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("logout: %d %s", a.Code, a.Header().Get("Set-Cookie"))
	}
	if a := s.do("GET", "/api/config/me", "", "", cookie); a.Code != 401 {
		t.Errorf("after the logout: %d", a.Code)
	}
}

func TestSessionEnds(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := newHarness(t, func(o *admin.Options) { o.Now = func() time.Time { return now } })
	me := func(cookie string) int { return s.do("GET", "/api/config/me", "", "", cookie).Code }
	cookie := s.login(readToken)
	if a := s.do("GET", "/api/config/me", "", "", cookie); a.Header().Get("Set-Cookie") != "" {
		t.Error("a new cookie for every request")
	}
	for range 13 {
		now = now.Add(55 * time.Minute)
		a := s.do("GET", "/api/config/me", "", "", cookie)
		if a.Code != 200 {
			t.Fatal("a session that is used ends early")
		}
		pair, _, renewed := strings.Cut(a.Header().Get("Set-Cookie"), ";")
		if !renewed {
			t.Fatal("the cookie does not tell the last use")
		}
		cookie = "Cookie: " + pair
	}
	now = now.Add(5 * time.Minute)
	if me(cookie) != 401 {
		t.Error("a session has no end")
	}
	cookie = s.login(readToken)
	now = now.Add(time.Hour)
	if me(cookie) != 401 {
		t.Error("a session that nobody uses goes on")
	}
	cookie = s.login("fading")
	s.faded.Store(true)
	if a := s.do("GET", "/api/config/me", "", "", cookie); a.Code != 401 {
		t.Error("the end of the token is not the end of its session")
	}
	now = now.Add(10 * time.Minute)
	if a := s.do("GET", "/api/config/me", "", "", cookie); a.Header().Get("Set-Cookie") != "" {
		t.Error("the session of a token that has ended is renewed")
	}
}

func TestLoginIsGuarded(t *testing.T) {
	t.Parallel()
	s := newHarness(t, func(o *admin.Options) { o.FailBurst = 3 })
	s.refused(s.do("POST", "/api/session", "", `{"token":"`+lapsedToken+`"}`), 401, conf.CodeUnauthenticated)
	for _, body := range []string{`{"token":"guess"}`, `{"token":""}`} {
		s.refused(s.do("POST", "/api/session", "", body), 401, conf.CodeUnauthenticated)
	}
	if len(s.audit) != 3 || s.audit[0].UserID != "gone" || s.audit[1].Action != "unauthorized" {
		t.Errorf("audit: %+v", s.audit)
	}
	s.refused(s.do("POST", "/api/session", "", `{"token":"`+writeToken+`"}`), 429, conf.CodeRateLimited)
	s.refused(s.do("POST", "/api/session", "", `{"token":"x"}`, "Sec-Fetch-Site: cross-site"), 403, conf.CodeDenied)
}

// asLeader answers who a token is, as the leader would.
type asLeader struct{ *backend }

func (l asLeader) Forward(_ context.Context, r *http.Request, _ []byte) (int, http.Header, []byte, bool, error) {
	who, ok := l.Authenticate(r.Header.Get("X-API-Token"))
	if !ok {
		return 401, nil, []byte(`{}`), true, nil
	}
	body, err := json.Marshal(who)
	if r.Header.Get("Cookie") != "" && r.URL.Path == "/api/config/me" && r.Method != "GET" {
		return 500, nil, nil, true, nil
	}
	return 200, http.Header{}, body, true, err
}

func TestSessionAtARelay(t *testing.T) {
	t.Parallel()
	s := newHarness(t, func(o *admin.Options) { o.Relay, o.Forward = true, asLeader{newBackend()} })
	s.refused(s.do("POST", "/api/session", "", `{"token":"guess"}`), 401, conf.CodeUnauthenticated)
	cookie := s.login(writeToken)
	if a := s.do("GET", "/api/config/me", "", "", cookie); a.Code != 200 || a.body["name"] != "admin" {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	if a := s.do("GET", "/api/session", "", "", cookie); a.body["name"] != "admin" || a.body["signed_in"] != true {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	if a := s.do("DELETE", "/api/config/services/stt-worker", "", "", cookie, "Sec-Fetch-Site: cross-site"); a.Code != 403 {
		t.Errorf("another site, by a relay: %d", a.Code)
	}
}

func TestSecurityHeadersOfAll(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	for _, path := range []string{"/", "/openapi.json", "/api/config/health", "/api/config/me", "/api/nowhere"} {
		for _, token := range []string{"", readToken} {
			h := s.do("GET", path, token, "").Header()
			for name, want := range map[string]string{
				"Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'", "X-Frame-Options": "DENY",
				"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
				"Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-store", "Access-Control-Allow-Origin": "",
			} {
				if got := h.Get(name); got != want {
					t.Errorf("%s: %s: %q, want %q", path, name, got, want)
				}
			}
		}
	}
}

// atPort is a request to a port of this host, as browsers address it.
func (s *harness) atPort(port, method, target, body string, headers ...string) answer {
	r := newRequest(method, target, body)
	r.Host = "localhost:" + port
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		r.Header.Add(k, v)
	}
	w := newRecorder()
	s.h.ServeHTTP(w, r)
	out := answer{ResponseRecorder: w}
	_ = json.Unmarshal(w.Body.Bytes(), &out.body)
	return out
}

// TestSessionAtAllServers: a session goes on at every server of the cluster, and through a
// rotation of the key that seals it.
func TestSessionAtAllServers(t *testing.T) {
	t.Parallel()
	first, second := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	with := func(keys ...[]byte) *harness {
		return newHarness(t, func(o *admin.Options) { o.SessionKeys = func() [][]byte { return keys } })
	}
	cookie := with(first).login(writeToken)
	for _, tc := range []struct {
		name string
		at   *harness
		want int
	}{
		{"another server", with(first), 200},
		{"a server that rotates", with(second, first), 200},
		{"a server after the rotation", with(second), 401},
		{"an agent without a key of the cluster", newHarness(t), 401},
	} {
		if a := tc.at.do("GET", "/api/config/me", "", "", cookie); a.Code != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, a.Code, tc.want)
		}
	}
}

func TestSessionOfOnePort(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	set := s.atPort("8081", "POST", "/api/session", `{"token":"`+writeToken+`"}`).Header().Get("Set-Cookie")
	name, value, _ := strings.Cut(strings.SplitN(set, ";", 2)[0], "=")
	if name != "holdfast_session_8081" {
		t.Errorf("the cookie is named %q", name)
	}
	if a := s.atPort("8081", "GET", "/api/config/me", "", "Cookie: "+name+"="+value); a.Code != 200 {
		t.Errorf("at its port: %d", a.Code)
	}
	for _, cookie := range []string{name, "holdfast_session_18081"} {
		if a := s.atPort("18081", "GET", "/api/config/me", "", "Cookie: "+cookie+"="+value); a.Code != 401 {
			t.Errorf("as %s at another port: %d", cookie, a.Code)
		}
	}
	// Logging out at one port leaves the other.
	if set := s.atPort("18081", "DELETE", "/api/session", "", "Cookie: "+name+"="+value).Header().Get("Set-Cookie"); !strings.HasPrefix(set, "holdfast_session_18081=;") {
		t.Errorf("logging out removes %s", set)
	}
	if a := s.atPort("8081", "GET", "/api/config/me", "", "Cookie: "+name+"="+value); a.Code != 200 {
		t.Errorf("logged out at another port: %d", a.Code)
	}
}

func TestGetSession(t *testing.T) {
	t.Parallel()
	s := newHarness(t, func(o *admin.Options) {
		o.Version, o.Insecure, o.Self = "v1.2.3", true, func() string { return "node-1" }
	})
	a := s.do("GET", "/api/session", "", "")
	if a.Code != 200 || a.body["signed_in"] != false || a.body["node_id"] != nil || a.body["version"] != nil || a.body["insecure"] != true {
		t.Errorf("without a session: %d %s", a.Code, a.Body)
	}
	if a.body["name"] != nil || a.body["session_ends"] != nil || len(s.audit) != 0 {
		t.Errorf("without a session: %s, access log %v", a.Body, s.audit)
	}
	cookie := s.login(writeToken)
	if a = s.do("GET", "/api/session", "", "", cookie); a.body["signed_in"] != true || a.body["name"] != "admin" || a.body["role"] != "config.write" || a.body["session_ends"] != "2026-01-02T15:04:05+00:00" || a.body["node_id"] != "node-1" || a.body["version"] != "v1.2.3" {
		t.Errorf("with a session: %s", a.Body)
	}
	if a = s.do("GET", "/api/session", readToken, ""); a.body["role"] != "config.read" || a.body["node_id"] != "node-1" {
		t.Errorf("with a token: %s", a.Body)
	}
	s.refused(s.do("GET", "/api/session", "wrong", ""), 401, conf.CodeUnauthenticated)
	s.refused(s.do("GET", "/api/session", "", "", cookie, "Sec-Fetch-Site: cross-site"), 403, conf.CodeDenied)
}

func TestSignInLink(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	clock := func() time.Time { return now }
	links := session.NewLinks(clock)
	s := newHarness(t, func(o *admin.Options) { o.Now, o.Links = clock, links })
	use := func(link string) answer { return s.do("POST", "/api/session", "", `{"link":"`+link+`"}`) }
	link := links.Make(writeToken)
	a := use(link)
	if a.Code != 200 || a.body["name"] != "admin" || strings.Contains(a.Body.String()+a.Header().Get("Set-Cookie"), writeToken) {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	s.refused(use(link), 401, conf.CodeUnauthenticated) // once
	link = links.Make(writeToken)
	now = now.Add(60 * time.Second)
	s.refused(use(link), 401, conf.CodeUnauthenticated)
	link = links.Make(writeToken)
	now = now.Add(59 * time.Second)
	if a = use(link); a.Code != 200 {
		t.Errorf("after 59 s: %d %s", a.Code, a.Body)
	}
	s.refused(use("guess"), 401, conf.CodeUnauthenticated)
	s.refused(s.do("POST", "/api/session", "", `{"link":"a","token":"b"}`), 400, conf.CodeMalformed)
	if strings.Contains(s.log.String(), link) {
		t.Error("the log has a link")
	}
}

// quiet is a state that never changes.
type quiet struct{}

func (quiet) Next() (none []events.Event, woken [3]<-chan struct{}) { return nil, woken }

func TestEventsOfTooMany(t *testing.T) {
	t.Parallel()
	hub := events.NewHub(func() events.Follower { return quiet{} })
	s := newHarness(t, func(o *admin.Options) { o.Events = hub })
	srv := httptest.NewServer(s.h)
	defer srv.Close()
	ask := func(token string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/api/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-API-Token", token)
		res, err := srv.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		return res
	}
	for i := range events.Max {
		if res := ask(readToken); res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("stream %d: %d %v", i, res.StatusCode, res.Header)
		}
	}
	if res := ask(readToken); res.StatusCode != 429 || res.Header.Get("Retry-After") == "" {
		t.Errorf("stream %d: %d", events.Max+1, res.StatusCode)
	}
	if res := ask("wrong"); res.StatusCode != 401 {
		t.Errorf("with a wrong token: %d", res.StatusCode)
	}
	hub.Stop()
}

func TestEventsEndWithTheToken(t *testing.T) {
	t.Parallel()
	s := newHarness(t, func(o *admin.Options) {
		o.Events = events.NewHub(func() events.Follower { return quiet{} })
	})
	cookie := s.login("fading")
	s.faded.Store(true)
	s.refused(s.do("GET", "/api/events", "", "", cookie), 401, conf.CodeUnauthenticated)
	s.faded.Store(false)
	srv := httptest.NewServer(s.h)
	defer srv.Close()
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/api/events", nil)
	r.Header.Set("X-API-Token", "fading")
	res, err := srv.Client().Do(r)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("%v %v", res, err)
	}
	s.faded.Store(true)
	if _, err := io.ReadAll(res.Body); err != nil { // returns when the stream ends
		t.Fatal(err)
	}
	_ = res.Body.Close()
}
