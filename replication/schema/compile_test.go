package schema

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/holdfast-config/holdfast/replication/conf"
	patterns "github.com/holdfast-config/holdfast/replication/schema/pattern"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func compile(t *testing.T, text string) *Schema {
	t.Helper()
	s, err := Compile("demo", []byte(text))
	if err != nil {
		t.Fatalf("Compile: %v %v", err, details(err))
	}
	return s
}

func details(err error) []conf.FieldError {
	if e, ok := errors.AsType[*conf.Error](err); ok {
		return e.Details
	}
	return nil
}

func document(t *testing.T, text string) map[string]any {
	t.Helper()
	m, err := conf.ParseObject([]byte(text), conf.MaxDocument)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// props wraps properties into a closed object schema.
func props(text string) string {
	return `{"type":"object","additionalProperties":false,"properties":{` + text + `}}`
}

// TestGenerators loads what Pydantic, zod and Go emit, unchanged, and holds the
// fields and the defaults against golden files.
func TestGenerators(t *testing.T) {
	for name, values := range map[string]string{
		"pydantic": `{"req": 5, "audio": {}}`,
		"zod":      `{"name": "a/b"}`,
		"go":       `{"timeout": 3, "upstream": {"host": "h"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := compile(t, read(t, name+".json"))
			doc, errs := s.Effective(document(t, values))
			if errs != nil {
				t.Fatalf("Effective: %v", errs)
			}
			var got strings.Builder
			for _, f := range s.Fields() {
				line, err := json.Marshal(f)
				if err != nil {
					t.Fatal(err)
				}
				got.Write(append(line, '\n'))
			}
			got.WriteString(jsonText(doc) + "\n")
			golden := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(read(t, name+".golden"), got.String()); diff != "" {
				t.Errorf("(-golden +got)\n%s", diff)
			}
		})
	}
}

// TestGeneratorsFields spells out what matters most of the golden files.
func TestGeneratorsFields(t *testing.T) {
	s := compile(t, read(t, "pydantic.json"))
	for key, want := range map[string]conf.Type{
		"name": conf.TypeString, "url": conf.TypeString, "threshold": conf.TypeFloat, "size": conf.TypeInteger,
		"device": conf.TypeEnum, "devopt": conf.TypeEnum, "mode": conf.TypeEnum, "one": conf.TypeEnum, "p": conf.TypePath,
		"api_key": conf.TypeSecret, "opt_key": conf.TypeSecret, "audio.rate": conf.TypeInteger,
		"audio_opt.gain": conf.TypeFloat, "audio.token": conf.TypeSecret, "pet": conf.TypeString, "tags": conf.TypeString,
		"limits": conf.TypeString, "num": conf.TypeFloat, "tree.v": conf.TypeInteger, "tree.children": conf.TypeString,
	} {
		f, ok := s.Field(key)
		if !ok || f.Type != want {
			t.Errorf("field %s is %q (found %t), want %q", key, f.Type, ok, want)
		}
	}
	size, _ := s.Field("size")
	if size.Min == nil || *size.Min != "0" || size.Max != nil {
		t.Errorf("size has bounds %v to %v, want 0 to none", size.Min, size.Max)
	}
	url, _ := s.Field("url")
	if string(url.Default) != "null" || url.Description != "URL" || url.Required {
		t.Errorf("url = %+v, want a null default and its description", url)
	}
	dev, _ := s.Field("devopt")
	if !slices.Equal(dev.Allowed, []string{"cpu", "cuda"}) {
		t.Errorf("devopt allows %v", dev.Allowed)
	}
	req, _ := s.Field("req")
	if !req.Required || req.Default != nil {
		t.Errorf("req = %+v, want required without default", req)
	}
	key, _ := s.Field("api_key")
	if !key.Required || !key.IsSecret || key.SecretSource == nil || *key.SecretSource != conf.SourceDatabase {
		t.Errorf("api_key = %+v, want a required database secret", key)
	}
	if _, ok := s.Field("audio"); ok {
		t.Error("a nested object is a field of its own")
	}
}

func TestExtensions(t *testing.T) {
	s := compile(t, props(`
		"plain": {"type": "string", "title": "Plain"},
		"deep": {"type": "integer", "x-complexity": "advanced", "x-help": "Long text", "description": "Short"},
		"group": {"type": "object", "x-complexity": "advanced", "properties": {
			"inherits": {"type": "boolean"}, "own": {"type": "boolean", "x-complexity": "simple"},
			"key": {"type": "string", "x-secret": true, "x-secret-source": "env"}}},
		"named": {"type": "string", "x-secret": true, "x-secret-source": "env", "x-env": "OPENAI_API_KEY"},
		"stored": {"type": "string", "x-secret": true},
		"not_secret": {"type": "string", "format": "password", "x-secret": false}`))
	for key, want := range map[string]conf.Complexity{
		"plain": conf.Simple, "deep": conf.Advanced, "group.inherits": conf.Advanced, "group.own": conf.Simple,
	} {
		if f, _ := s.Field(key); f.Complexity != want {
			t.Errorf("%s is %q, want %q", key, f.Complexity, want)
		}
	}
	if f, _ := s.Field("deep"); f.Description != "Short" || f.HelpText != "Long text" {
		t.Errorf("deep = %+v", f)
	}
	if f, _ := s.Field("plain"); f.Description != "Plain" {
		t.Errorf("description of plain is %q, want its title", f.Description)
	}
	for key, want := range map[string]string{"named": "OPENAI_API_KEY", "group.key": "GROUP_KEY", "stored": ""} {
		f, _ := s.Field(key)
		if !f.IsSecret || f.Env != want {
			t.Errorf("%s: secret %t, variable %q, want %q", key, f.IsSecret, f.Env, want)
		}
	}
	if f, _ := s.Field("not_secret"); f.IsSecret {
		t.Error("x-secret: false does not decide")
	}
}

func TestCompileRefuses(t *testing.T) {
	many := make([]string, 0, MaxFields+1)
	for i := range MaxFields + 1 {
		many = append(many, fmt.Sprintf(`"k%d":{"type":"string"}`, i))
	}
	for _, c := range []struct{ name, schema, key, message string }{
		{"not an object", `{"type":"string"}`, "(schema)", "must describe an object"},
		{"nothing said", `{}`, "(schema)", "must describe an object"},
		{"union of other types", `{"anyOf":[{"type":"string"},{"type":"integer"}]}`, "(schema)", "must describe an object"},
		{"bad type", props(`"a":{"type":"strnig"}`), "a", "must be one of"},
		{"bad keyword", props(`"a":{"type":"string","minLength":-1}`), "a", "minLength: must be at least 0, got -1"},
		{"bad nested keyword", props(`"a":{"type":"object","properties":{"b":{"minimum":"x"}}}`), "a.b", "minimum: must be a number, got a string"},
		{"remote ref", props(`"a":{"$ref":"https://example.org/x.json"}`), "a", "must point into this document"},
		{"file ref", props(`"a":{"$ref":"file:///etc/passwd"}`), "a", "must point into this document"},
		{"relative ref", props(`"a":{"$ref":"other.json#/a"}`), "a", "must point into this document"},
		{"ref into data", props(`"a":{"default":{"type":"string"}},"b":{"$ref":"#/properties/a/default"}`), "b", "must point into this document"},
		{"ref to nothing", props(`"a":{"$ref":"#/$defs/nope"}`), "(schema)", "leads nowhere"},
		{"anchor to nothing", props(`"a":{"$ref":"#nope"}`), "(schema)", "nope"},
		{"dynamic ref", props(`"a":{"$dynamicRef":"#x"}`), "a", "not supported"},
		{"unknown dialect", `{"$schema":"https://example.org/meta","type":"object"}`, "(schema)", "is not supported"},
		{"old dialect", `{"$schema":"http://json-schema.org/draft-03/schema#","type":"object"}`, "(schema)", "is not supported"},
		{"camel case", props(`"whisperModel":{"type":"string"}`), "whisperModel", "bad name"},
		{"bad nested name", props(`"a":{"type":"object","properties":{"B":{"type":"string"}}}`), "a.B", "bad name"},
		{"collision", props(`"a.b":{"type":"string"},"a":{"type":"object","properties":{"b":{"type":"string"}}}`), "a.b", "two properties have this key"},
		{"default over range", props(`"vad":{"type":"number","minimum":0,"maximum":1,"default":2}`), "vad", "default must be at most 1 (allowed 0 to 1), got 2"},
		{"default of wrong type", props(`"n":{"type":"integer","default":"x"}`), "n", "default must be an integer, got a string"},
		{"default not in enum", props(`"n":{"enum":["a","b"],"default":"c"}`), "n", "default must be one of a, b"},
		{"nested default", props(`"a":{"type":"object","properties":{"b":{"type":"integer","maximum":3}},"default":{"b":9}}`), "a.b", "default must be at most 3, got 9"},
		{"default behind a ref", `{"type":"object","$defs":{"P":{"type":"integer","maximum":9}},"properties":{"p":{"$ref":"#/$defs/P","default":10}}}`, "p", "default must be at most 9, got 10"},
		{"secret in clear", props(`"k":{"type":"string","x-secret":true,"default":"hunter2"}`), "k", "a secret cannot have a default"},
		{"nested secret in clear", props(`"a":{"type":"object","properties":{"k":{"type":"string","writeOnly":true}},"default":{"k":"hunter2"}}`), "a.k", "a secret cannot have a default"},
		{"secret in a list in clear", props(`"a":{"type":"array","items":{"type":"string","format":"password"},"default":["hunter2"]}`), "a", "a secret cannot have a default"},
		{"secret without a name", `{"type":"object","additionalProperties":{"type":"string","x-secret":true}}`, "(schema)", "a secret must be a declared property"},
		{"secret in an alternative", `{"type":"object","anyOf":[{"properties":{"k":{"x-secret":true}}},{"required":["b"]}]}`, "(schema)", "a secret must be a declared property"},
		{"bad complexity", props(`"a":{"x-complexity":"medium"}`), "a", "x-complexity must be simple or advanced"},
		{"bad secret", props(`"a":{"x-secret":"yes"}`), "a", "x-secret must be true or false"},
		{"bad source", props(`"a":{"x-secret":true,"x-secret-source":"vault"}`), "a", "x-secret-source must be env or database"},
		{"bad variable", props(`"a":{"x-secret":true,"x-secret-source":"env","x-env":"A B"}`), "a", "x-env must name an environment variable"},
		{"bad rollout", `{"type":"object","x-rollout":"canari"}`, "(schema)", "preset"},
		{"bad plan of a rollout", `{"type":"object","x-rollout":{"steps":[{"percent":200}]}}`, "(schema)", "at most 100"},
		{"rollout of a field", props(`"a":{"x-rollout":"canary"}`), "a", "x-rollout is allowed at the top only"},
		{"misspelt rollout", `{"type":"object","x_rollout":"canary"}`, "(schema)", "did you mean x-rollout?"},
		{"bad help", props(`"a":{"x-help":5}`), "a", "x-help must be a string"},
		{"source of no secret", props(`"a":{"type":"string","x-env":"A","x-secret-source":"env"}`), "a", "is for secrets"},
		{"variable of an object", props(`"a":{"type":"object","x-env":"A","properties":{"b":{"type":"string"}}}`), "a", "give it to the properties"},
		{"variable of a stored secret", props(`"a":{"type":"string","x-secret":true,"x-env":"A"}`), "a", "add x-secret-source: env"},
		{"misspelt secret", props(`"a":{"x-secrets":true}`), "a", "did you mean x-secret?"},
		{"misspelt with underscore", props(`"a":{"x_secret":true}`), "a", "did you mean x-secret?"},
		{"lookahead", props(`"a":{"type":"string","pattern":"^(?=x).*$"}`), "a", "lookaround and back-references are not supported"},
		{"back-reference", props(`"a":{"type":"string","pattern":"(a)\\1"}`), "a", "lookaround and back-references are not supported"},
		{"broken pattern", props(`"a":{"type":"string","pattern":"a("}`), "a", "missing closing"},
		{"huge pattern", props(`"a":{"type":"string","pattern":"((a{100}){100}){10}"}`), "a", "pattern"},
		{"long pattern", props(`"a":{"type":"string","pattern":"` + strings.Repeat("a", patterns.MaxSource+1) + `"}`), "a", "over the limit"},
		{"bad pattern of names", props(`"a":{"type":"object","patternProperties":{"(?!x)":{}}}`), "a", "lookaround"},
		{"endless number", props(`"a":{"type":"number","minimum":1e-999999999}`), "a", numberRule},
		{"too many fields", props(strings.Join(many, ",")), "(schema)", "more than 5000 fields"},
		{"itself", `{"type":"object","properties":{"a":{"$ref":"#/properties/a"}}}`, "a", "refers to itself without end"},
		{"two at once", `{"type":"object","allOf":[{"$ref":"#"}]}`, "(schema)", "refers to itself without end"},
		{"root default", `{"type":"object","default":5,"properties":{"a":{"type":"string"}}}`, "(schema)", "default must be an object"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Compile("demo", []byte(c.schema))
			if conf.CodeOf(err) != conf.CodeInvalid {
				t.Fatalf("Compile = %v (%s), want %s", err, conf.CodeOf(err), conf.CodeInvalid)
			}
			ds := details(err)
			if !slices.ContainsFunc(ds, func(d conf.FieldError) bool {
				return d.Key == c.key && strings.Contains(d.Message, c.message)
			}) {
				t.Errorf("details %q, want %s: %s", ds, c.key, c.message)
			}
			if strings.Contains(fmt.Sprint(err, ds), "hunter2") {
				t.Errorf("the error gives the secret away: %v %v", err, ds)
			}
			if conf.HintOf(err) == "" {
				t.Error("no hint")
			}
		})
	}
}

func TestCompileRefusesText(t *testing.T) {
	for _, c := range []struct {
		name, service, schema string
		code                  conf.Code
	}{
		{"not JSON", "demo", `{`, conf.CodeMalformed},
		{"an array", "demo", `[]`, conf.CodeMalformed},
		{"duplicate key", "demo", `{"type":"object","type":"object"}`, conf.CodeMalformed},
		{"too large", "demo", `{"type":"object","description":"` + strings.Repeat("x", conf.MaxSchema) + `"}`, conf.CodeTooLarge},
		{"bad service", "Demo", `{"type":"object"}`, conf.CodeInvalid},
	} {
		if _, err := Compile(c.service, []byte(c.schema)); conf.CodeOf(err) != c.code {
			t.Errorf("%s: %v (%s), want %s", c.name, err, conf.CodeOf(err), c.code)
		}
	}
}

// TestAllAtOnce wants every mistake of a schema in one answer.
func TestAllAtOnce(t *testing.T) {
	_, err := Compile("demo", []byte(props(`"a":{"type":"integer","default":"x"},"B":{"type":"string"},"c":{"type":"string","x-secret":true,"default":"s"}`)))
	var keys []string
	for _, d := range details(err) {
		keys = append(keys, d.Key)
	}
	if !slices.Equal(keys, []string{"B", "a", "c"}) {
		t.Errorf("details for %v, want B, a and c", keys)
	}
}

// within fails when f takes long enough to be a hang.
func within(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("takes too long")
	}
}

// TestReferenceBombs compiles schemas that are small and mean a lot.
func TestReferenceBombs(t *testing.T) {
	chain := func(link string) string {
		var defs []string
		for i := range 40 {
			defs = append(defs, fmt.Sprintf(`"d%d":`+link, i, i+1, i+1))
		}
		return strings.Join(append(defs, `"d40":{"type":"object","properties":{"z":{"type":"string"}}}`), ",")
	}
	for name, text := range map[string]string{
		"in place": `{"type":"object","properties":{"a":{"$ref":"#/$defs/d0"}},"$defs":{` + chain(`{"allOf":[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]}`) + `}}`,
		"fields":   `{"type":"object","properties":{"a":{"$ref":"#/$defs/d0"}},"$defs":{` + chain(`{"type":"object","properties":{"l":{"$ref":"#/$defs/d%d"},"r":{"$ref":"#/$defs/d%d"}}}`) + `}}`,
		"nodes":    `{"type":"object","properties":{"a":{"allOf":[` + strings.Repeat(`{},`, maxSubschemas) + `{}]}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func() {
				if _, err := Compile("demo", []byte(text)); conf.CodeOf(err) != conf.CodeInvalid {
					t.Errorf("Compile = %v, want %s", err, conf.CodeInvalid)
				}
			})
		})
	}
}

// TestBudget checks the rejection of documents and schemas whose validation would take minutes,
// and takes those of an honest size.
func TestBudget(t *testing.T) {
	numbers := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "%d,", i)
		}
		return strings.TrimSuffix(b.String(), ",")
	}
	alike := "[" + strings.TrimSuffix(strings.Repeat(`[[],null],`, 20000), ",") + "]"
	long := `"` + strings.Repeat("a", 60000) + `",`
	for _, c := range []struct{ name, schema, values, message string }{
		{"enumeration", props(`"a":{"type":"array","items":{"enum":[` + numbers(9000) + `]}}`), `{"a":[` + numbers(2000) + `]}`, "too large to be checked"},
		{"elements that look alike", props(`"a":{"type":"array","uniqueItems":true}`), `{"a":` + alike + `}`, "too large to be checked"},
		{"large pattern", props(`"a":{"type":"array","items":{"type":"string","pattern":"^(a?){900}(a){900}b$"}}`), `{"a":[` + strings.TrimSuffix(strings.Repeat(long, 15), ",") + `]}`, "too large to be checked"},
		{"honest enumeration", props(`"a":{"type":"array","items":{"enum":[` + numbers(600) + `]}}`), `{"a":[` + numbers(600) + `]}`, ""},
		{"honest list", props(`"a":{"type":"array","uniqueItems":true,"items":{"type":"integer"}}`), `{"a":[` + numbers(20000) + `]}`, ""},
		{"honest models", props(`"a":{"type":"array","uniqueItems":true,"items":{"type":"object"}}`), `{"a":[{},{"a":1},{"b":2}]}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			within(t, func() {
				_, errs := compile(t, c.schema).Effective(document(t, c.values))
				if c.message == "" && errs != nil || c.message != "" && (len(errs) != 1 || !strings.Contains(errs[0].Message, c.message)) {
					t.Errorf("%.300v, want %q", errs, c.message)
				}
			})
		})
	}
	for name, text := range map[string]string{
		"enumeration": props(`"a":{"enum":[` + numbers(maxWork+1) + `]}`),
		"defaults":    props(`"a":{"type":"array","items":{"enum":[` + numbers(9000) + `]},"default":[` + numbers(2000) + `]}`),
	} {
		within(t, func() {
			if _, err := Compile("demo", []byte(text)); conf.CodeOf(err) != conf.CodeInvalid {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// TestRecursion treats a property that contains itself as one leaf.
func TestRecursion(t *testing.T) {
	s := compile(t, `{"type":"object","properties":{"head":{"$ref":"#/$defs/N"}},"$defs":{"N":{"type":"object","additionalProperties":false,
		"properties":{"v":{"type":"integer","maximum":3},"next":{"anyOf":[{"$ref":"#/$defs/N"},{"type":"null"}],"default":null}}}}}`)
	var keys []string
	for _, f := range s.Fields() {
		keys = append(keys, f.Key)
	}
	if !slices.Equal(keys, []string{"head.next", "head.v"}) {
		t.Errorf("fields %v, want head.next and head.v", keys)
	}
	_, errs := s.Effective(document(t, `{"head":{"v":1,"next":{"v":2,"next":{"v":9,"next":null}}}}`))
	want := []conf.FieldError{{Key: "head.next", Message: "next.v must be at most 3, got 9"}}
	if diff := cmp.Diff(want, errs); diff != "" {
		t.Error(diff)
	}
}

// TestBranchingRecursion bounds the depth of documents whose validation would
// double with each level.
func TestBranchingRecursion(t *testing.T) {
	s := compile(t, `{"type":"object","properties":{"e":{"$ref":"#/$defs/E"}},"$defs":{"E":{"oneOf":[{"$ref":"#/$defs/A"},{"$ref":"#/$defs/B"},{"type":"integer"}]},
		"A":{"type":"object","required":["k","x"],"properties":{"k":{"const":"a"},"x":{"$ref":"#/$defs/E"}}},
		"B":{"type":"object","required":["k","x"],"properties":{"k":{"const":"b"},"x":{"$ref":"#/$defs/E"}}}}}`)
	nest := func(n int) map[string]any {
		return document(t, `{"e":`+strings.Repeat(`{"k":"a","x":`, n)+"1"+strings.Repeat("}", n)+`}`)
	}
	if _, errs := s.Effective(nest(4)); errs != nil {
		t.Errorf("4 levels: %v", errs)
	}
	within(t, func() {
		_, errs := s.Effective(nest(30))
		if len(errs) != 1 || !strings.Contains(errs[0].Message, "nested 31 levels deep: this schema allows") {
			t.Errorf("30 levels: %v", errs)
		}
	})
}

// TestPatternTime matches what makes a backtracking engine hang.
func TestPatternTime(t *testing.T) {
	s := compile(t, props(`"a":{"type":"string","pattern":"^(a+)+$"},"b":{"type":"string","pattern":"^[a-z]*$"},"c":{"type":"string","pattern":"(x+x+)+y"}`))
	within(t, func() {
		long := strings.Repeat("a", 60000)
		_, errs := s.Effective(map[string]any{"a": long + "!", "b": strings.Repeat("a", patterns.MaxText+1), "c": strings.Repeat("x", 60000)})
		want := []conf.FieldError{
			{Key: "a", Message: "must match ^(a+)+$"},
			{Key: "b", Message: "must match ^[a-z]*$ and be at most 65536 bytes long"},
			{Key: "c", Message: "must match (x+x+)+y"},
		}
		if diff := cmp.Diff(want, errs); diff != "" {
			t.Error(diff)
		}
	})
}

func TestPatternDialects(t *testing.T) {
	for pattern, yes := range map[string]string{
		`^\u00e9$`: "é", `^\u{1F600}$`: "😀", `^a\Z`: "a", `^\/x\-y$`: "/x-y", `^(?<n>a)$`: "a", `^\\u00e9$`: `\u00e9`, `^\p{L}+$`: "é",
	} {
		re, err := patterns.Compile(pattern)
		if err != nil || !re.MatchString(yes) {
			t.Errorf("%s does not match %q (%v)", pattern, yes, err)
		}
		if err == nil && re.String() != pattern {
			t.Errorf("%s is shown as %s", pattern, re)
		}
	}
}
