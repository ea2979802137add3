package schema

import "testing"

// What a schema of hand, Go or Kubernetes leaves to the reader: properties without a
// type are those of an object.
func TestPropertiesWithoutATypeAreAnObject(t *testing.T) {
	for name, text := range map[string]string{
		"property":   `{"properties":{"db":{"properties":{"host":{"type":"string","default":"h"}}}}}`,
		"definition": `{"properties":{"db":{"$ref":"#/$defs/DB"}},"$defs":{"DB":{"properties":{"host":{"type":"string","default":"h"}}}}}`,
		"alternatives": `{"properties":{"db":{"anyOf":[{"required":["host"]},{"required":["port"]}],
			"properties":{"host":{"type":"string","default":"h"},"port":{"type":"integer"}}}}}`,
	} {
		s, err := Compile("svc", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, ok := s.Field("db.host"); !ok {
			t.Errorf("%s: db.host is no field: %+v", name, s.Fields())
		}
		if doc, errs := s.Effective(map[string]any{"db": map[string]any{}}); len(errs) > 0 || doc["db"].(map[string]any)["host"] != "h" {
			t.Errorf("%s: %v, %v", name, doc, errs)
		}
		if _, errs := s.Effective(map[string]any{"db": "text"}); len(errs) == 0 {
			t.Errorf("%s: text is accepted for an object", name)
		}
	}
	// Elsewhere a keyword for objects still says nothing about other values.
	for _, text := range []string{
		`{"properties":{"v":{"properties":{"a":{"type":"string"}},"anyOf":[{"type":"string"},{"type":"object"}]}}}`,
		`{"properties":{"v":{"type":["object","string"],"properties":{"a":{"type":"string"}}}}}`,
		`{"properties":{"v":{"type":["object","string"],"allOf":[{"properties":{"a":{"type":"string"}}}]}}}`,
	} {
		s, err := Compile("svc", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if _, errs := s.Effective(map[string]any{"v": "text"}); len(errs) > 0 {
			t.Errorf("%s: %v", text, errs)
		}
	}
	s, err := Compile("svc", []byte(`{"properties":{"db":{"default":null,"properties":{"host":{"type":"string"}}}}}`))
	if err != nil {
		t.Fatalf("null as the default: %v", err)
	}
	if _, errs := s.Effective(map[string]any{}); len(errs) > 0 {
		t.Errorf("null as the default: %v", errs)
	}
}
