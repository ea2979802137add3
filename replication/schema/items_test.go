package schema

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestItems(t *testing.T) {
	s := compile(t, `{"type":"object","properties":{
		"b": {"type":"integer","x-complexity":"advanced","description":"B","x-help":"help"},
		"a": {"type":"object","properties":{"x":{"type":"boolean"},"gone":{"type":"string"}}},
		"n": {"anyOf":[{"type":"object","properties":{"y":{"type":"string"}}},{"type":"null"}],"description":"N"},
		"html": {"type":"string"},
		"list": {"type":"array"},
		"key": {"type":"string","x-secret":true}}}`)
	config := document(t, `{"b":5,"a":{"x":true,"more":1.5},"n":null,"html":"<&>","list":[1,{"k":"v"}],"key":"hunter2","extra":"e","a.x":"literal"}`)
	item := func(key, value string, typ conf.Type) conf.Item {
		return conf.Item{Service: "demo", Key: key, ValueJSON: value, Type: typ, Complexity: conf.Simple}
	}
	b := item("b", "5", conf.TypeInteger)
	b.Complexity, b.Description, b.HelpText = conf.Advanced, "B", "help"
	n := item("n", "null", conf.TypeString)
	n.Description = "N"
	want := []conf.Item{
		item("a.more", "1.5", conf.TypeFloat), item("a.x", "true", conf.TypeBoolean), b, item("extra", `"e"`, conf.TypeString),
		item("html", `"<&>"`, conf.TypeString), item("list", `[1,{"k":"v"}]`, conf.TypeString), n,
	}
	for range 20 {
		if diff := cmp.Diff(want, s.Items("demo", config)); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestCacheItems(t *testing.T) {
	c := NewCache()
	got, err := c.Items("demo", nil, json.RawMessage(`{"b":true,"n":5,"f":1.5,"s":"x","o":{"k":1},"z":null}`))
	if err != nil {
		t.Fatal(err)
	}
	var line []string
	for _, i := range got {
		line = append(line, fmt.Sprintf("%s %s %s %s", i.Key, i.ValueJSON, i.Type, i.Complexity))
	}
	want := []string{
		"b true boolean simple", "f 1.5 float simple", "n 5 integer simple", `o {"k":1} string simple`, `s "x" string simple`, "z null string simple",
	}
	if diff := cmp.Diff(want, line); diff != "" {
		t.Error(diff)
	}
	got, err = c.Items("demo", json.RawMessage(props(`"n":{"type":"number","description":"N"}`)), json.RawMessage(`{"n":5}`))
	if err != nil || len(got) != 1 || got[0].Type != conf.TypeFloat || got[0].Description != "N" {
		t.Errorf("Items = %+v %v", got, err)
	}
	if _, err := c.Items("demo", nil, json.RawMessage(`[]`)); conf.CodeOf(err) != conf.CodeMalformed {
		t.Errorf("an array: %v", err)
	}
	if _, err := c.Items("demo", json.RawMessage(`{}`), json.RawMessage(`{}`)); conf.CodeOf(err) != conf.CodeInvalid {
		t.Errorf("a bad schema: %v", err)
	}
}

func TestCache(t *testing.T) {
	c := NewCache()
	one, two := []byte(props(`"a":{"type":"string"}`)), []byte(props(`"b":{"type":"string"}`))
	first, err := c.Get("demo", one)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := c.Get("demo", append([]byte{}, one...)); again.model != first.model {
		t.Error("the same text is compiled again")
	}
	other, _ := c.Get("other", one)
	if other.model != first.model {
		t.Error("the same text is compiled again for another service")
	}
	field, _ := other.Field("a")
	if other.Fields()[0].Service != "other" || field.Service != "other" || first.Fields()[0].Service != "demo" {
		t.Error("a schema has the name of another service")
	}
	newer, err := c.Get("demo", two)
	if err != nil || newer.model == first.model {
		t.Fatalf("the newer text gives the older schema (%v)", err)
	}
	if len(c.entries) != 2 || c.compiled != 2 {
		t.Errorf("%d entries, %d compiled, for two texts", len(c.entries), c.compiled)
	}
	// The cache must not see what becomes of the caller's bytes.
	text := append([]byte{}, one...)
	kept, _ := c.Get("third", text)
	copy(text, strings.Repeat(" ", len(text)))
	if again, _ := c.Get("third", one); again.model != kept.model {
		t.Error("the cache holds the caller's bytes")
	}
	if _, err := c.Get("demo", []byte(`{}`)); conf.CodeOf(err) != conf.CodeInvalid {
		t.Errorf("a bad schema: %v", err)
	}
	if _, err := c.Get("demo2", []byte(`{}`)); conf.CodeOf(err) != conf.CodeInvalid || !strings.Contains(err.Error(), "demo2") {
		t.Errorf("a bad schema of another service: %v", err)
	}
	if _, err := c.Get("Bad", one); conf.CodeOf(err) != conf.CodeInvalid || len(c.entries) != 3 {
		t.Errorf("a bad name: %v, %d entries", err, len(c.entries))
	}
}

func TestCacheConcurrently(t *testing.T) {
	c := NewCache()
	texts := [][]byte{[]byte(props(`"a":{"type":"string"}`)), []byte(props(`"b":{"type":"string"}`))}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 50 {
				s, err := c.Get(fmt.Sprintf("s%d", n%3), texts[(i+n)%2])
				if err != nil || s.Fields()[0].Key != string("ab"[(i+n)%2]) {
					t.Errorf("Get = %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestParseText(t *testing.T) {
	s := compile(t, props(`
		"text":{"type":"string"}, "path":{"type":"string","format":"path"}, "n":{"type":"integer","minimum":0,"maximum":9},
		"f":{"type":"number"}, "flag":{"type":"boolean"}, "mode":{"enum":["1","two"]}, "level":{"enum":[1,2]},
		"maybe":{"type":["string","null"]}, "maybe_n":{"type":["integer","null"]}, "list":{"type":"array"}, "obj":{"type":"object"},
		"either":{"type":["integer","string"]}, "any":{}, "key":{"type":"string","x-secret":true}`))
	for _, c := range []struct{ key, text, want string }{
		{"text", " 5 ", `" 5 "`},
		{"text", "null", `"null"`},
		{"text", "", `""`},
		{"path", "/tmp/x", `"/tmp/x"`},
		{"n", " 5 ", `5`},
		{"n", "5.0", `5.0`},
		{"n", "99", `99`},
		{"f", "0.5", `0.5`},
		{"f", "-1e3", `-1e3`},
		{"flag", "true", `true`},
		{"flag", "Off", `false`},
		{"flag", "yes", `true`},
		{"mode", "1", `"1"`},
		{"mode", "other", `"other"`},
		{"level", "2", `2`},
		{"maybe", "null", `null`},
		{"maybe", "x", `"x"`},
		{"maybe_n", "null", `null`},
		{"maybe_n", "7", `7`},
		{"list", `[1, "a"]`, `[1,"a"]`},
		{"obj", `{"k": true}`, `{"k":true}`},
		{"either", "5", `5`},
		{"either", "five", `"five"`},
		{"any", `{"a":1}`, `{"a":1}`},
		{"any", "word", `"word"`},
		{"key", "1234", `"1234"`},
	} {
		f, _ := s.Field(c.key)
		v, err := ParseText(f, c.text)
		if got := jsonText(v); err != nil || got != c.want {
			t.Errorf("%s %q = %s %v, want %s", c.key, c.text, got, err, c.want)
		}
	}
	for _, c := range []struct{ key, text, message string }{
		{"n", "five", "must be an integer, got other text (allowed 0 to 9)"},
		{"n", "5.5", "must be an integer, got 5.5 (allowed 0 to 9)"},
		{"n", "null", "must be an integer, got null (allowed 0 to 9)"},
		{"n", "", "must be an integer, got other text (allowed 0 to 9)"},
		{"f", "1e-9999", numberRule},
		{"f", "9007199254740993", "must be a number, got other text"},
		{"flag", "maybe", "must be a boolean, got other text"},
		{"list", "a,b", "must be an array as JSON: "},
		{"list", "{}", "must be an array, got an object"},
		{"obj", `{"a":1,"a":2}`, "duplicate key"},
		{"maybe_n", "x", "must be an integer or null, got other text"},
	} {
		f, _ := s.Field(c.key)
		_, err := ParseText(f, c.text)
		ds := details(err)
		if conf.CodeOf(err) != conf.CodeInvalid || len(ds) != 1 || ds[0].Key != c.key || !strings.Contains(ds[0].Message, c.message) {
			t.Errorf("%s %q: %v %v, want %s", c.key, c.text, err, ds, c.message)
		}
	}
}
