package conf

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseJSON(t *testing.T) {
	deep := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	for name, c := range map[string]struct {
		in   string
		code Code // "" for input that is good
		says string
	}{
		"object":              {`{"a":1,"b":[true,null,"x",1.5e3]}`, "", ""},
		"scalar":              {`"x"`, "", ""},
		"spaces":              {" \n{} \t", "", ""},
		"depth at the limit":  {deep(MaxDepth), "", ""},
		"depth over it":       {deep(MaxDepth + 1), CodeMalformed, "32 levels"},
		"duplicate":           {`{"a":1,"a":2}`, CodeMalformed, `duplicate key "a"`},
		"duplicate by escape": {`{"a":1,"\u0061":2}`, CodeMalformed, "duplicate key"},
		"nested duplicate":    {`{"x":{"y":[{"a":1,"a":1}]}}`, CodeMalformed, "x.y.0"},
		"trailing":            {`{} {}`, CodeMalformed, "more text"},
		"trailing comma":      {`{"a":1,}`, CodeMalformed, ""},
		"cut":                 {`{"a":`, CodeMalformed, "unexpected end"},
		"empty":               {``, CodeMalformed, "unexpected end"},
		"single quotes":       {`{'a':1}`, CodeMalformed, ""},
		"NaN":                 {`{"a":NaN}`, CodeMalformed, ""},
		"leading zero":        {`{"a":01}`, CodeMalformed, ""},
		"2^53-1":              {`9007199254740991`, "", ""},
		"2^53":                {`9007199254740992`, CodeMalformed, "2^53"},
		"-2^53-1":             {`-9007199254740993`, CodeMalformed, "2^53"},
		"huge exponent":       {`1e400`, CodeMalformed, "64-bit float"},
		"bad utf-8":           {"\"\xff\"", CodeMalformed, "UTF-8"},
		"byte order mark":     {"\xef\xbb\xbf{}", CodeMalformed, ""},
		"lone high surrogate": {`"\ud800"`, CodeMalformed, "surrogate"},
		"lone low surrogate":  {`"\udc00x"`, CodeMalformed, "surrogate"},
		"surrogate pair":      {`"\ud83d\ude00"`, "", ""},
		"escaped backslash u": {`"\\ud800"`, "", ""},
		"too large":           {`"` + strings.Repeat("x", MaxDocument) + `"`, CodeTooLarge, "limit"},
	} {
		_, err := ParseJSON([]byte(c.in), MaxDocument)
		if CodeOf(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %q does not say %q", name, err, c.says)
		}
	}
}

func TestDecodeStrict(t *testing.T) {
	type form struct {
		Name    string `json:"name"`
		Version uint64 `json:"version"`
	}
	for in, code := range map[string]Code{
		`{"name":"a","version":1}`: "", `{}`: "",
		`{"Name":"a"}`: CodeMalformed, `{"name":"a","x":1}`: CodeMalformed, `[]`: CodeMalformed, `{"name":1}`: CodeMalformed,
		`{"version":-1}`: CodeMalformed, `{"version":1.5}`: CodeMalformed, `{"name":"a","name":"b"}`: CodeMalformed,
	} {
		var f form
		if err := DecodeStrict([]byte(in), MaxDocument, &f); CodeOf(err) != code {
			t.Errorf("%s: %v", in, err)
		}
	}
	err := DecodeStrict([]byte(`{"nme":1}`), MaxDocument, &form{})
	if HintOf(err) == "" || !strings.Contains(HintOf(err), "name, version") {
		t.Errorf("hint %q", HintOf(err))
	}
}

// Whatever ParseJSON lets through has one meaning: what encoding/json reads of
// it, written and parsed again, is the same.
func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5,"x",null,true]}`, `"\ud83d\ude00"`, `{"a":{"a":{}}}`, `-0`, `1e-300`, `{"":0}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := ParseJSON(data, 1<<16)
		if err != nil {
			if CodeOf(err) == CodeInternal {
				t.Fatalf("no code: %v", err)
			}
			return
		}
		again, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		w, err := ParseJSON(again, 1<<20)
		if err != nil || !reflect.DeepEqual(v, w) {
			t.Fatalf("%q became %q: %v", data, again, err)
		}
	})
}

func TestTimes(t *testing.T) {
	for _, c := range []struct {
		in   time.Time
		want string
	}{
		{time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), "2026-01-02T03:04:05.000006+00:00"},
		{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), "2026-01-02T03:04:05+00:00"},
		{time.Date(2026, 1, 2, 3, 4, 5, 999, time.UTC), "2026-01-02T03:04:05+00:00"},
		{time.Date(2026, 1, 2, 5, 4, 5, 1e8, time.FixedZone("", 7200)), "2026-01-02T03:04:05.100000+00:00"},
	} {
		got := FormatTime(c.in)
		if got != c.want {
			t.Errorf("%v: %s, want %s", c.in, got, c.want)
		}
		back, err := ParseTime(got)
		if err != nil || !back.Equal(c.in.Truncate(time.Microsecond)) {
			t.Errorf("%s reads back as %v, %v", got, back, err)
		}
	}
	if _, err := ParseTime("yesterday"); CodeOf(err) != CodeInvalid || HintOf(err) == "" {
		t.Errorf("%v", err)
	}
}

func TestNames(t *testing.T) {
	for s, good := range map[string]bool{"stt-worker": true, "a": true, "": false, "Stt": false, "1a": false, "a_b": false, "_meta": false, "a/b": false, strings.Repeat("a", MaxName+1): false} {
		if err := CheckService(s); (err == nil) != good {
			t.Errorf("service %.20q: %v", s, err)
		}
	}
	for s, good := range map[string]bool{"a": true, "a.b_c.d1": true, "": false, "a.": false, ".a": false, "A": false, "a-b": false, "a..b": false} {
		if err := CheckKey(s); (err == nil) != good {
			t.Errorf("key %q: %v", s, err)
		}
	}
}

func TestLookup(t *testing.T) {
	doc := map[string]any{"a.b": 1, "a": map[string]any{"b": 2, "c": map[string]any{"d": 3}}}
	for key, want := range map[string]any{"a.b": 1, "a.c.d": 3} {
		if v, ok := Lookup(doc, key); !ok || v != want {
			t.Errorf("%s: %v %v", key, v, ok)
		}
	}
	for _, key := range []string{"x", "a.x", "a.c.d.e", ""} {
		if v, ok := Lookup(doc, key); ok {
			t.Errorf("%q found %v", key, v)
		}
	}
}

func TestErrors(t *testing.T) {
	seen := map[Code]bool{}
	for _, c := range Codes() {
		if c == "" || seen[c] {
			t.Errorf("code %q", c)
		}
		seen[c] = true
	}
	cause := Errorf(CodeNotFound, "no file")
	err := Errorf(CodeReadOnly, "cannot start: %w", cause).WithHint("wait")
	if err.Error() != "cannot start: no file" || CodeOf(err) != CodeReadOnly || HintOf(err) != "wait" {
		t.Errorf("%q %s %q", err, CodeOf(err), HintOf(err))
	}
	if bare := Errorf(CodeInternal, "%w", cause); bare.Error() != "no file" || CodeOf(bare) != CodeInternal {
		t.Errorf("%q", bare)
	}
	if !RoleWrite.Allows(RoleRead) || RoleRead.Allows(RoleWrite) || Role("").Allows(RoleRead) || Role("").Allows(RoleWrite) {
		t.Error("roles")
	}
}

// What editors and other tools write instead of JSON is called by its name.
func TestOtherFormsAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		"\xef\xbb\xbf{\"type\":\"object\"}":                       "byte order mark",
		"\xff\xfe{\x00}\x00":                                      "UTF-16",
		"type: object\nproperties:\n  a: {type: string}\n":        "YAML",
		"# a schema\n---\ntype: object\n":                         "YAML",
		"%YAML 1.2\n---\n{a: 1}":                                  "YAML",
		"- a\n- b\n":                                              "YAML",
		"$schema: https://json-schema.org/draft/2020-12/schema\n": "YAML",
		"{\"type\":\"object\"":                                    "end of the document",
		"{type: object}":                                          "malformed JSON",
		"http://example.com/schema.json":                          "malformed JSON",
	} {
		_, err := ParseObject([]byte(text), 1<<20)
		said := fmt.Sprintf("%v; %s", err, HintOf(err))
		if CodeOf(err) != CodeMalformed || !strings.Contains(said, want) || want != "YAML" && strings.Contains(said, "YAML") {
			t.Errorf("%q: %s, want %s", text, said, want)
		}
	}
}

// A schema that declares no property has an empty list of fields, not none.
func TestSchemaWithoutFields(t *testing.T) {
	text, err := json.Marshal(SchemaInfo{Service: "a", Fields: []Field{}})
	if err != nil || !strings.Contains(string(text), `"fields":[]`) {
		t.Errorf("%s, %v", text, err)
	}
}
