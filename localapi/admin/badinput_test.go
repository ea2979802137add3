package admin_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestBadInput(t *testing.T) {
	t.Parallel()
	const svc = "/api/config/services/stt-worker"
	put := func(config string) string { return `{"service":"stt-worker","config":` + config + `,"version":5}` }
	deep := strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)
	big := `{"a":"` + strings.Repeat("x", conf.MaxDocument+1) + `"}`
	long := strings.Repeat("x", conf.MaxReason+1)
	for _, c := range []struct {
		name, method, target, body string
		headers                    []string
		status                     int
		code                       conf.Code
		says                       string // in error, hint or details
	}{
		{"not JSON", "PUT", svc, `{`, nil, 400, conf.CodeMalformed, "byte 1"},
		{"not an object", "PUT", svc, `[1]`, nil, 400, conf.CodeMalformed, "an array"},
		{"text after", "PUT", svc, put(`{}`) + `{}`, nil, 400, conf.CodeMalformed, "more text"},
		{"no body", "PUT", svc, ``, nil, 400, conf.CodeMalformed, "body is needed"},
		{"duplicate key", "PUT", svc, put(`{"a":1,"a":2}`), nil, 400, conf.CodeMalformed, `duplicate key \"a\"`},
		{"duplicate member", "PUT", svc, `{"service":"stt-worker","config":{},"version":1,"version":5}`, nil, 400, conf.CodeMalformed, `duplicate key \"version\"`},
		{"unknown member", "PUT", svc, `{"service":"stt-worker","config":{},"version":5,"force":true}`, nil, 400, conf.CodeMalformed, "known members: config, reason, schema, service, version"},
		{"other case", "PUT", svc, `{"Service":"stt-worker","config":{},"version":5}`, nil, 400, conf.CodeMalformed, `unknown member \"Service\"`},
		{"deep", "PUT", svc, put(deep), nil, 400, conf.CodeMalformed, "32 levels"},
		{"beyond 2^53", "PUT", svc, put(`{"a":9007199254740993}`), nil, 400, conf.CodeMalformed, "2^53"},
		{"beyond float", "PUT", svc, put(`{"a":1e999}`), nil, 400, conf.CodeMalformed, "64-bit float"},
		{"not UTF-8", "PUT", svc, put("{\"a\":\"\xff\"}"), nil, 400, conf.CodeMalformed, "UTF-8"},
		{"lone surrogate", "PUT", svc, put(`{"a":"\ud800"}`), nil, 400, conf.CodeMalformed, "surrogate"},
		{"too large", "PUT", svc, put(big), nil, 413, conf.CodeTooLarge, "1048576"},
		{"far too large", "PUT", svc, put(`{"a":"` + strings.Repeat("x", 3<<20) + `"}`), nil, 413, conf.CodeTooLarge, "limit"},
		{"config missing", "PUT", svc, `{"service":"stt-worker","version":5}`, nil, 422, conf.CodeInvalid, `"key":"config"`},
		{"config null", "PUT", svc, put(`null`), nil, 422, conf.CodeInvalid, `"key":"config"`},
		{"config a list", "PUT", svc, put(`[]`), nil, 422, conf.CodeInvalid, `"key":"config"`},
		{"version missing", "PUT", svc, `{"service":"stt-worker","config":{}}`, nil, 422, conf.CodeInvalid, `"key":"version"`},
		{"version negative", "PUT", svc, `{"service":"stt-worker","config":{},"version":-1}`, nil, 400, conf.CodeMalformed, `"key":"version"`},
		{"version a string", "PUT", svc, `{"service":"stt-worker","config":{},"version":"5"}`, nil, 400, conf.CodeMalformed, `"key":"version"`},
		{"service missing", "PUT", svc, `{"config":{},"version":5}`, nil, 422, conf.CodeInvalid, `"key":"service"`},
		{"service differs", "PUT", svc, `{"service":"router","config":{},"version":5}`, nil, 422, conf.CodeInvalid, "the path says"},
		{"version contradicts If-Match", "PUT", svc, put(`{}`), []string{`If-Match: "4"`}, 400, conf.CodeMalformed, "give it once"},
		{"reason too long", "PUT", svc, put(`{}`)[:len(put(`{}`))-1] + `,"reason":"` + long + `"}`, nil, 422, conf.CodeInvalid, "1024"},
		{"two reasons", "PUT", svc + "?reason=a", put(`{}`), []string{"X-Config-Reason: b"}, 400, conf.CodeMalformed, "reasons"},
		{"control characters in reason", "DELETE", svc + "?reason=a%00b", "", nil, 422, conf.CodeInvalid, "control"},
		{"Idempotency-Key with a space", "PUT", svc, put(`{}`), []string{"Idempotency-Key: a b"}, 422, conf.CodeInvalid, "UUID"},
		{"bad service name", "PUT", "/api/config/services/STT_Worker", put(`{}`), nil, 422, conf.CodeInvalid, "^[a-z][a-z0-9-]*$"},
		{"encoded slash", "GET", "/api/config/services/a%2Fb", "", nil, 404, conf.CodeNotFound, "no such route"},
		{"encoded slash to another route", "GET", "/api/config/services/stt-worker%2fversions", "", nil, 404, conf.CodeNotFound, "no such route"},
		{"NUL in a name", "GET", "/api/config/services/a%00", "", nil, 422, conf.CodeInvalid, "^[a-z][a-z0-9-]*$"},
		{"form", "PUT", svc, put(`{}`), []string{"Content-Type: application/x-www-form-urlencoded"}, 415, conf.CodeMalformed, "application/json"},
		{"other charset", "PUT", svc, put(`{}`), []string{"Content-Type: application/json; charset=latin1"}, 415, conf.CodeMalformed, "UTF-8"},
		{"merge patch on PUT", "PUT", svc, put(`{}`), []string{"Content-Type: application/merge-patch+json"}, 415, conf.CodeMalformed, "application/json"},
		{"compressed", "PUT", svc, put(`{}`), []string{"Content-Encoding: gzip"}, 415, conf.CodeMalformed, "as it is"},

		{"patch not an object", "PATCH", svc, `[{"op":"add"}]`, nil, 400, conf.CodeMalformed, "an array"},
		{"patch duplicate", "PATCH", svc, `{"a":1,"a":2}`, nil, 400, conf.CodeMalformed, "duplicate"},
		{"patch too large", "PATCH", svc, big, nil, 413, conf.CodeTooLarge, "1048576"},
		{"patch bad If-Match", "PATCH", svc, `{}`, []string{`If-Match: "five"`}, 400, conf.CodeMalformed, `\"5\"`},
		{"patch If-Match list", "PATCH", svc, `{}`, []string{`If-Match: "4", "5"`}, 400, conf.CodeMalformed, "ETag"},
		{"patch bad version", "PATCH", svc + "?version=five", `{}`, nil, 400, conf.CodeMalformed, "not a number"},
		{"patch huge version", "PATCH", svc + "?version=99999999999999999999", `{}`, nil, 422, conf.CodeInvalid, `"key":"version"`},
		{"patch two versions", "PATCH", svc + "?version=5", `{}`, []string{`If-Match: "6"`}, 400, conf.CodeMalformed, "give it once"},

		{"delete with a body", "DELETE", svc, `{"version":5}`, nil, 400, conf.CodeMalformed, "version, reason"},
		{"get with a body", "GET", svc, `{}`, nil, 400, conf.CodeMalformed, "no body"},
		{"unknown parameter", "GET", svc + "?fields=1", "", nil, 400, conf.CodeMalformed, "known parameters: values, version"},
		{"unknown parameter, none known", "GET", "/api/config/me?x=1", "", nil, 400, conf.CodeMalformed, "no parameters"},
		{"parameter twice", "GET", svc + "?values=stored&values=stored", "", nil, 400, conf.CodeMalformed, "2 times"},
		{"malformed query", "GET", svc + "?values=%zz", "", nil, 400, conf.CodeMalformed, "percent-encode"},
		{"query not UTF-8", "GET", "/api/config/history?user=%ff", "", nil, 400, conf.CodeMalformed, "UTF-8"},
		{"bad values", "GET", svc + "?values=all", "", nil, 422, conf.CodeInvalid, "effective, stored"},
		{"version without values", "GET", svc + "?version=3", "", nil, 422, conf.CodeInvalid, "values=stored"},
		{"version zero", "GET", svc + "?values=stored&version=0", "", nil, 422, conf.CodeInvalid, `"key":"version"`},
		{"If-Match where it says nothing", "PUT", "/api/config/schemas/stt-worker", `{}`, []string{`If-Match: "5"`}, 400, conf.CodeMalformed, "leave the header out"},

		{"validate without config", "POST", svc + "/validate", `{}`, nil, 422, conf.CodeInvalid, `"key":"config"`},
		{"validate bad mode", "POST", svc + "/validate", `{"config":{},"mode":"merge"}`, nil, 422, conf.CodeInvalid, "put, patch"},
		{"restore without version", "POST", svc + "/restore", `{}`, nil, 422, conf.CodeInvalid, `"key":"version"`},
		{"restore version zero", "POST", svc + "/restore", `{"version":0}`, nil, 422, conf.CodeInvalid, `"key":"version"`},
		{"restore contradiction", "POST", svc + "/restore", `{"version":3,"expect":5}`, []string{`If-Match: "4"`}, 400, conf.CodeMalformed, "give it once"},
		{"versions limit", "GET", svc + "/versions?limit=0", "", nil, 422, conf.CodeInvalid, "1 to 1000"},

		{"search bad complexity", "POST", "/api/config/search", `{"complexity_filter":"hard"}`, nil, 422, conf.CodeInvalid, "simple, advanced"},
		{"search bad type", "POST", "/api/config/search", `{"type_filter":"int"}`, nil, 422, conf.CodeInvalid, "integer"},
		{"search bad service", "POST", "/api/config/search", `{"service_filter":"A B"}`, nil, 422, conf.CodeInvalid, "service name"},
		{"search wrong type", "POST", "/api/config/search", `{"query":5}`, nil, 400, conf.CodeMalformed, `"key":"query"`},
		{"search long query", "POST", "/api/config/search", `{"query":"` + long + `"}`, nil, 422, conf.CodeInvalid, "1024"},
		{"search limit", "POST", "/api/config/search", `{"limit":1001}`, nil, 422, conf.CodeInvalid, "1 to 1000"},
		{"search offset", "POST", "/api/config/search", `{"offset":-1}`, nil, 422, conf.CodeInvalid, `"key":"offset"`},
		{"search unknown member", "POST", "/api/config/search", `{"q":"x"}`, nil, 400, conf.CodeMalformed, "known members"},

		{"history limit", "GET", "/api/config/history?limit=1001", "", nil, 422, conf.CodeInvalid, "1 to 1000"},
		{"history offset", "GET", "/api/config/history?offset=-1", "", nil, 400, conf.CodeMalformed, "not a number"},
		{"history since", "GET", "/api/config/history?since=yesterday", "", nil, 422, conf.CodeInvalid, "RFC 3339"},
		{"history window", "GET", "/api/config/history?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "", nil, 422, conf.CodeInvalid, "before since"},
		{"history key", "GET", "/api/config/history?key=A..b", "", nil, 422, conf.CodeInvalid, "bad key"},
		{"history service", "GET", "/api/config/history?service=A", "", nil, 422, conf.CodeInvalid, "service name"},
		{"history user", "GET", "/api/config/history?user=" + long, "", nil, 422, conf.CodeInvalid, "128"},
		{"history version", "GET", "/api/config/history?version=0", "", nil, 422, conf.CodeInvalid, `"key":"version"`},
		{"access action", "GET", "/api/config/access?action=delete", "", nil, 422, conf.CodeInvalid, "unauthorized"},
		{"access user", "GET", "/api/config/access?user=" + long, "", nil, 422, conf.CodeInvalid, "128"},

		{"schema not an object", "PUT", "/api/config/schemas/stt-worker", `true`, nil, 400, conf.CodeMalformed, "boolean"},
		{"schema duplicate", "PUT", "/api/config/schemas/stt-worker", `{"type":"object","type":"array"}`, nil, 400, conf.CodeMalformed, "duplicate"},
		{"schema too large", "PUT", "/api/config/schemas/stt-worker", big, nil, 413, conf.CodeTooLarge, "limit"},
		{"schema bad name", "PUT", "/api/config/schemas/9lives", `{}`, nil, 422, conf.CodeInvalid, "service name"},

		{"profile bad name", "PUT", "/api/config/profiles/.hidden", `{}`, nil, 422, conf.CodeInvalid, "profile name"},
		{"profile bad service", "PUT", "/api/config/profiles/night", `{"services":{"A":{}}}`, nil, 422, conf.CodeInvalid, "service name"},
		{"profile bad values", "PUT", "/api/config/profiles/night", `{"services":{"router":[]}}`, nil, 422, conf.CodeInvalid, `"key":"services.router"`},
		{"profile both", "PUT", "/api/config/profiles/night?service=router", `{"services":{"router":{}}}`, nil, 400, conf.CodeMalformed, "both"},
		{"profile of bad service", "PUT", "/api/config/profiles/night?service=router,,x", ``, nil, 422, conf.CodeInvalid, "service name"},
		{"profile description", "PUT", "/api/config/profiles/night", `{"description":"` + long + `"}`, nil, 422, conf.CodeInvalid, "1024"},
		{"activate unknown member", "POST", "/api/config/profiles/night/activate", `{"force":true}`, nil, 400, conf.CodeMalformed, "known members"},
		{"rebuild malformed", "POST", "/api/config/rebuild", `{"token":1}`, nil, 400, conf.CodeMalformed, `"key":"token"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newHarness(t)
			a := s.do(c.method, c.target, writeToken, c.body, c.headers...)
			s.refused(a, c.status, c.code)
			if !strings.Contains(a.Body.String(), c.says) {
				t.Errorf("does not say %q: %s", c.says, a.Body)
			}
			if a.Body.Len() > 4096 {
				t.Errorf("answer of %d bytes", a.Body.Len())
			}
		})
	}
}

// Every route refuses parameters and bodies that it does not know.
func TestEveryRouteIsStrict(t *testing.T) {
	t.Parallel()
	for _, r := range admin.Routes() {
		target, body := sample(r)
		s := newHarness(t)
		s.refused(s.do(r.Method, target+"?unknown=1", writeToken, body), 400, conf.CodeMalformed)
		s.refused(s.do(r.Method, target, writeToken, `{"unknown":`), 400, conf.CodeMalformed)
		for _, q := range r.Query {
			if !strings.Contains(s.do(r.Method, target+"?unknown=1", writeToken, body).Body.String(), q) {
				t.Errorf("%s %s does not name the parameter %s", r.Method, r.Path, q)
			}
		}
	}
}

// FuzzEdge throws bytes at every route: the handler answers, and asks a backend
// only for a body that parses.
func FuzzEdge(f *testing.F) {
	routes := admin.Routes()
	for i, r := range routes {
		_, body := sample(r)
		f.Add(uint8(i), "stt-worker", body, "reason=x", "application/json", `"5"`)
	}
	f.Add(uint8(6), "a", `{"service":"a","config":{"a":9007199254740993},"version":0}`, "", "", "")
	f.Add(uint8(7), "a", "{\"a\":\"\xff\"}", "version=1", "application/merge-patch+json", "1")
	f.Fuzz(func(t *testing.T, n uint8, name, body, query, contentType, ifMatch string) {
		s := newHarness(t)
		r := routes[int(n)%len(routes)]
		target := strings.NewReplacer(":service", url.PathEscape(name), ":name", url.PathEscape(name)).Replace(r.Path)
		if _, err := url.ParseRequestURI(target); err != nil {
			return
		}
		req := newRequest(r.Method, target, body)
		req.URL.RawQuery = query
		req.Header.Set("X-Api-Token", writeToken)
		if contentType != "" {
			req.Header.Set("Content-Type", contentType)
		}
		if ifMatch != "" {
			req.Header.Set("If-Match", ifMatch)
		}
		w := newRecorder()
		s.h.ServeHTTP(w, req)
		if w.Code < 200 || w.Code >= 500 {
			t.Fatalf("%s %s: %d %s", r.Method, target, w.Code, w.Body)
		}
		if len(s.calls) == 0 || body == "" {
			return
		}
		if _, err := conf.ParseObject([]byte(body), 2*conf.MaxDocument); err != nil {
			t.Fatalf("%s %s called %v for %q: %v", r.Method, target, s.calls, body, fmt.Sprint(err))
		}
	})
}
