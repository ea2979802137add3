package apply

import (
	"encoding/json"
	"testing"
)

func TestDiffering(t *testing.T) {
	for _, c := range []struct{ a, b, onlyA, onlyB string }{
		{`{}`, `{}`, `{}`, `{}`},
		{`{"a":1}`, `{"a":1}`, `{}`, `{}`},
		{`{"a":1,"b":2,"c":3}`, `{"a":1,"b":5,"c":3}`, `{"b":2}`, `{"b":5}`},
		{`{"a":1}`, `{"b":1}`, `{"a":1}`, `{"b":1}`},
		{`{}`, `{"a":{"x":[1,{"y":"}],"}]}}`, `{}`, `{"a":{"x":[1,{"y":"}],"}]}}`},
		{`{"a\"b":"c\\","d":[]}`, `{"a\"b":"c\\","d":[1]}`, `{"d":[]}`, `{"d":[1]}`},
		{`{"":true,"é":null}`, `{"":true,"é":0}`, `{"é":null}`, `{"é":0}`},
		// Not in canonical form: left as they are.
		{`{"b":1,"a":1}`, `{"a":1,"b":1}`, `{"b":1,"a":1}`, `{"a":1,"b":1}`},
		{`{"a":1,"a":2}`, `{"a":2}`, `{"a":1,"a":2}`, `{"a":2}`},
	} {
		onlyA, onlyB, _ := new(differ).differing(json.RawMessage(c.a), json.RawMessage(c.b))
		if string(onlyA) != c.onlyA || string(onlyB) != c.onlyB {
			t.Errorf("%s and %s: %s and %s", c.a, c.b, onlyA, onlyB)
		}
	}
}

func FuzzMembers(f *testing.F) {
	f.Add([]byte(`{"a":{"b":[1,"}"]},"c":"\\"}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		ms, ok := jsonMembers(doc, nil)
		if !ok || !json.Valid(doc) {
			return // it must only not panic
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(doc, &want); err != nil {
			t.Fatal(err)
		}
		all := []byte{'{'}
		for _, m := range ms {
			all = m.appendTo(all)
		}
		if all = append(all, '}'); string(all) != string(doc) {
			t.Errorf("%s comes back as %s", doc, all)
		}
	})
}
