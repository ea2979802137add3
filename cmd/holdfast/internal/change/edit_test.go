package change

import (
	"testing"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/values"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// What the user did not touch keeps being a default; what they changed, added or
// removed is in the stored values, or not in them any more.
func TestOverlay(t *testing.T) {
	obj := func(s string) map[string]any {
		m, err := conf.ParseObject([]byte(s), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, tc := range []struct{ name, stored, base, edited, want string }{
		{"untouched", `{"a":1}`, `{"a":1,"b":2}`, `{"a":1,"b":2}`, `{"a":1}`},
		{"changed default", `{"a":1}`, `{"a":1,"b":2}`, `{"a":1,"b":3}`, `{"a":1,"b":3}`},
		{"removed", `{"a":1}`, `{"a":1,"b":2}`, `{"b":2}`, `{}`},
		{"added", `{}`, `{}`, `{"c":null}`, `{"c":null}`},
		{"null over a value", `{"a":1}`, `{"a":1}`, `{"a":null}`, `{"a":null}`},
		{"nested", `{"n":{"x":1}}`, `{"n":{"x":1,"y":2}}`, `{"n":{"x":1,"y":5}}`, `{"n":{"x":1,"y":5}}`},
		{"nested default", `{}`, `{"n":{"x":1,"y":2}}`, `{"n":{"x":1,"y":5}}`, `{"n":{"y":5}}`},
		{"nested removed", `{"n":{"x":1,"y":5}}`, `{"n":{"x":1,"y":5}}`, `{"n":{"x":1}}`, `{"n":{"x":1}}`},
		{"object for a scalar", `{"a":1}`, `{"a":1}`, `{"a":{"b":1}}`, `{"a":{"b":1}}`},
		{"array whole", `{}`, `{"l":[1,2]}`, `{"l":[1]}`, `{"l":[1]}`},
	} {
		got, err := values.Compact(overlay(obj(tc.stored), obj(tc.base), obj(tc.edited)))
		if err != nil || string(got) != tc.want {
			t.Errorf("%s: %s, %v, want %s", tc.name, got, err, tc.want)
		}
	}
}
