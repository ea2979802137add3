package admin_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// localRoutes are the paths of the local API, which has no table to import here.
var localRoutes = []string{
	"/v1/config", "/v1/config/{service}", "/v1/config/{service}/{key}", "/v1/env", "/v1/env/{service}",
	"/v1/watch", "/v1/watch/{service}", "/v1/keys", "/healthz", "/readyz", "/metrics",
}

type openAPI struct {
	OpenAPI string
	Paths   map[string]map[string]json.RawMessage
}

type operation struct {
	OperationID string
	Summary     string
	Security    []map[string][]string
	Parameters  []parameter
	RequestBody *struct {
		Content map[string]json.RawMessage
	}
	Responses map[string]json.RawMessage
}

type parameter struct {
	Ref  string `json:"$ref"`
	Name string
	In   string
}

func TestOpenAPIHasEveryRouteAndNoOther(t *testing.T) {
	t.Parallel()
	var doc openAPI
	if _, err := conf.ParseObject(admin.OpenAPI(), 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(admin.OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	var refs struct {
		Components struct{ Parameters map[string]parameter }
	}
	if err := json.Unmarshal(admin.OpenAPI(), &refs); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") {
		t.Errorf("version %q", doc.OpenAPI)
	}
	var want, got []string
	ids := map[string]string{} // of both APIs: a generator makes one client of them
	for path, item := range doc.Paths {
		for method, raw := range item {
			if method == "servers" || method == "parameters" {
				continue
			}
			var op operation
			if err := json.Unmarshal(raw, &op); err != nil {
				t.Fatal(err)
			}
			if other := ids[op.OperationID]; other != "" || op.OperationID == "" {
				t.Errorf("%s %s: operationId %q is empty, or that of %s", method, path, op.OperationID, other)
			}
			ids[op.OperationID] = method + " " + path
			got = append(got, strings.ToUpper(method)+" "+path)
		}
	}
	for _, p := range localRoutes {
		want = append(want, "GET "+p)
	}
	for _, p := range []string{"", "/s/{service}"} { // those of localapi/ofrep
		want = append(want, "POST "+p+"/ofrep/v1/evaluate/flags/{key}", "POST "+p+"/ofrep/v1/evaluate/flags", "GET "+p+"/ofrep/v1/events")
	}
	want = append(want, "POST /v1/ack/{service}") // of localapi/ack
	param := regexp.MustCompile(`:(\w+)`)
	for _, r := range admin.Routes() {
		path := param.ReplaceAllString(r.Path, "{$1}")
		want = append(want, r.Method+" "+path)
		raw, ok := doc.Paths[path][strings.ToLower(r.Method)]
		if !ok {
			continue // said below
		}
		var op operation
		if err := json.Unmarshal(raw, &op); err != nil {
			t.Fatal(err)
		}
		name := r.Method + " " + r.Path
		if op.Summary != r.Summary {
			t.Errorf("%s: summary %q, want %q", name, op.Summary, r.Summary)
		}
		if op.OperationID != r.Name {
			t.Errorf("%s: operationId %q is not %q", name, op.OperationID, r.Name)
		}
		role := ""
		if len(op.Security) == 1 {
			role = strings.Join(op.Security[0]["token"], " ")
		}
		if role != string(r.Role) {
			t.Errorf("%s: role %q, want %q", name, role, r.Role)
		}
		var query []string
		for _, p := range op.Parameters {
			if p.Ref != "" {
				p = refs.Components.Parameters[strings.TrimPrefix(p.Ref, "#/components/parameters/")]
			}
			if p.In == "query" {
				query = append(query, p.Name)
			}
		}
		slices.Sort(query)
		known := slices.Sorted(slices.Values(r.Query))
		if diff := gocmp.Diff(known, query); diff != "" && len(known)+len(query) > 0 {
			t.Errorf("%s: parameters (-table +document):\n%s", name, diff)
		}
		if (op.RequestBody != nil) != takesBody(t, r) {
			t.Errorf("%s: request body: %v", name, op.RequestBody)
		}
		if op.Responses["200"] == nil && op.Responses["201"] == nil || op.Responses["default"] == nil {
			t.Errorf("%s: responses %v", name, op.Responses)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("routes (-table +document):\n%s", diff)
	}
}

// takesBody says whether a route takes a body, by sending it one.
func takesBody(t *testing.T, r admin.Route) bool {
	target, _ := sample(r)
	a := newHarness(t).do(r.Method, target, writeToken, `{"no such member":1}`)
	return !strings.Contains(a.Body.String(), "this route takes no body")
}

func TestOpenAPIReferencesResolve(t *testing.T) {
	t.Parallel()
	var doc any
	if err := json.Unmarshal(admin.OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				used[ref] = true
				at := doc
				for _, part := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
					m, _ := at.(map[string]any)
					at = m[part]
				}
				if at == nil {
					t.Errorf("%s leads nowhere", ref)
				}
			}
			for _, x := range v {
				walk(x)
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		}
	}
	walk(doc)
	components := doc.(map[string]any)["components"].(map[string]any)
	for _, kind := range []string{"schemas", "parameters", "responses"} {
		for name := range components[kind].(map[string]any) {
			if ref := fmt.Sprintf("#/components/%s/%s", kind, name); !used[ref] {
				t.Errorf("%s is not used", ref)
			}
		}
	}
}

// The schemas of the bodies have the members of the Go types that are sent.
func TestOpenAPISchemasAreThoseOfTheCode(t *testing.T) {
	t.Parallel()
	var doc struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct{ Enum []string }
			}
		}
	}
	if err := json.Unmarshal(admin.OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]any{
		"ConfigReadResponse": conf.ReadResponse{}, "Metadata": conf.Metadata{}, "ServiceInfo": conf.ServiceInfo{},
		"ConfigItem": conf.Item{}, "ConfigSearchRequest": conf.SearchRequest{}, "ConfigSearchResponse": conf.SearchResponse{},
		"HistoryEntry": conf.HistoryEntry{}, "ConfigFieldMetadata": conf.Field{}, "SchemaInfo": conf.SchemaInfo{},
		"Profile": conf.Profile{}, "Access": conf.Access{}, "ConfigHealthPayload": conf.Health{}, "Principal": conf.Principal{},
		"KeysStatus": conf.KeysStatus{}, "KeyInfo": conf.KeyInfo{}, "KeyRotation": conf.KeyRotation{}, "KeyMember": conf.MemberKeys{}, "KeysHeld": conf.KeysHeld{},
		"EncryptionMetadata": conf.EncryptionMetadata{}, "ClusterStatus": conf.ClusterStatus{}, "NodeStatus": conf.NodeStatus{}, "JoinTokenInfo": conf.JoinTokenInfo{},
		"APITokenInfo": conf.APITokenInfo{}, "Ack": conf.Ack{}, "AckDetail": conf.AckDetail{}, "Instance": conf.Instance{}, "Instances": conf.Instances{}, "ReportReply": conf.ReportReply{},
		"Rollout": conf.RolloutInfo{}, "RolloutPlan": conf.RolloutPlan{}, "RolloutRequest": conf.RolloutRequest{}, "RolloutStep": conf.RolloutStep{},
	} {
		var want []string
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			if f.Anonymous {
				continue
			}
			tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			want = append(want, tag)
		}
		slices.Sort(want)
		if diff := gocmp.Diff(want, conf.SortedKeys(doc.Components.Schemas[name].Properties)); diff != "" {
			t.Errorf("%s (-code +document):\n%s", name, diff)
		}
	}
	var codes []string
	for _, c := range conf.Codes() {
		codes = append(codes, string(c))
	}
	if diff := gocmp.Diff(codes, doc.Components.Schemas["Error"].Properties["code"].Enum); diff != "" {
		t.Errorf("codes (-conf +document):\n%s", diff)
	}
}

func TestDocumentation(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../docs/http*.md")
	if err != nil {
		t.Fatal(err)
	}
	section := ""
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, rest, ok := strings.Cut("\n"+string(text), "\n## Admin REST\n"); ok {
			section += rest
		}
	}
	if section == "" {
		t.Fatal("no docs/http*.md has a section Admin REST")
	}
	param := regexp.MustCompile(`:(\w+)`)
	var want []string
	for _, r := range admin.Routes() {
		path := param.ReplaceAllStringFunc(r.Path, func(s string) string { return strings.ToUpper(s[1:]) })
		row := fmt.Sprintf("| `%s %s` | %s |", r.Method, path, cmp.Or(string(r.Role), "-"))
		want = append(want, row)
		if !strings.Contains(section, row) {
			t.Errorf("docs/http.md lacks %s", row)
		}
		for _, q := range r.Query {
			if !strings.Contains(section, "`"+q+"`") {
				t.Errorf("docs/http.md lacks the parameter %s of %s %s", q, r.Method, r.Path)
			}
		}
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `[A-Z]+ /[^|]*\\|[^|]*\\|").FindAllString(section, -1) {
		if !slices.Contains(want, row) {
			t.Errorf("docs/http.md has %s, the API has not", row)
		}
	}
	for _, c := range conf.Codes() {
		if c != conf.CodeUsage && !strings.Contains(section, "`"+string(c)+"`") {
			t.Errorf("docs/http.md lacks the code %s", c)
		}
	}
}
