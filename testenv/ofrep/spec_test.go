package ofrep

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/holdfast-config/holdfast/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// shared is a file of the folder with the public contract of OpenFeature. Where the
// folder is missing, the test runs its own cases only.
func shared(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(testenv.Root(), "..", "shared", "ofrep", name))
	if err != nil {
		testenv.MissingPart(t, "%s of OpenFeature is not at hand: %v", name, err)
		return nil
	}
	return data
}

// spec is the OpenAPI document of the protocol. It is a RoundTripper that holds each
// answer against it.
type spec struct {
	t        *testing.T
	paths    map[string]any
	compiler *jsonschema.Compiler // nil when the document is not at hand

	mu      sync.Mutex
	checked map[string]int // answers by operation and status
}

const specURL = "mem:///openapi.yaml"

func newSpec(t *testing.T) *spec {
	t.Helper()
	s := &spec{t: t, checked: map[string]int{}}
	text := shared(t, "openapi.yaml")
	if text == nil {
		return s
	}
	var parsed any
	if err := yaml.Unmarshal(text, &parsed); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(parsed)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	root := doc.(map[string]any)
	s.paths = root["paths"].(map[string]any)
	schemas := root["components"].(map[string]any)["schemas"].(map[string]any)
	// As it is, no flag with a value is valid: it is one of a flag without a value, too, and
	// 10 is both an integer and a float. What is meant is: one kind at least, and what has
	// no value has none.
	kinds := schemas["evaluationSuccess"].(map[string]any)["allOf"].([]any)[1].(map[string]any)
	if kinds["anyOf"] = kinds["oneOf"]; kinds["oneOf"] == nil {
		t.Fatal("evaluationSuccess has another form")
	}
	delete(kinds, "oneOf")
	schemas["codeDefaultFlag"].(map[string]any)["not"] = map[string]any{"required": []any{"value"}}
	s.compiler = jsonschema.NewCompiler()
	s.compiler.DefaultDraft(jsonschema.Draft2020)
	s.compiler.AssertFormat()
	if err := s.compiler.AddResource(specURL, doc); err != nil {
		t.Fatal(err)
	}
	return s
}

// RoundTrip implements http.RoundTripper.
func (s *spec) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || r.Method != http.MethodPost {
		return resp, err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		return resp, err
	}
	s.check(r.URL.EscapedPath(), resp.StatusCode, resp.Header, body)
	return resp, nil
}

// check holds one answer against the document, and against what providers need besides.
func (s *spec) check(path string, status int, h http.Header, body []byte) {
	s.t.Helper()
	_, key, one := strings.Cut(path, "/ofrep/v1/evaluate/flags/")
	op := "/ofrep/v1/evaluate/flags"
	if one {
		op += "/{key}"
	}
	s.mu.Lock()
	s.checked[fmt.Sprint(op, " ", status)]++
	s.mu.Unlock()
	wrong := func(format string, args ...any) {
		s.t.Helper()
		s.t.Errorf("POST %s: %d %.500s: %s", path, status, body, fmt.Sprintf(format, args...))
	}
	if status == http.StatusNotModified {
		if len(body) > 0 || h.Get("ETag") == "" {
			wrong("a 304 with a body, or without an ETag")
		}
		return
	}
	if h.Get("Content-Type") != "application/json" {
		wrong("Content-Type %q", h.Get("Content-Type"))
	}
	var got answer
	if err := json.Unmarshal(body, &got); err != nil {
		wrong("%v", err)
		return
	}
	switch {
	case got.Metadata == nil:
		wrong("no metadata")
	case status != http.StatusOK && (got.ErrorCode == "" || got.ErrorDetails == nil || *got.ErrorDetails == ""):
		wrong("no errorCode, or no errorDetails")
	case one && got.Key == "":
		wrong("no key %q", key)
	case status == http.StatusOK && one && got.Variant == nil:
		wrong("no variant")
	case status == http.StatusTooManyRequests && h.Get("Retry-After") == "":
		wrong("no Retry-After")
	case status == http.StatusOK && !one && h.Get("ETag") == "":
		wrong("no ETag")
	}
	if s.compiler == nil {
		return
	}
	responses := s.paths[op].(map[string]any)["post"].(map[string]any)["responses"].(map[string]any)
	described, ok := responses[fmt.Sprint(status)].(map[string]any)
	if !ok {
		wrong("the status is not described")
		return
	}
	if described["content"] != nil {
		s.validate(fmt.Sprintf("#/paths/%s/post/responses/%d/content/application~1json/schema", strings.ReplaceAll(op, "/", "~1"), status), body, wrong)
	}
}

// validate holds JSON against a schema of the document.
func (s *spec) validate(at string, body []byte, wrong func(string, ...any)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	schema, err := s.compiler.Compile(specURL + at)
	if err != nil {
		wrong("%v", err)
		return
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err == nil {
		err = schema.Validate(v)
	}
	if err != nil {
		wrong("%v", err)
	}
}

// TestSpecCanFail: the check finds what breaks the document.
func TestSpecCanFail(t *testing.T) {
	t.Parallel()
	real := newSpec(t)
	if real.compiler == nil {
		return
	}
	const one = "#/paths/~1ofrep~1v1~1evaluate~1flags~1{key}/post/responses/200/content/application~1json/schema"
	const many = "#/paths/~1ofrep~1v1~1evaluate~1flags/post/responses/200/content/application~1json/schema"
	for body, want := range map[string]bool{
		`{"key":"a","reason":"STATIC","value":2.0}`:                   true,
		`{"key":"a","reason":"STATIC"}`:                               true,
		`{"key":"a","reason":"STATIC","value":[1]}`:                   false,
		`{"key":"a","reason":"STATIC","value":null}`:                  false,
		`{"key":"a","reason":"DEFAULT","value":2}`:                    false,
		`{"key":"a","value":2}`:                                       false,
		`{"key":"a","reason":"STATIC","variant":7}`:                   false,
		`{"key":"a","reason":"STATIC","metadata":{"service":{}}}`:     false,
		`{"key":"a","reason":"STATIC","metadata":{"service":"stt"}}`:  true,
		`{"reason":"STATIC","value":true,"metadata":{},"variant":""}`: false,
	} {
		for at, text := range map[string]string{one: body, many: `{"flags":[` + body + `]}`} {
			ok := true
			real.validate(at, []byte(text), func(string, ...any) { ok = false })
			if ok != want {
				t.Errorf("%s: %t", text, ok)
			}
		}
	}
	for body, want := range map[string]bool{
		`{"flags":[],"eventStreams":[{"type":"sse","endpoint":{"requestUri":"/x"}}]}`:           true,
		`{"flags":[],"eventStreams":[{"type":"sse","url":"u","endpoint":{"requestUri":"/x"}}]}`: false,
		`{"flags":[],"eventStreams":[{"type":"sse","endpoint":{"requestUri":"x"}}]}`:            false,
	} {
		ok := true
		real.validate(many, []byte(body), func(string, ...any) { ok = false })
		if ok != want {
			t.Errorf("%s: %t", body, ok)
		}
	}
}
