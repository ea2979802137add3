package admin_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// login gives the Cookie header of a new session.
func (s *harness) login(token string) string {
	s.t.Helper()
	a := s.do("POST", "/api/session", "", `{"token":"`+token+`"}`)
	if a.Code != 200 {
		s.t.Fatalf("login: %d %s", a.Code, a.Body)
	}
	for _, attribute := range []string{"holdfast_session=", "Path=/", "Max-Age=43200", "HttpOnly", "SameSite=Strict"} {
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
		{"another cookie", "GET", "/api/config/me", "", []string{"Cookie: holdfast_session=other"}, 401}, // two of them: none counts
	} {
		a := s.do(tc.method, tc.target, "", tc.body, append([]string{cookie}, tc.headers...)...)
		if a.Code != tc.want {
			t.Errorf("%s: %d %s, want %d", tc.name, a.Code, a.Body, tc.want)
		}
	}
	if a := s.do("GET", "/api/config/me", "", "", "Cookie: holdfast_session=guess"); a.Code != 401 {
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
	for range 13 {
		now = now.Add(55 * time.Minute)
		if me(cookie) != 200 {
			t.Fatal("a session that is used ends early")
		}
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
	s.faded = true
	if me(cookie) != 401 {
		t.Error("the end of the token is not the end of its session")
	}
	s.faded = false
	if me(cookie) != 401 {
		t.Error("the session came back with its token")
	}
	cookie = s.login(readToken)
	for range 1200 {
		now = now.Add(time.Microsecond)
		s.login(readToken)
	}
	if me(cookie) != 401 {
		t.Error("sessions are without bound")
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

// An agent that knows no tokens lets the leader say whose one is.
// TestLoginsOfOne: who logs in without end logs out nobody else.
func TestLoginsOfOne(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	mine := s.login(writeToken)
	first := s.login(readToken)
	for range 1100 {
		s.login(readToken)
	}
	if a := s.do("GET", "/api/config/me", "", "", mine); a.Code != 200 {
		t.Errorf("logged out by another one's logins: %d", a.Code)
	}
	if a := s.do("GET", "/api/config/me", "", "", first); a.Code != 401 {
		t.Errorf("one token has a thousand sessions: %d", a.Code)
	}
}

func TestSessionAtARelay(t *testing.T) {
	t.Parallel()
	s := newHarness(t, func(o *admin.Options) { o.Relay, o.Forward = true, asLeader{newBackend()} })
	s.refused(s.do("POST", "/api/session", "", `{"token":"guess"}`), 401, conf.CodeUnauthenticated)
	cookie := s.login(writeToken)
	if a := s.do("GET", "/api/config/me", "", "", cookie); a.Code != 200 || a.body["name"] != "admin" {
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
