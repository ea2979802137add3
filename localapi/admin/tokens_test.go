package admin_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const apiTokens = "/api/config/tokens"

func TestCreateAPIToken(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		body string
		want conf.APITokenRequest
	}{
		{`{"role":"config.read","name":"ci"}`, conf.APITokenRequest{Role: conf.RoleRead, Name: "ci", TTL: 90 * 24 * time.Hour}},
		{`{"role":"config.write","name":"ann@example.com","ttl":"1s"}`, conf.APITokenRequest{Role: conf.RoleWrite, Name: "ann@example.com", TTL: time.Second}},
	} {
		s := newHarness(t)
		a := s.do("POST", apiTokens, writeToken, tc.body)
		if a.Code != 200 || s.api != tc.want || s.who.Name != "admin" {
			t.Errorf("%s: %d %s, asked for %+v by %s", tc.body, a.Code, a.Body, s.api, s.who.Name)
		}
		want := map[string]any{
			"success": true, "id": "api-1", "name": tc.want.Name, "role": string(tc.want.Role), "token": apiToken, "expires_at": "2026-01-02T04:04:05+00:00",
		}
		if diff := cmp.Diff(want, a.body); diff != "" {
			t.Error(diff)
		}
	}
}

func TestBadAPITokenInput(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	for body, status := range map[string]int{
		``: 400, `{}`: 422, `{"role":"server","name":"ci"}`: 422, `{"role":"config.read"}`: 422, `{"role":"config.read","name":"a b"}`: 422,
		`{"role":"config.read","name":"token-0011"}`: 422, `{"role":"config.read","name":"Autopilot"}`: 422,
		`{"role":"config.read","name":"` + strings.Repeat("x", 64) + `"}`: 422, `{"role":"config.read","name":"ci","ttl":"soon"}`: 422,
		`{"role":"config.read","name":"ci","ttl":"0s"}`: 422, `{"role":"config.read","name":"ci","ttl":"99999h"}`: 422,
		`{"role":"config.read","name":"ci","uses":1}`: 400, `{"role":"config.read","role":"config.write","name":"ci"}`: 400,
	} {
		code := map[int]conf.Code{400: conf.CodeMalformed, 422: conf.CodeInvalid}[status]
		s.refused(s.do("POST", apiTokens, writeToken, body), status, code)
	}
	s.refused(s.do("DELETE", apiTokens+"/a%20b", writeToken, ""), 422, conf.CodeInvalid)
	if a := s.do("DELETE", apiTokens+"/api-1", writeToken, ""); a.Code != 200 || s.id != "api-1" {
		t.Errorf("revoke: %d %s, id %q", a.Code, a.Body, s.id)
	}
	s = newHarness(t, func(o *admin.Options) { o.APITokens = nil })
	s.refused(s.do("GET", apiTokens, readToken, ""), 501, conf.CodeUnsupported)
}
