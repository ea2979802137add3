package schema

import "testing"

// The default of the whole document is one of the service from its first version on.
func TestInvalidRootDefaultIsRefused(t *testing.T) {
	for _, text := range []string{
		`{"type":"object","default":{"port":"x"},"properties":{"port":{"type":"integer"}}}`,
		`{"type":"object","default":{"port":99999},"properties":{"port":{"type":"integer","maximum":65535}}}`,
		`{"type":"object","default":{"db":{"port":"x"}},"properties":{"db":{"type":"object","properties":{"port":{"type":"integer"}}}}}`,
		`{"type":"object","default":{"db":7},"properties":{"db":{"type":"object","properties":{"port":{"type":"integer"}}}}}`,
	} {
		if s, err := Compile("svc", []byte(text)); err == nil {
			_, errs := s.Effective(map[string]any{})
			t.Errorf("%s is accepted; the empty document then has %v", text, errs)
		}
	}
	s, err := Compile("svc", []byte(`{"type":"object","default":{"port":1,"key":"***"},"required":["name","port","key"],
		"properties":{"port":{"type":"integer"},"name":{"type":"string"},"key":{"type":"string","x-secret":true}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if doc, errs := s.Effective(map[string]any{"name": "n"}); len(errs) > 0 || doc["port"] == nil {
		t.Errorf("%v, %v", doc, errs)
	}
}
