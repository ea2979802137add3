package testenv

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// description is /openapi.json, with the responses of each operation.
type description struct {
	t        testing.TB
	compiler *jsonschema.Compiler
	paths    map[string]map[string]json.RawMessage
	met      map[string]bool // "GET /path" that was answered with 200
}

type response struct {
	Ref     string `json:"$ref"`
	Content map[string]json.RawMessage
	Headers map[string]json.RawMessage
}

const descriptionURL = "mem:///openapi.json"

func newDescription(t testing.TB, text []byte) *description {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	d := &description{t: t, compiler: jsonschema.NewCompiler(), met: map[string]bool{}}
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	if err := d.compiler.AddResource(descriptionURL, doc); err != nil {
		t.Fatal(err)
	}
	var paths struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(text, &paths); err != nil {
		t.Fatal(err)
	}
	d.paths = paths.Paths
	return d
}

func escapePointer(s string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(s) }

// check holds a response against the operation that it is of.
func (d *description) check(method, path string, r Reply) {
	d.t.Helper()
	name := method + " " + path
	if r.Err != nil {
		d.t.Errorf("%s: %v", name, r.Err)
		return
	}
	var op struct{ Responses map[string]response }
	if err := json.Unmarshal(d.paths[path][strings.ToLower(method)], &op); err != nil {
		d.t.Errorf("%s is not described: %v", name, err)
		return
	}
	status := fmt.Sprint(r.Status)
	at := "#/paths/" + escapePointer(path) + "/" + strings.ToLower(method) + "/responses/"
	if _, ok := op.Responses[status]; !ok {
		status = "default"
	}
	res := op.Responses[status]
	at += status
	if status == "default" && r.Status < 400 {
		d.t.Errorf("%s: the answer %d is not described", name, r.Status)
		return
	}
	if res.Ref != "" {
		at = res.Ref
	}
	if r.Status == http.StatusOK || r.Status == http.StatusCreated {
		d.met[name] = true
		d.checkHeaders(name, res, r)
	}
	if r.Status == http.StatusNotModified {
		return
	}
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if res.Ref == "" && res.Content[media] == nil {
		d.t.Errorf("%s: the answer %d has the Content-Type %q, described are %v", name, r.Status, media, res.Content)
		return
	}
	if media != "application/json" {
		return
	}
	schema, err := d.compiler.Compile(descriptionURL + at + "/content/application~1json/schema")
	if err != nil {
		d.t.Errorf("%s: %v", name, err)
		return
	}
	body, err := jsonschema.UnmarshalJSON(bytes.NewReader(r.Body))
	if err == nil {
		err = schema.Validate(body)
	}
	if err != nil {
		d.t.Errorf("%s: %v\nthe answer: %s", name, err, r)
	}
}

// checkHeaders holds that the described headers are there, and that no other of ours is.
func (d *description) checkHeaders(name string, res response, r Reply) {
	d.t.Helper()
	var described []string
	for h, raw := range res.Headers {
		described = append(described, http.CanonicalHeaderKey(h))
		var header struct{ Required bool }
		if err := json.Unmarshal(raw, &header); err != nil {
			d.t.Errorf("%s: the header %s: %v", name, h, err)
		}
		if header.Required && r.Header.Get(h) == "" {
			d.t.Errorf("%s: the answer lacks the header %s", name, h)
		}
	}
	for h := range r.Header {
		if (h == "Etag" || strings.HasPrefix(h, "X-Config-")) && !slices.Contains(described, h) {
			d.t.Errorf("%s: the header %s is not described", name, h)
		}
	}
}

// TestAnswersAreAsDescribed calls every operation of both APIs at a real cluster and
// holds each answer, bodies and headers, against /openapi.json.
func TestAnswersAreAsDescribed(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, "LITESTREAM_S3_ENDPOINT=file://"+t.TempDir(), "LITESTREAM_S3_PATH=test", "CONFIG_SERVICE_NAME=stt-worker")
	for range 3 {
		c.Join("server")
	}
	first := c.Nodes[0]
	// In the first half second, too: what is not known yet has its place in the description.
	d := newDescription(t, first.Admin("GET", "/openapi.json", "").OK(t).Body)
	d.check("GET", "/api/config/cluster", first.Admin("GET", "/api/config/cluster", ""))
	c.AwaitVoters(3)
	a, others := c.Servers()
	jsonType := "Content-Type: application/json"
	for _, s := range []string{"stt-worker", "router"} {
		a.AwaitServing(s)
	}
	Await(t, "three instances of a service at the leader", func() bool {
		r := a.Admin("GET", "/api/config/services/stt-worker/instances", "")
		var in conf.Instances
		return r.Status == 200 && json.Unmarshal(r.Body, &in) == nil && in.Complete && len(in.Instances) == 3
	})

	made := map[string]string{} // what an answer named, for a later path
	remember := func(what, member string) func(Reply) {
		return func(r Reply) {
			var body map[string]any
			if json.Unmarshal(r.Body, &body) == nil {
				made[what], _ = body[member].(string)
			}
		}
	}
	for _, s := range []struct {
		method, path, target, body string
		then                       func(Reply)
	}{
		{"GET", "/api/config/health", "", "", nil},
		{"GET", "/openapi.json", "", "", nil},
		{"POST", "/api/session", "", `{"token":"` + WriteToken + `"}`, nil},
		{"GET", "/api/session", "", "", nil},
		{"DELETE", "/api/session", "", "", nil},
		{"GET", "/api/config/me", "", "", nil},
		{"GET", "/api/config/services", "", "", nil},
		{"GET", "/api/config/services/{service}", "/api/config/services/stt-worker", "", nil},
		{"GET", "/api/config/services/{service}", "/api/config/services/stt-worker?values=stored", "", nil},
		{"GET", "/api/config/services/{service}", "/api/config/services/stt-worker?explain=1", "", nil},
		{"GET", "/api/config/services/{service}", "/api/config/services/nobody", "", nil},
		{"GET", "/api/config/services/{service}", "/api/config/services/stt-worker?what=1", "", nil},
		{"PATCH", "/api/config/services/{service}", "/api/config/services/stt-worker", `{"vad_threshold":0.61}`, nil},
		{"PATCH", "/api/config/services/{service}", "/api/config/services/stt-worker", `{"vad_threshold":7}`, nil},
		{"PUT", "/api/config/services/{service}", "/api/config/services/stt-worker", `{"service":"stt-worker","config":{"vad_threshold":0.62},"version":2}`, nil},
		{"PUT", "/api/config/services/{service}", "/api/config/services/stt-worker", `{"service":"stt-worker","config":{},"version":1}`, nil},
		{"POST", "/api/config/services/{service}/validate", "/api/config/services/stt-worker/validate", `{"config":{}}`, nil},
		{"POST", "/api/config/services/{service}/restore", "/api/config/services/stt-worker/restore", `{"version":2}`, nil},
		{"GET", "/api/config/services/{service}/versions", "/api/config/services/stt-worker/versions", "", nil},
		{"GET", "/api/config/services/{service}/instances", "/api/config/services/stt-worker/instances?keys=1", "", nil},
		{"POST", "/api/config/services/{service}/rollouts", "/api/config/services/stt-worker/rollouts", `{"patch":{"vad_threshold":0.33},"preset":"canary","reason":"a test"}`, remember("rollout", "id")},
		{"POST", "/api/config/services/{service}/rollouts", "/api/config/services/stt-worker/rollouts", `{"patch":{"vad_threshold":0.34},"preset":"nothing"}`, nil},
		{"GET", "/api/config/services/{service}/rollouts", "/api/config/services/stt-worker/rollouts", "", nil},
		{"GET", "/api/config/rollouts", "", "", nil},
		{"GET", "/api/config/rollouts/{rollout}", "", "", nil},
		{"PATCH", "/api/config/services/{service}", "/api/config/services/stt-worker", `{"vad_threshold":0.35}`, nil}, // it runs
		{"POST", "/api/config/rollouts/{rollout}/pause", "", `{"reason":"a test"}`, nil},
		{"GET", "/api/config/rollouts/{rollout}", "", "", nil},
		{"POST", "/api/config/rollouts/{rollout}/resume", "", "", nil},
		{"GET", "/api/config/services/{service}/instances", "/api/config/services/stt-worker/instances", "", nil},
		{"POST", "/api/config/rollouts/{rollout}/promote", "", "", nil},
		{"POST", "/api/config/services/{service}/rollouts", "/api/config/services/stt-worker/rollouts", `{"patch":{"vad_threshold":0.36},"preset":"canary"}`, remember("rollout", "id")},
		{"POST", "/api/config/rollouts/{rollout}/abort", "", `{"reason":"a test"}`, nil},
		{"GET", "/api/config/rollouts/{rollout}", "", "", nil},
		{"GET", "/api/config/rollouts/{rollout}", "/api/config/rollouts/nothing", "", nil},
		{"POST", "/api/config/instances", "", `{"reports":[{"instance":"edge","node":"edge","service":"stt-worker","config_epoch":"e","version":1,"status":"read","since":"2026-01-02T03:04:05Z","term":1,"seq":1,"boot":"b"}]}`, nil},
		{"POST", "/v1/ack/{service}", "/v1/ack/stt-worker", `{"version":1,"config_epoch":"e","status":"applied"}`, nil},
		{"PUT", "/api/config/schemas/{service}", "/api/config/schemas/vault", `{"type":"object","properties":{"key":{"type":"string","x-secret":true,"x-secret-source":"database"},"n":{"type":"integer"}}}`, nil},
		{"PUT", "/api/config/services/{service}/secrets/{key}", "/api/config/services/vault/secrets/key", `{"value":"hush"}`, nil},
		{"GET", "/api/config/services/{service}/secrets", "/api/config/services/vault/secrets", "", nil},
		{"POST", "/api/config/services/{service}/secrets/{key}/reveal", "/api/config/services/vault/secrets/key/reveal", `{"reason":"a test"}`, nil},
		{"DELETE", "/api/config/services/{service}/secrets/{key}", "/api/config/services/vault/secrets/key", "", nil},
		{"POST", "/api/config/search", "", `{"query":"vad"}`, nil},
		{"GET", "/api/config/history", "", "", nil},
		{"GET", "/api/config/schemas", "", "", nil},
		{"GET", "/api/config/schemas/{service}", "/api/config/schemas/stt-worker", "", nil},
		{"PUT", "/api/config/schemas/{service}", "/api/config/schemas/bare", `{"type":"object"}`, nil},
		{"GET", "/api/config/schemas/{service}", "/api/config/schemas/bare", "", nil},
		{"PUT", "/api/config/profiles/{name}", "/api/config/profiles/night?service=stt-worker", "", nil},
		{"GET", "/api/config/profiles", "", "", nil},
		{"GET", "/api/config/profiles/{name}", "/api/config/profiles/night", "", nil},
		{"POST", "/api/config/profiles/{name}/activate", "/api/config/profiles/night/activate", "", nil},
		{"DELETE", "/api/config/profiles/{name}", "/api/config/profiles/night", "", nil},
		{"DELETE", "/api/config/services/{service}", "/api/config/services/vault", "", nil},
		{"GET", "/api/config/access", "", "", nil},
		{"POST", "/api/config/tokens", "", `{"role":"config.read","name":"ci"}`, remember("api", "id")},
		{"GET", "/api/config/tokens", "", "", nil},
		{"DELETE", "/api/config/tokens/{id}", "/api/config/tokens/{api}", "", nil},
		{"GET", "/api/config/keys", "", "", nil},
		{"POST", "/api/config/keys/{kind}/prepare", "/api/config/keys/signing/prepare", "", nil},
		{"GET", "/api/config/keys", "", "", nil},
		{"POST", "/api/config/keys/{kind}/abort", "/api/config/keys/signing/abort", "", nil},
		{"POST", "/api/config/keys/{kind}/rotate", "/api/config/keys/signing/rotate", "", nil},
		{"GET", "/api/config/keys", "", "", nil},
		{"POST", "/api/config/keys/{kind}/rotate", "/api/config/keys/nothing/rotate", "", nil},
		{"GET", "/api/config/backups", "", "", nil},
		{"GET", "/api/config/backups/status", "", "", nil},
		{"POST", "/api/config/backups/drill", "", "", nil},
		{"GET", "/api/config/backups/status", "", "", nil},
		{"GET", "/api/config/backups", "", "", nil},
		{"GET", "/api/config/cluster", "", "", nil},
		{"POST", "/api/config/cluster/tokens", "", `{"role":"sidecar"}`, remember("join", "id")},
		{"GET", "/api/config/cluster/tokens", "", "", nil},
		{"DELETE", "/api/config/cluster/tokens/{id}", "/api/config/cluster/tokens/{join}", "", nil},
		{"POST", "/api/config/rebuild", "", `{"token":"wrong"}`, nil},
		{"GET", "/v1/config/{service}", "/v1/config/stt-worker", "", nil},
		{"GET", "/v1/config/{service}", "/v1/config/stt-worker?explain=1", "", nil},
		{"GET", "/v1/config/{service}", "/v1/config/nobody", "", nil},
		{"GET", "/v1/config/{service}/{key}", "/v1/config/stt-worker/vad_threshold", "", nil},
		{"GET", "/v1/config/{service}/{key}", "/v1/config/stt-worker/vad_threshold?raw", "", nil},
		{"GET", "/v1/env/{service}", "/v1/env/stt-worker", "", nil},
		{"GET", "/v1/config", "", "", nil},
		{"GET", "/v1/env", "", "", nil},
		{"POST", "/s/{service}/ofrep/v1/evaluate/flags/{key}", "/s/stt-worker/ofrep/v1/evaluate/flags/vad_threshold", "{}", nil},
		{"POST", "/s/{service}/ofrep/v1/evaluate/flags/{key}", "/s/stt-worker/ofrep/v1/evaluate/flags/nothing", "", nil},
		{"POST", "/s/{service}/ofrep/v1/evaluate/flags/{key}", "/s/stt-worker/ofrep/v1/evaluate/flags/nothing", "[]", nil},
		{"POST", "/s/{service}/ofrep/v1/evaluate/flags", "/s/stt-worker/ofrep/v1/evaluate/flags", "", nil},
		{"POST", "/s/{service}/ofrep/v1/evaluate/flags", "/s/nobody/ofrep/v1/evaluate/flags", "", nil},
		{"POST", "/ofrep/v1/evaluate/flags", "", "", nil},
		{"POST", "/ofrep/v1/evaluate/flags/{key}", "/ofrep/v1/evaluate/flags/vad_threshold", "", nil},
		{"GET", "/v1/keys", "", "", nil},
		{"GET", "/healthz", "", "", nil},
		{"GET", "/readyz", "", "", nil},
		{"GET", "/metrics", "", "", nil},
		{"POST", "/api/config/cluster/members/{node}/demote", "/api/config/cluster/members/" + others[0].ID + "/demote", "", nil},
		{"POST", "/api/config/cluster/members/{node}/promote", "/api/config/cluster/members/" + others[0].ID + "/promote", "", nil},
		{"POST", "/api/config/cluster/members/{node}/remove", "/api/config/cluster/members/" + others[1].ID + "/remove", "", nil},
	} {
		target := s.target
		if target == "" {
			target = s.path
		}
		for name, id := range made {
			target = strings.ReplaceAll(target, "{"+name+"}", id)
		}
		var r Reply
		switch {
		case strings.HasPrefix(target, "/api/") || target == "/openapi.json":
			var headers []string
			if s.body != "" {
				headers = append(headers, jsonType)
			}
			r = a.Admin(s.method, target, s.body, headers...)
		case s.method == "POST":
			r = Do("POST", "http://"+a.LocalAddr+target, s.body)
		default:
			r = a.Local(target)
		}
		d.check(s.method, s.path, r)
		if s.then != nil {
			s.then(r)
		}
		if s.method == "GET" && r.Header.Get("ETag") != "" && r.Status == http.StatusOK {
			etag := "If-None-Match: " + r.Header.Get("ETag")
			if strings.HasPrefix(target, "/api/") {
				d.check(s.method, s.path, a.Admin("GET", target, "", etag))
			} else {
				d.check(s.method, s.path, a.Local(target, etag))
			}
		}
	}
	d.leave(a)

	// Those with an answer that never ends, that a cluster of this size or a first start
	// cannot give, or whose answer is an error here.
	without := []string{
		"GET /v1/watch", "GET /v1/watch/{service}", "GET /api/events", "POST /api/config/keys/{kind}/retire", "POST /api/config/rebuild", "GET /v1/config", "GET /v1/env",
		"POST /v1/ack/{service}", "POST /ofrep/v1/evaluate/flags", "POST /ofrep/v1/evaluate/flags/{key}", "GET /ofrep/v1/events", "GET /s/{service}/ofrep/v1/events",
	}
	for path, item := range d.paths {
		for method := range item {
			if name := strings.ToUpper(method) + " " + path; method != "servers" && method != "parameters" && !d.met[name] && !slices.Contains(without, name) {
				t.Errorf("%s was not answered with success", name)
			}
		}
	}
}

// leave ends the cluster in good order: the leader hands over, and the other one leaves.
func (d *description) leave(a *Node) {
	d.t.Helper()
	Await(d.t, "the leadership to be handed over", func() bool {
		r := a.Admin("POST", "/api/config/cluster/transfer", "")
		d.check("POST", "/api/config/cluster/transfer", r)
		return r.Status == http.StatusOK || r.Status == http.StatusConflict
	})
	Await(d.t, "an agent to leave", func() bool {
		r := a.Admin("POST", "/api/config/cluster/leave", "")
		d.check("POST", "/api/config/cluster/leave", r)
		return r.Status == http.StatusOK
	})
}
