package admin_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// The routes hand a schema on with the values, and answer what the editor says of profiles.
func TestSchemaWithValues(t *testing.T) {
	h := newHarness(t)
	h.backend.outcome = conf.Outcome{Service: "stt-worker", Version: 6, Changed: true, Stale: []conf.StaleProfile{
		{Profile: "day", Service: "stt-worker", Error: "a"}, {Profile: "night", Service: "stt-worker", Error: "b"},
	}}
	const svc = "/api/config/services/stt-worker"
	a := h.do("PUT", svc, writeToken, `{"service":"stt-worker","config":{"a":1},"schema":{"type":"object"},"version":5}`)
	if a.Code != http.StatusOK || a.Header().Get("X-Config-Stale-Profiles") != "day, night" || strings.Contains(a.Body.String(), "stale") {
		t.Fatalf("%d %v %s", a.Code, a.Header(), a.Body)
	}
	if d := h.backend.draft; d.Op != conf.OpPut || string(d.Schema) != `{"type":"object"}` || string(d.Document) != `{"a":1}` {
		t.Fatalf("draft %+v", d)
	}
	a = h.do("POST", svc+"/validate", readToken, `{"schema":{"type":"object"}}`)
	if d := h.backend.draft; a.Code != http.StatusOK || d.Op != conf.OpSchema || !d.DryRun || !strings.Contains(a.Body.String(), `"stale_profiles":[{"profile":"day"`) {
		t.Fatalf("%d %s, draft %+v", a.Code, a.Body, d)
	}
	a = h.do("PUT", "/api/config/schemas/stt-worker", writeToken, `{"type":"object"}`)
	if a.Code != http.StatusOK || !strings.Contains(a.Body.String(), `"stale_profiles":[{"profile":"day"`) {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	a = h.do("PUT", "/api/config/profiles/day", writeToken, `{"keep_stale":true,"services":{"router":{"a":1}}}`)
	if a.Code != http.StatusOK || !strings.Contains(a.Body.String(), `"stale_profiles":[{"profile":"day","service":"router"`) {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	for name, c := range map[string][3]string{
		"schema is null":         {"PUT", svc, `{"service":"stt-worker","config":{},"schema":null,"version":5}`},
		"schema is no object":    {"PUT", svc, `{"service":"stt-worker","config":{},"schema":true,"version":5}`},
		"schema without values":  {"PUT", svc, `{"service":"stt-worker","schema":{},"version":5}`},
		"patch with a schema":    {"POST", svc + "/validate", `{"config":{},"schema":{},"mode":"patch"}`},
		"nothing to validate":    {"POST", svc + "/validate", `{}`},
		"keep_stale of the rest": {"PUT", "/api/config/profiles/day", `{"keep_stale":true}`},
	} {
		if a := h.do(c[0], c[1], writeToken, c[2]); a.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", name, a.Code, a.Body)
		}
	}
}
