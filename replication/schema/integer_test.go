package schema

import (
	"encoding/json"
	"strings"
	"testing"
)

// An integer beyond 2^53 is another one to many readers, however it is written:
// 1e21 would be served as 1e+21, which Go and pydantic refuse for an int.
func TestIntegerBeyond2To53(t *testing.T) {
	s, err := Compile("svc", []byte(`{"type":"object","properties":{
		"n":{"type":"integer"},
		"top":{"type":"integer","maximum":1e30,"minimum":-1e30},
		"opt":{"anyOf":[{"type":"integer"},{"type":"null"}]},
		"list":{"type":"array","items":{"type":["integer","string"]}},
		"nested":{"$ref":"#/$defs/N"},
		"f":{"type":"number"}},
		"$defs":{"N":{"type":"object","properties":{"n":{"type":"integer"}}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range []string{"1e20", "1e21", "-1e21", "1.5e300", "9007199254740992.0", "9007199254740993"} {
		for _, doc := range []map[string]any{
			{"n": json.Number(number)},
			{"top": json.Number(number)},
			{"opt": json.Number(number)},
			{"list": []any{json.Number(number)}},
			{"nested": map[string]any{"n": json.Number(number)}},
		} {
			_, errs := s.Effective(doc)
			if len(errs) == 0 {
				t.Errorf("%v is accepted", doc)
			} else if !strings.Contains(errs[0].Message, "9007199254740991") {
				t.Errorf("%v: %v does not name the bound", doc, errs)
			}
		}
	}
	for _, number := range []string{"9007199254740991", "-9007199254740991", "9.007199254740991e15", "1e15", "0"} {
		if _, errs := s.Effective(map[string]any{"n": json.Number(number), "f": json.Number(number)}); len(errs) > 0 {
			t.Errorf("%s: %v", number, errs)
		}
	}
	if _, errs := s.Effective(map[string]any{"f": json.Number("1e21")}); len(errs) > 0 {
		t.Errorf("a number is no integer: %v", errs)
	}
	if p := s.byKey["n"]; p.bounds.min != nil || p.bounds.max != nil {
		t.Errorf("the field has bounds that the schema does not: %v", p.bounds)
	}
	if _, err := Compile("svc", []byte(`{"properties":{"n":{"type":"integer","default":1e21}},"type":"object"}`)); err == nil {
		t.Error("a default beyond 2^53 is accepted")
	}
}
