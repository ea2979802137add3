package yamljson

import (
	"regexp"
	"strings"
	"testing"
)

// yaml11Float is what PyYAML resolves as a float: with a dot, and a sign in the
// exponent. It reads 1e-7 as text.
var yaml11Float = regexp.MustCompile(`^[-+]?([0-9][0-9_]*)\.[0-9_]*([eE][-+][0-9]+)?$`)

func TestNumbersAreNumbersToYAML11(t *testing.T) {
	for in, want := range map[string]string{
		"1e-7": "1.0e-7", "-1e-7": "-1.0e-7", "1E5": "1.0E+5", "1.5e300": "1.5e+300", "1e+21": "1.0e+21", "0.5": "0.5", "2.5e-3": "2.5e-3",
	} {
		out, err := FromJSON([]byte(`{"rate":` + in + `}`))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		got := strings.TrimSpace(strings.TrimPrefix(string(out), "rate:"))
		if got != want || !yaml11Float.MatchString(got) {
			t.Errorf("%s is written as %s, want %s", in, got, want)
		}
		// The same value is read back.
		if again, err := ToJSON(out); err != nil || string(again) != `{"rate":`+want+`}` {
			t.Errorf("%s is read back as %s, %v", in, again, err)
		}
	}
	if out, err := FromJSON([]byte(`{"rate":17}`)); err != nil || string(out) != "rate: 17\n" {
		t.Errorf("%s, %v", out, err)
	}
}
