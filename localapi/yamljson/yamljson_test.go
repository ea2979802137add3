package yamljson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// odd are strings that some reader of YAML takes for something else, or that a
// printer gets wrong.
var odd = []string{
	"", " ", "yes", "No", "on", "y", "true", "True", "null", "~", "Null", "NaN", ".inf", "-.INF", "0x1", "0o7", "007", "1_000", "1:30", "12e03", "1e400", "-0", "+1", ".5", "5.",
	"2026-01-02", "2026-01-02T03:04:05Z", "<<", "=", "!!str", "&a", "*a", "- a", "? a", "a: b", "a #b", "#", "%", "@", "`", "{", "[", "|", ">", "'", `"`, `\`, "a,b", "---", "...",
	"a\nb", "a\nb\n", "a\n\n\nb\n\n", " a\nb", "a \nb", "\na", "a\n", "\n", "\r", "a\r\nb", "\t", "a\tb\nc", "\x00", "\x7f", "\u0085", "\u2028", "\ufeff", "\ufeffa", "größe", "😀", "\U0010ffff", "e\u0301",
	"-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n", strings.Repeat("long words ", 40), "#!/bin/sh\nset -eu\n\techo x\n",
}

// numbers have to come back with their digits, and with an exponent as YAML 1.1 has it.
var numbers = []string{
	"0", "-0", "1", "-1", "9007199254740993", "18446744073709551616", "123456789012345678901234567890", "0.1", "1.0", "100.00", "1e400", "-1e-400", "1E5", "1e+5", "1.5e300",
	"0.30000000000000004", "5e-324",
}

func reads(t *testing.T, text string) string {
	t.Helper()
	y, err := FromJSON([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	back, err := ToJSON(y)
	if err != nil {
		t.Fatalf("%s: %v", y, err)
	}
	return string(back)
}

func TestYAMLKeepsAll(t *testing.T) {
	quote := func(s string) string {
		var buf bytes.Buffer
		if err := writeText(&buf, s); err != nil {
			t.Fatal(err)
		}
		return buf.String()
	}
	all := append([]string{"true", "false", "null", "{}", "[]", "[[]]", `{"a":{}}`}, numbers...)
	for _, s := range odd {
		all = append(all, quote(s))
	}
	for _, v := range all {
		for _, text := range []string{`{"a":%s}`, `[%s]`, `{"a":{"b":[%s,%[1]s]},"c":%[1]s}`} {
			want := v
			if jsonNumber.MatchString(v) {
				want = yamlFloat(v)
			}
			text, want = fmt.Sprintf(text, v), fmt.Sprintf(text, want)
			if strings.Contains(text, "%!") {
				t.Fatal(text)
			}
			if got := reads(t, text); got != want {
				t.Errorf("%s came back as %s", text, got)
			}
		}
	}
	for _, s := range odd { // as the name of a member
		text := fmt.Sprintf(`{%s:1,"z":{%[1]s:"x"}}`, quote(s))
		if got := reads(t, text); got != text {
			t.Errorf("%s came back as %s", text, got)
		}
	}
	// Anything else.
	letters := []rune("aZ09 \n\t:#-?,[]{}&*!|>'\"%@`~<=.\\\r\u00e9\u2028😀\x00")
	for range 2000 {
		s := make([]rune, rand.IntN(12))
		for i := range s {
			s[i] = letters[rand.IntN(len(letters))]
		}
		text := fmt.Sprintf(`{"a":[%s],%[1]s:null}`, quote(string(s)))
		if got := reads(t, text); got != text {
			t.Fatalf("%s came back as %s", text, got)
		}
	}
}

// TestYAMLByHand: what people write is read as what it says, or rejected with its line.
func TestYAMLByHand(t *testing.T) {
	got, err := ToJSON([]byte("a: yes\nb: 1.50\nc: [1, two, 'three']\nd: 2026-01-02\ne: ~\nf:\ng: |\n  x\n  y\nh: >-\n  x\n  y\n# a word\n\"1\": 0xg\ni: 1e400\n"))
	if want := `{"a":"yes","b":1.50,"c":[1,"two","three"],"d":"2026-01-02","e":null,"f":null,"g":"x\ny\n","h":"x y","1":"0xg","i":1e400}`; err != nil || string(got) != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
	for text, says := range map[string]string{
		"a: 1\nb: 0x1\n":            "line 2",
		"b: 1_000\n":                "line 1",
		"b: .inf\n":                 "line 1",
		"b: True\n":                 "line 1",
		"b: +1\n":                   "line 1",
		"b: 007\n":                  "line 1",
		"1: a\n":                    "name",
		"a: &x 1\n":                 "anchors",
		"a: &x {b: 1}\nc: *x\n":     "anchors",
		"a: {b: 1}\n<<: {c: 1}\n":   "name",
		"a: 1\n---\nb: 1\n":         "more than one",
		"":                          "not YAML",
		"a: [\n":                    "not YAML",
		"a: !!binary aGFsbG8=\n":    "line 1",
		"a: !!timestamp 2026-01-02": "line 1",
	} {
		if got, err := ToJSON([]byte(text)); err == nil || !strings.Contains(err.Error(), says) || conf.CodeOf(err) != conf.CodeMalformed {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
	// Two members of one name are left to the strict reader of JSON.
	var into map[string]any
	got, err = ToJSON([]byte("a: 1\na: 2\n"))
	if err == nil {
		err = conf.DecodeStrict(got, 1000, &into)
	}
	if err == nil {
		t.Errorf("two members of one name: %s", got)
	}
	if !json.Valid([]byte(reads(t, `{"a":1}`))) {
		t.Error("not JSON")
	}
}
