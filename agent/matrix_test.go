package agent_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// strangers makes requests, each from an address of its own: failed attempts of
// one do not slow the next one down.
type strangers struct {
	t    *testing.T
	next int
}

func (s *strangers) do(method, url, body, token, header string) (int, http.Header, string) {
	s.t.Helper()
	s.next++
	from := &net.TCPAddr{IP: net.IPv4(127, 1, byte(s.next>>8), byte(s.next))}
	c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DialContext: (&net.Dialer{LocalAddr: from}).DialContext, DisableKeepAlives: true,
	}}
	var in io.Reader = http.NoBody
	if body != "" {
		in = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, url, in)
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set(header, token)
	}
	resp, err := c.Do(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if resp.Header.Get("Content-Type") != "text/event-stream" {
		if _, err := io.Copy(&text, resp.Body); err != nil {
			s.t.Fatal(err)
		}
	}
	return resp.StatusCode, resp.Header, text.String()
}

// TestRouteMatrix walks every route and every method of the admin API with every
// kind of token, at a real agent: who may not, is refused, and changes nothing.
func TestRouteMatrix(t *testing.T) {
	t.Parallel()
	r := start(t, testenv.Options(t, nil)).ready()
	expired, revoked := r.apiToken(conf.RoleWrite, "late", "1s"), r.apiToken(conf.RoleWrite, "gone", "1h")
	read, write := r.apiToken(conf.RoleRead, "reads", "1h"), r.apiToken(conf.RoleWrite, "writes", "1h")
	reports := r.apiToken(conf.RoleReport, "reports", "1h")
	if code, _, body := r.Call("DELETE", r.Info().AdminURL+"/api/config/tokens/"+revoked.ID, "", "X-API-Token", testenv.WriteToken); code != 200 {
		t.Fatal(body)
	}
	if code, body := r.set("7"); code != 200 {
		t.Fatal(body)
	}
	s := &strangers{t: t}
	ask := func(method, path, body, token string) int {
		t.Helper()
		code, _, text := s.do(method, r.Info().AdminURL+path, body, token, "X-API-Token")
		if code >= 500 && code != 501 && code != 503 {
			t.Errorf("%s %s: %d %s", method, path, code, text)
		}
		return code
	}
	r.Await("the end of a token", func() bool { return ask("GET", "/api/config/me", "", expired.Token) == 401 })
	bad := map[string]string{
		"no token": "", "a wrong token": "wrong", "an expired token": expired.Token, "a revoked token": revoked.Token,
		"a token with another secret": write.Token[:len(write.Token)-4] + "AAAA", "an id": write.ID,
	}
	fill := strings.NewReplacer(":service", "demo", ":rollout", "demo-8-abcdef", ":name", "night", ":node", "n9", ":id", "x1", ":key", "level", ":kind", "hmac")
	known := map[string]map[string]bool{}
	walked := 0
	for _, route := range admin.Routes() {
		path := fill.Replace(route.Path)
		if strings.Contains(path, ":") {
			t.Fatalf("the test does not know what to put into %s", path)
		}
		if known[path] == nil {
			known[path] = map[string]bool{}
		}
		known[path][route.Method] = true
		if route.Method == http.MethodGet {
			known[path][http.MethodHead] = true
		}
		if route.Role == "" {
			switch route.Method + " " + path {
			case "GET /api/config/health", "GET /openapi.json", "POST /api/config/rebuild", "GET /api/session", "POST /api/session", "DELETE /api/session":
			default:
				t.Errorf("%s %s is open without a token", route.Method, path)
			}
			continue
		}
		if route.Role != conf.RoleRead && route.Role != conf.RoleWrite && (route.Role != conf.RoleReport || path != "/api/config/instances") {
			t.Errorf("%s %s needs the role %q", route.Method, path, route.Role)
		}
		body := ""
		if route.Method == http.MethodPost || route.Method == http.MethodPut || route.Method == http.MethodPatch {
			body = `{"there is no such member":1}` // who is admitted is refused for this, and changes nothing
		}
		for what, token := range bad {
			if code := ask(route.Method, path, body, token); code != 401 {
				t.Errorf("%s %s with %s: %d", route.Method, path, what, code)
			}
			walked++
		}
		switch code := ask(route.Method, path, body, read.Token); {
		case route.Role != conf.RoleRead && code != 403, route.Role == conf.RoleRead && (code == 401 || code == 403):
			t.Errorf("%s %s with the role to read: %d", route.Method, path, code)
		}
		if code := ask(route.Method, path, body, reports.Token); code == 403 != (route.Role != conf.RoleReport) || code == 401 {
			t.Errorf("%s %s with the role to report: %d", route.Method, path, code)
		}
	}
	if code, _, body := r.Call("GET", r.Info().LocalURL+"/v1/config/demo/level", ""); code != 200 || strings.TrimSpace(body) != "7" {
		t.Errorf("after all refusals: %d %s", code, body)
	}
	for path, methods := range known {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
			if methods[method] {
				continue
			}
			for what, token := range bad {
				if code := ask(method, path, "", token); code != 401 {
					t.Errorf("%s %s with %s: %d", method, path, what, code)
				}
				walked++
			}
			if code := ask(method, path, "", write.Token); code != 405 {
				t.Errorf("%s %s: %d, it is not in the table", method, path, code)
			}
		}
	}
	r.localMatrix(s)
	// Last, because it does what it says: the role to write opens everything.
	for _, route := range admin.Routes() {
		if path := fill.Replace(route.Path); route.Role != "" && !strings.HasSuffix(path, "/rotate") {
			if code := ask(route.Method, path, "", write.Token); code == 401 || code == 403 {
				t.Errorf("%s %s with the role to write: %d", route.Method, path, code)
			}
		}
	}
	t.Logf("%d refusals walked", walked)
}

// localMatrix does the same at the local API, which reads without a token and
// gives secrets to its own token only.
func (r *running) localMatrix(s *strangers) {
	t, url := r.T, r.Info().LocalURL
	right, err := os.ReadFile(r.Options.LocalTokenFile())
	if err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(string(right))
	for _, path := range []string{
		"/v1/config/demo", "/v1/config/demo/level", "/v1/config/demo/api_key", "/v1/env/demo", "/v1/watch/demo", "/v1/config", "/v1/env", "/v1/watch",
		"/v1/keys", "/healthz", "/readyz", "/metrics", "/", "/api/config/services", "/v1/config/demo/level/x", "/debug/pprof/",
		"/s/demo/ofrep/v1/evaluate/flags", "/s/demo/ofrep/v1/evaluate/flags/level", "/s/demo/ofrep/v1/evaluate/flags/api_key", "/s/demo/ofrep/v1/events",
	} {
		asks := strings.Contains(path, "/evaluate/") // takes POST, only, and shows a secret to nobody

		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
			reads := method == "GET" || method == "HEAD"
			for what, given := range map[string]string{"no": "", "a wrong": "wrong", "the right": token, "an admin": testenv.WriteToken} {
				code, _, body := s.do(method, url+path, "", given, "X-Holdfast-Token")
				name := fmt.Sprintf("%s %s with %s token: %d %.80s", method, path, what, code, body)
				switch {
				case code >= 500:
					t.Error(name)
				case asks && (strings.Contains(body, "canary-secret-value") || (method == "POST") == (code == 405)):
					t.Error(name)
				case asks && method == "POST" && given != "" && given != token && code != 401:
					t.Error(name)
				case !reads && !asks && code != 405 && code != 403:
					t.Error(name)
				case strings.Contains(body, "canary-secret-value") && given != token:
					t.Error(name)
				case reads && strings.HasSuffix(path, "demo") && (given != "" && given != token) && code != 401:
					t.Error(name)
				}
			}
		}
	}
	if _, _, body := s.do("GET", url+"/v1/config/demo", "", token, "X-Holdfast-Token"); !strings.Contains(body, "canary-secret-value") {
		t.Errorf("the right token shows no secret: the test looks for nothing (%s)", body)
	}
}
