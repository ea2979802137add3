package schema

import "testing"

// The defaults of an object apply also when nothing makes the object: a service reads
// db.host, and a secret beside it makes the object without its defaults.
func TestDefaultsInsideAnAbsentObject(t *testing.T) {
	for _, c := range []struct{ schema, values, want string }{
		{`"db":{"type":"object","properties":{"host":{"type":"string","default":"h"},"password":{"type":"string","x-secret":true}}}`, `{}`, `{"db":{"host":"h"}}`},
		{
			`"db":{"type":"object","required":["password"],"properties":{"host":{"type":"string","default":"h"},"password":{"type":"string","x-secret":true}}}`,
			`{}`, `{"db":{"host":"h"}}`,
		},
		{`"a":{"type":"object","properties":{"b":{"type":"object","properties":{"c":{"type":"integer","default":1}}}}}`, `{}`, `{"a":{"b":{"c":1}}}`},
		{`"a":{"type":"object","properties":{"b":{"type":"object","properties":{"c":{"type":"integer","default":1}}}}}`, `{"a":{}}`, `{"a":{"b":{"c":1}}}`},
		// Nothing to apply, null by choice, or a value that only a person can give.
		{`"a":{"type":"object","properties":{"b":{"type":"integer"}}}`, `{}`, `{}`},
		{`"a":{"type":["object","null"],"properties":{"b":{"type":"integer","default":1}}}`, `{}`, `{}`},
		{`"a":{"anyOf":[{"type":"object","properties":{"b":{"type":"integer","default":1}}},{"type":"null"}],"default":null}`, `{}`, `{"a":null}`},
		{`"tls":{"type":"object","required":["cert"],"properties":{"cert":{"type":"string"},"port":{"type":"integer","default":443}}}`, `{}`, `{}`},
		{`"a":{"type":"object","minProperties":2,"properties":{"b":{"type":"integer","default":1}}}`, `{}`, `{}`},
	} {
		s := compile(t, props(c.schema))
		doc, errs := s.Effective(document(t, c.values))
		if got := jsonText(doc); got != c.want || errs != nil {
			t.Errorf("%s\n%s\n got %s (%v)\nwant %s", c.schema, c.values, got, errs, c.want)
		}
	}
	// One of two: the default of one must not rule out the other.
	s := compile(t, `{"type":"object","oneOf":[{"required":["a"]},{"required":["b"]}],"properties":{
		"a":{"type":"object","properties":{"x":{"type":"integer","default":1}}},
		"b":{"type":"object","properties":{"x":{"type":"integer","default":1}}}}}`)
	if _, errs := s.Effective(document(t, `{"a":{}}`)); errs != nil {
		t.Errorf("one of two: %v", errs)
	}
}
