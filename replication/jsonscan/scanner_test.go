package jsonscan_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/holdfast-config/holdfast/replication/jsonscan"
)

var seeds = []string{
	`{}`, `[]`, `{"a":1}`, ` { "a" : [ 1 , 2.5e3 , -0 , true , false , null , "x" ] } ` + "\n", "[\t1,\r2]", `[[],{},[{}],""]`,
	`{"a":{"b":[1.5e-7,-0.5,"ü",{"c":null}]},"d":""}`, `{"a":{"b":{"c":[[[]]]}}}`, `[[[[[[[[[[1]]]]]]]]]]`, `{"":""}`, `{"a":1,"a":2}`,
	`0`, `-1`, `-0`, `-0.0`, `12`, `01`, `00`, `-01`, `-`, `--1`, `1.`, `.5`, `1.5`, `1e`, `1e+`, `1E-5`, `1e400`, `+1`, `1 1`, `0x1`, `1_0`,
	`18446744073709551615`, `18446744073709551616`, `9007199254740993`, `99999999999999999999`, `184467440737095516150`, `-5`, `1.0`, `1e2`,
	`"a"`, `""`, `"ü"`, `"a`, `"`, `"a"x`, `"\u0041"`, `"\ud83d\ude00"`, `"\ud800"`, `"\ude00\ud83d"`, `"\n\t\b\f\r\/\\\""`, `"\u00zz"`, `"\u004"`,
	`"\u"`, `"\x"`, `"\`, `"\"`, "\"a\nb\"", "\"a\x00\"", "\"\x7f\"", "\"\u2028\"", "\"\xff\"", "\"\xc3\"", "\xff",
	`true`, `false`, `null`, `tru`, `nulll`, `True`, `nan`, `Infinity`, ``, ` `, `{`, `[`, `}`, `]`, `{"a":`, `{"a"`, `{"a":1`, `{"a":1,`, `{"a":1,}`,
	`[1,]`, `[,1]`, `[1 2]`, `{"a" 1}`, `{a:1}`, `{1:2}`, `{"a":1]`, `[1}`, `[1`, "\ufeff{}", "\u00a01", "\x00", "[\x0b1]", `{"a":1}//`,
}

// check compares every method with what encoding/json makes of the same bytes.
func check(t *testing.T, data []byte) {
	t.Helper()
	trimmed := bytes.Trim(data, " \t\n\r")
	var v any
	valid := json.Unmarshal(data, &v) == nil || json.Valid(data) // a number may be too large for a float
	const levels = 1000

	s := jsonscan.Scanner{Data: data}
	s.Space()
	ok := s.Value(levels)
	s.Space()
	if got := ok && s.End(); got != valid {
		t.Fatalf("%q: Value answers %t, encoding/json %t", data, got, valid)
	}
	var b bytes.Buffer
	compact := json.Compact(&b, data) == nil && bytes.Equal(b.Bytes(), data)
	s = jsonscan.Scanner{Data: data, Compact: true}
	s.Space()
	ok = s.Value(levels)
	if s.Space(); ok && s.End() != compact || compact && !ok {
		t.Fatalf("%q: Value answers %t at byte %d for compact JSON, encoding/json %t", data, ok, s.Pos, compact)
	}

	checkText(t, trimmed, v)
	checkNumber(t, trimmed, valid)
}

func checkText(t *testing.T, data []byte, v any) {
	t.Helper()
	want, isText := v.(string)
	s := jsonscan.Scanner{Data: data}
	got, ok := s.Text()
	ok = ok && s.End()
	if utf8.Valid(data) && (ok != isText || ok && got != want) {
		t.Fatalf("%q: Text returns %q, %t, encoding/json %q, %t", data, got, ok, want, isText)
	}
	s = jsonscan.Scanner{Data: data}
	kind := s.String()
	if (kind != jsonscan.NoString && s.End()) != isText {
		t.Fatalf("%q: String returns %d", data, kind)
	}
	if !isText {
		return
	}
	inside := string(data[1 : len(data)-1])
	switch {
	case strings.Contains(inside, `\`):
		ok = kind == jsonscan.Escaped
	case strings.IndexFunc(inside, func(r rune) bool { return r >= 0x80 }) >= 0:
		ok = kind == jsonscan.Unescaped
	default:
		ok = kind == jsonscan.ASCII && inside == want
	}
	if !ok {
		t.Fatalf("%q: String returns %d", data, kind)
	}
}

func checkNumber(t *testing.T, data []byte, valid bool) {
	t.Helper()
	isNumber := valid && (data[0] == '-' || '0' <= data[0] && data[0] <= '9')
	s := jsonscan.Scanner{Data: data}
	whole, ok := s.Number()
	if (ok && s.End()) != isNumber || ok && s.End() && whole == bytes.ContainsAny(data, ".eE") {
		t.Fatalf("%q: Number returns %t, %t", data, whole, ok)
	}
	var want uint64
	isUint := isNumber && json.Unmarshal(data, &want) == nil
	s = jsonscan.Scanner{Data: data}
	if n, ok := s.Uint(); (ok && s.End()) != isUint || isUint && n != want {
		t.Fatalf("%q: Uint returns %d, %t, encoding/json %d, %t", data, n, ok, want, isUint)
	}
}

func TestAgreesWithEncodingJSON(t *testing.T) {
	for _, s := range seeds {
		check(t, []byte(s))
		check(t, []byte(`{"a":[`+s+`]}`))
	}
}

func FuzzScanner(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 500 { // so few bytes do not nest deeper than check allows
			check(t, data)
		}
	})
}

func TestLevels(t *testing.T) {
	for text, levels := range map[string]int{`1`: 0, `[]`: 0, `{}`: 0, `[1]`: 1, `{"a":1}`: 1, `[[]]`: 1, `{"a":[{}]}`: 2, `[[],[[1]]]`: 3} {
		for at := -1; at < 5; at++ {
			s := jsonscan.Scanner{Data: []byte(text)}
			if ok := s.Value(at); ok != (at >= levels) {
				t.Errorf("%s with %d levels: %t", text, at, ok)
			}
		}
	}
}

func TestTokens(t *testing.T) {
	s := jsonscan.Scanner{Data: []byte("{true \n1")}
	if s.Accept('}') || s.Peek() != '{' || !s.Accept('{') || s.Literal("truee") || s.Literal("false") || !s.Literal("true") {
		t.Errorf("at byte %d", s.Pos)
	}
	s.Compact = true
	if s.Space(); s.Peek() != ' ' {
		t.Errorf("at byte %d", s.Pos)
	}
	s.Compact = false
	if s.Space(); s.Peek() != '1' || s.End() {
		t.Errorf("at byte %d", s.Pos)
	}
	if _, ok := s.Number(); !ok || !s.End() || s.Peek() != 0 || s.Accept(0) || s.Literal("x") || !s.Literal("") {
		t.Errorf("at byte %d", s.Pos)
	}
}

func TestDigits(t *testing.T) {
	for s, want := range map[string]bool{"0": true, "007": true, "12345": true, "": false, "123456": false, "-1": false, "1.0": false, "1a": false, "١": false} {
		if jsonscan.Digits(s, 5) != want {
			t.Errorf("%q: %t", s, !want)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	data := []byte(`{"a":[1,2.5e-7,"ü\n",{"b":null}], "c": true}`)
	if n := testing.AllocsPerRun(100, func() {
		s := jsonscan.Scanner{Data: data}
		if !s.Value(4) {
			t.Error("rejected")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A string is read in words of eight bytes: each byte counts wherever it is in one.
func TestEveryByteOfAWord(t *testing.T) {
	for n := range 20 {
		for at := range n {
			for c := range 256 {
				text := []byte(`"` + strings.Repeat("x", n) + `"`)
				text[1+at] = byte(c)
				s := jsonscan.Scanner{Data: text}
				want, end := jsonscan.ASCII, len(text)
				switch {
				case c < ' ':
					want = jsonscan.NoString
				case c == '"':
					end = at + 2
				case c == '\\': // at the end it escapes the quote, elsewhere an x
					want = jsonscan.NoString
				case c >= 0x80:
					want = jsonscan.Unescaped
				}
				if got := s.String(); got != want || got != jsonscan.NoString && s.Pos != end {
					t.Fatalf("byte %#x at %d of %d: kind %d up to %d, want %d up to %d", c, at, n, got, s.Pos, want, end)
				}
			}
		}
	}
}
