package schema

import (
	"encoding/json"
	"testing"

	patterns "github.com/holdfast-config/holdfast/replication/schema/pattern"
)

// The patterns of Pydantic 2.13 for a Decimal, by its arguments.
func TestPatternsOfPydanticDecimals(t *testing.T) {
	const plain = `^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$`
	for pattern, values := range map[string]struct{ good, bad []string }{
		plain:                                  {[]string{"1", "-1.5", "+00.50", ".5", "5."}, []string{"", ".", "-", "+-.", "x", "1.5x", "1e5"}},
		`^(?!^[-+.]*$)[+-]?0*\d*\.?\d{0,2}0*$`: {[]string{"1.25", "1.2500"}, []string{"1.255", "", "-."}},
		`^(?!^[-+.]*$)[+-]?0*\d*\.?\d{0,0}0*$`: {[]string{"12", "1.00"}, []string{"1.5", "-"}},
		// Their alternative without an anchor lets all text follow.
		`^(?!^[-+.]*$)[+-]?0*(?:\d{0,3}|(?=[\d.]{1,6}0*$)\d{0,3}\.\d{0,2}0*$)`: {[]string{"1.25", "-123.45", "0"}, []string{"", ".", "-"}},
		`^(?!^[-+.]*$)[+-]?0*(?:\d{0,5}|(?=[\d.]{1,6}0*$)\d*\.\d*0*$)`:         {[]string{"1.25", "12345"}, []string{"", "+"}},
		`^(?!^[-+.]*$)[+-]?0*(?:\d{0,0}|(?=[\d.]{1,3}0*$)\d{0,0}\.\d{0,5}0*$)`: {[]string{"0.001"}, []string{"..."}},
	} {
		text, err := json.Marshal(map[string]any{"type": "object", "properties": map[string]any{"v": map[string]any{
			"anyOf": []any{map[string]any{"type": "number"}, map[string]any{"type": "string", "pattern": pattern}}, "default": values.good[0],
		}}})
		if err != nil {
			t.Fatal(err)
		}
		s, err := Compile("svc", text)
		if err != nil {
			t.Errorf("%s: %v", pattern, err)
			continue
		}
		for _, v := range values.good {
			if _, errs := s.Effective(map[string]any{"v": v}); len(errs) > 0 {
				t.Errorf("%s: %q is refused: %v", pattern, v, errs)
			}
		}
		for _, v := range values.bad {
			if _, errs := s.Effective(map[string]any{"v": v}); len(errs) == 0 {
				t.Errorf("%s: %q is accepted", pattern, v)
			}
		}
	}
	for _, pattern := range []string{`^(?!x)y$`, `^(?!^[-+.]*$)(?=a)b`, `(?!^[-+.]*$)a`, `^(?!^[-+.]*$)(?!b)a`} {
		if _, err := patterns.Compile(pattern); err == nil {
			t.Errorf("%s: another lookahead is accepted", pattern)
		}
	}
}
