package schema

import (
	"fmt"
	"strings"
	"testing"
)

// TestForeignSchemas compiles what other makers write for what this product can hold,
// and checks that the meaning stays.
func TestForeignSchemas(t *testing.T) {
	for _, tc := range []struct{ schema, valid, invalid string }{
		{`{"$schema":"http://json-schema.org/draft-04/schema#","id":"http://x/y.json","type":"object",
			"properties":{"n":{"type":"number","minimum":0,"exclusiveMinimum":true}}}`, `{"n":0.1}`, `{"n":0}`},
		{`{"$id":"https://x/y.json","type":"object","$defs":{"n":{"type":"integer"}},
			"properties":{"n":{"$ref":"https://x/y.json#/$defs/n"},"m":{"$ref":"y.json#/$defs/n"}}}`, `{"n":1,"m":2}`, `{"n":"x"}`},
		{
			`{"type":"object","properties":{"n":{"type":"integer","minimum":-9223372036854775808,"maximum":9223372036854775807}}}`,
			`{"n":9007199254740991}`, `{"n":1e16}`,
		},
		// Pydantic: n: int = None; m: Model = None
		{
			`{"type":"object","$defs":{"M":{"type":"object","properties":{"a":{"type":"integer"}}}},
			"properties":{"n":{"type":"integer","default":null},"m":{"$ref":"#/$defs/M","default":null},"o":{"type":["string"],"default":null}}}`,
			`{"n":null,"m":null,"o":null}`, `{"n":"x"}`,
		},
		{
			`{"type":"object","properties":{"n":{"type":"string","pattern":"^(?!x)","x-pattern":"unchecked"},"m":{"type":"string","pattern":"^a"}}}`,
			`{"n":"x"}`, `{"m":"b"}`,
		},
		{`{"type":"object","x-pattern":"unchecked","properties":{"n":{"type":"string","pattern":"^(?=x)\\1","maxLength":1}}}`, `{"n":"y"}`, `{"n":"yy"}`},
	} {
		s := compile(t, tc.schema)
		if _, errs := s.Effective(document(t, tc.valid)); errs != nil {
			t.Errorf("%s: %s is rejected: %v", tc.schema, tc.valid, errs)
		}
		if _, errs := s.Effective(document(t, tc.invalid)); errs == nil {
			t.Errorf("%s: %s is accepted", tc.schema, tc.invalid)
		}
	}
	if f, _ := compile(t, props(`"n":{"type":"string","pattern":"^(?!x)","x-pattern":"unchecked"}`)).Field("n"); f.Pattern == nil {
		t.Error("the pattern is not shown")
	}
}

// TestForeignSchemasRejected names the line to change and the way out.
func TestForeignSchemasRejected(t *testing.T) {
	for text, want := range map[string]string{
		`{"type":"object","properties":{"n":{"type":"string","pattern":"^(?!x)"}}}`:                                        `say "x-pattern": "unchecked"`,
		`{"type":"object","properties":{"n":{"type":"string","pattern":"^a","x-pattern":true}}}`:                           `must be "unchecked"`,
		`{"type":"object","properties":{"n":{"type":"string","pattern":"^(x","x-pattern":"unchecked"}}}`:                   "bad pattern",
		`{"type":"object","properties":{"n":{"type":"object","x-pattern":"unchecked","patternProperties":{"^(?!x)":{}}}}}`: "lookaround",
		`{"type":"object","properties":{"n":{"$ref":"https://x/y.json#/a"}}}`:                                              "copy what it leads to below $defs",
		`{"type":"object","properties":{"n":{"type":"integer","default":9223372036854775807}}}`:                            "beyond 2^53: make it a string",
		`{"type":"object","properties":{"n":{"enum":[9223372036854775807]}}}`:                                              "beyond 2^53: make it a string",
		`{"$schema":"http://json-schema.org/draft-03/schema#","type":"object"}`:                                            "draft/2020-12",
	} {
		if _, err := Compile("demo", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestDeepSchema compiles a schema with more levels than a document may have.
func TestDeepSchema(t *testing.T) {
	text, tail := `{"type":"object"`, "}"
	for i := range 20 {
		text += fmt.Sprintf(`,"properties":{"p%d":{"type":"object"`, i)
		tail += "}}"
	}
	s := compile(t, text+tail)
	if len(s.Fields()) != 1 {
		t.Error(s.Fields())
	}
}

// TestShallowSchemaIsNotAdmitted rejects a schema when it is put whose own declarations
// are deeper than what the limit of work lets it check.
func TestShallowSchemaIsNotAdmitted(t *testing.T) {
	const alternative = `{"type":"object","properties":{"k":{"const":%d},"next":{"$ref":"#/$defs/node"},"list":{"type":"array","items":{
		"type":"object","properties":{"list":{"type":"array","items":{"type":"object","properties":{"list":{"type":"array"}}}}}}}}}`
	var text []byte
	var s *Schema
	var refs []string
	for i := range 10 { // as many alternatives as it takes
		refs = append(refs, fmt.Sprintf(alternative, i))
		text = []byte(`{"type":"object","properties":{"node":{"$ref":"#/$defs/node"}},"$defs":{"node":{"anyOf":[` + strings.Join(refs, ",") + `]}}}`)
		var err error
		if s, err = Compile("demo", text); err != nil {
			t.Fatal(err)
		}
		if len(s.costs)-1 < s.declared {
			break
		}
	}
	_, err := NewCache().Admit("demo", text)
	if err == nil || !strings.Contains(err.Error(), "levels deep") {
		t.Errorf("admitted: it declares %d levels and allows %d: %v", s.declared, len(s.costs)-1, err)
	}
	if _, err := NewCache().Get("demo", text); err != nil {
		t.Errorf("a stored schema is refused: %v", err)
	}
	if _, err := NewCache().Admit("demo", []byte(`{"type":"object","properties":{"a":{"type":"array","items":{"type":"string"}}}}`)); err != nil {
		t.Error(err)
	}
}
