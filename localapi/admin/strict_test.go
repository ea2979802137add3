package admin_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// TestStrictBodies asks for the exact ConfigUpdateResponse of the data model, whose
// Pydantic model forbids other members, in successes and in every kind of error.
func TestStrictBodies(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		token, body string
		status      int
		fails       error
		says        string
	}{
		"success":   {writeToken, `{"a":1}`, 200, nil, ""},
		"malformed": {writeToken, `{`, 400, nil, "JSON"},
		"no token":  {"", `{}`, 401, nil, "token"},
		"role":      {readToken, `{}`, 403, nil, "config.write"},
		"conflict":  {writeToken, `{}`, 409, &conf.Error{Code: conf.CodeConflict, Message: "changed meanwhile", Current: 7}, "changed meanwhile (read it again"},
		"invalid": {writeToken, `{}`, 422, &conf.Error{
			Code: conf.CodeInvalid, Message: "2 fields", Details: []conf.FieldError{{Key: "a", Message: "must be 1"}, {Key: "b", Message: "must be 2"}},
		}, "2 fields; a: must be 1; b: must be 2"},
		"internal": {writeToken, `{}`, 500, &conf.Error{Code: conf.CodeInternal, Message: "/secret/path"}, "internal error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newHarness(t)
			s.err = tc.fails
			asked := map[string]answer{
				"parameter": s.do("PATCH", svc+"?strict=1", tc.token, tc.body),
				"Accept":    s.do("PATCH", svc, tc.token, tc.body, "Accept: text/html;q=0.1, application/vnd.config.v1+json"),
			}
			for how, a := range asked {
				if members := conf.SortedKeys(a.body); a.Code != tc.status || !slices.Equal(members, []string{"error", "new_version", "success"}) {
					t.Errorf("%s: %d %s", how, a.Code, a.Body)
				}
				if text, _ := a.body["error"].(string); !strings.Contains(text, tc.says) || (text == "") != (tc.status == 200) || strings.Contains(text, "/secret") {
					t.Errorf("%s: error %q", how, a.body["error"])
				}
				if typ := a.Header().Get("Content-Type"); (typ == "application/vnd.config.v1+json") != (how == "Accept") {
					t.Errorf("%s: Content-Type %q", how, typ)
				}
			}
			if a := s.do("PATCH", svc, tc.token, tc.body); tc.status != 200 && a.body["code"] == nil {
				t.Errorf("the default lacks the code: %s", a.Body)
			}
		})
	}
	s := newHarness(t)
	if a := s.do("PATCH", svc+"?strict=maybe", writeToken, `{}`); a.Code != 422 {
		t.Errorf("a bad value: %d %s", a.Code, a.Body)
	}
	for _, r := range admin.Routes() { // the others have bodies of their own
		if target, _ := sample(r); !slices.Contains(r.Query, "strict") {
			if a := s.do(r.Method, target+"?strict=1", writeToken, ""); a.Code/100 == 2 {
				t.Errorf("%s %s takes the parameter", r.Method, r.Path)
			}
		}
	}
}
