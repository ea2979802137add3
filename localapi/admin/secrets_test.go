package admin_test

import (
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const secretRoute = "/api/config/services/stt-worker/secrets"

func TestSecretRoutes(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	a := s.do("PUT", secretRoute+"/db.password", writeToken, `{"value":"hunter2","version":4,"reason":"r"}`)
	if a.Code != 200 || s.draft.Op != conf.OpSecretSet || s.draft.Key != "db.password" || string(s.draft.Document) != `"hunter2"` ||
		s.draft.Expect == nil || *s.draft.Expect != 4 || s.draft.Reason != "r" || s.draft.Service != "stt-worker" {
		t.Errorf("%d %s: %+v", a.Code, a.Body, s.draft)
	}
	a = s.do("DELETE", secretRoute+"/db.password?version=7&reason=r", writeToken, "")
	if a.Code != 200 || s.draft.Op != conf.OpSecretDelete || *s.draft.Expect != 7 {
		t.Errorf("%d %s: %+v", a.Code, a.Body, s.draft)
	}
	a = s.do("POST", secretRoute+"/db.password/reveal", writeToken, `{"reason":"an outage"}`)
	if a.Code != 200 || a.body["value"] != "hunter2" || s.id != "stt-worker db.password an outage" || a.Result().Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %s: %q", a.Code, a.Body, s.id)
	}
	a = s.do("GET", "/api/config/services/stt-worker?explain=1", readToken, "")
	if a.Code != 200 || !strings.Contains(a.Body.String(), `"fields":[{"key":"a"`) {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	for _, c := range []struct {
		method, target, token, body string
		status                      int
		code                        conf.Code
	}{
		{"POST", secretRoute + "/db.password/reveal", readToken, `{"reason":"r"}`, 403, conf.CodeDenied},
		{"POST", secretRoute + "/db.password/reveal", "", `{"reason":"r"}`, 401, conf.CodeUnauthenticated},
		{"POST", secretRoute + "/db.password/reveal", writeToken, `{}`, 422, conf.CodeInvalid},
		{"POST", secretRoute + "/D%20B/reveal", writeToken, `{"reason":"r"}`, 422, conf.CodeInvalid},
		{"GET", secretRoute + "/db.password/reveal", writeToken, "", 405, conf.CodeMethod},
		{"GET", secretRoute + "/db.password", writeToken, "", 405, conf.CodeMethod},
		{"PUT", secretRoute + "/db.password", readToken, `{"value":"hunter2"}`, 403, conf.CodeDenied},
		{"PUT", secretRoute + "/db.password", writeToken, `{"reason":"hunter2"}`, 422, conf.CodeInvalid},
		{"PUT", secretRoute + "/db.password", writeToken, `{"value":"hunter2","x":1}`, 400, conf.CodeMalformed},
		{"PUT", secretRoute + "/db.password", writeToken, `{"value":hunter2}`, 400, conf.CodeMalformed},
		{"PUT", secretRoute + "/db.password", writeToken, `{"value":"v","reason":4711471147}`, 400, conf.CodeMalformed},
		{"GET", "/api/config/services/stt-worker?explain=1&values=stored", readToken, "", 422, conf.CodeInvalid},
		{"GET", "/api/config/services/stt-worker?explain=yes", readToken, "", 422, conf.CodeInvalid},
	} {
		s := newHarness(t)
		a := s.do(c.method, c.target, c.token, c.body)
		s.refused(a, c.status, c.code)
		if strings.Contains(a.Body.String(), "hunter2") || strings.Contains(a.Body.String(), "4711") {
			t.Errorf("%s %s: %s", c.method, c.target, a.Body)
		}
	}
	s = newHarness(t, func(o *admin.Options) { o.Secrets = nil })
	s.refused(s.do("GET", secretRoute, readToken, ""), 501, conf.CodeUnsupported)
}

// The id of a request tells nothing about its body to who has not the key.
func TestRequestIDsAreKeyed(t *testing.T) {
	t.Parallel()
	ids := func(keys ...string) []string {
		s := newHarness(t, func(o *admin.Options) {
			o.RequestKeys = func() (out [][]byte) {
				for _, k := range keys {
					out = append(out, []byte(k))
				}
				return out
			}
		})
		s.do("PUT", secretRoute+"/db.password", writeToken, `{"value":"hunter2"}`, "Idempotency-Key: k")
		return append([]string{s.draft.RequestID}, s.draft.EarlierIDs...)
	}
	a, b := ids("one key")[0], ids("another key")[0]
	if a == b || a == "" || a != ids("one key")[0] {
		t.Errorf("%q %q", a, b)
	}
	// After a rotation it is still known by what it was before.
	if both := ids("another key", "one key"); len(both) != 2 || both[0] != b || both[1] != a {
		t.Errorf("%q", both)
	}
}

// No error of any route repeats a number or a text that was sent in a wrong place.
func TestErrorsRepeatNoValue(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	for _, body := range []string{
		`{"value":47114711471147114711}`, `{"value":4711e999}`, `{"value":"hunter2","value":"hunter2"}`, `{"value":"hunter2"`, `"hunter2"`, `4711`,
		`{"value":"hunter2","version":-4711}`, `{"value":"hunter2","version":"4711"}`, `{"value":"hunter2","version":4711.5}`,
	} {
		a := s.do("PUT", secretRoute+"/db.password", writeToken, body)
		if a.Code < 400 && !strings.HasPrefix(body, `{"value":4711`) {
			t.Errorf("%s: %d", body, a.Code)
		}
		if strings.Contains(a.Body.String(), "hunter2") || strings.Contains(a.Body.String(), "4711") {
			t.Errorf("%s: %s", body, a.Body)
		}
	}
}
