package schema

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

const quickSchema = `{"type":"object","additionalProperties":false,"required":["n"],"properties":{
 "n":{"type":"integer","minimum":-5,"maximum":100},
 "f":{"type":"number","exclusiveMinimum":0,"exclusiveMaximum":1},
 "half":{"type":"number","minimum":0.5,"maximum":0.5},
 "tenth":{"type":"number","maximum":0.1},
 "s":{"type":"string","minLength":2,"maxLength":3,"description":"d"},
 "p":{"type":"string","pattern":"^a+$"},
 "e":{"type":"string","enum":["x","y"],"default":"x"},
 "m":{"type":["integer","null"]},
 "b":{"type":"boolean"},
 "list":{"type":"array","items":{"type":"integer"}},
 "any":{"anyOf":[{"type":"string"},{"type":"null"}]},
 "o":{"type":"object","properties":{"x":{"type":"integer","multipleOf":2}}}
}}`

// The quick check and the library agree; what is ordinary needs no library.
func TestQuickCheck(t *testing.T) {
	s, err := Compile("demo", []byte(quickSchema))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		doc   string
		quick bool
	}{
		{`{"n":1}`, true},
		{`{"n":-5}`, true},
		{`{"n":100}`, true},
		{`{"n":-6}`, false},
		{`{"n":101}`, false},
		{`{}`, false},
		{`{"n":"1"}`, false},
		{`{"n":1.0}`, false},
		{`{"n":1e1}`, false}, // valid, and not sure
		{`{"n":0,"f":0.5}`, true},
		{`{"n":0,"f":0}`, false},
		{`{"n":0,"f":1}`, false},
		{`{"n":0,"f":0.99999999999999999999}`, false},
		{`{"n":0,"half":0.5}`, false},
		{`{"n":0,"half":0.50000000000000000000001}`, false},
		{`{"n":0,"half":0.49999999999999999999}`, false},
		{`{"n":0,"tenth":0.1}`, true},
		{`{"n":0,"tenth":0.10000000000000000001}`, false},
		{`{"n":0,"s":"ab"}`, true},
		{`{"n":0,"s":"a"}`, false},
		{`{"n":0,"s":"äöü"}`, true},
		{`{"n":0,"s":"abcd"}`, false},
		{`{"n":0,"p":"aaa"}`, true},
		{`{"n":0,"p":"ab"}`, false},
		{`{"n":0,"e":"y"}`, true},
		{`{"n":0,"e":"z"}`, false},
		{`{"n":0,"e":1}`, false},
		{`{"n":0,"m":null}`, true},
		{`{"n":0,"m":3}`, true},
		{`{"n":0,"m":"3"}`, false},
		{`{"n":0,"b":true}`, true},
		{`{"n":0,"b":0}`, false},
		{`{"n":0,"list":[1,2]}`, true},
		{`{"n":0,"list":[1,"2"]}`, false},
		{`{"n":0,"any":null}`, true},
		{`{"n":0,"any":1}`, false},
		{`{"n":0,"o":{"x":4,"y":"more"}}`, true},
		{`{"n":0,"o":{"x":3}}`, false},
		{`{"n":0,"o":[]}`, false},
		{`{"n":0,"other":1}`, false},
	} {
		doc, err := conf.ParseObject([]byte(c.doc), conf.MaxDocument)
		if err != nil {
			t.Fatal(err)
		}
		got, valid := s.fastValid(doc), s.validate.Validate(doc) == nil
		if got && !valid {
			t.Errorf("%s is taken for valid", c.doc)
		}
		// 0.1 is no float64: its field is left to the library, which knows.
		if got != c.quick {
			t.Errorf("%s: %t, want %t", c.doc, got, c.quick)
		}
	}
}

func BenchmarkEffectiveNumbers(b *testing.B) {
	var text strings.Builder
	text.WriteString(`{"type":"object","additionalProperties":false,"properties":{`)
	values := map[string]any{}
	for i := range 50 {
		if i > 0 {
			text.WriteByte(',')
		}
		name := "key_" + string(rune('a'+i/10)) + string(rune('a'+i%10))
		text.WriteString(`"` + name + `":{"type":"integer","default":1,"minimum":0,"maximum":1073741824,"description":"d"}`)
		values[name] = json.Number("100000001")
	}
	s, err := Compile("demo", []byte(text.String()+"}}"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, bad := s.Effective(values); bad != nil {
			b.Fatal(bad)
		}
	}
}
