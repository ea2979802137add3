package conf

import (
	"reflect"
	"testing"
	"unicode/utf8"
)

var fastSeeds = []string{
	`{}`, `[]`, `{"a":1}`, ` { "a" : [ 1 , 2.5e3 , -0 , true , false , null , "x" ] } ` + "\n", `"ü"`, `0`, `-1`, `1e400`,
	`{"a":{"b":{"c":[[[]]]}}}`, `9007199254740991`, `9007199254740993`, `-9007199254740993`, `123456789012345`, `1234567890123456`,
	`1e300`, `{"a":1,"a":2}`, `{"a":1,}`, `[1,]`, `[1 2]`, `{"a" 1}`, `{a:1}`, `01`, `-`, `1.`, `.5`, `1e`, `1e+`, `+1`, `tru`, `nulll`, `"a`,
	`"\u0041"`, `"\ud800"`, "\"a\nb\"", "\"a\x00\"", `1 1`, ``, ` `, `{`, `[`, `{"a":`, `[[[[[[[[[[1]]]]]]]]]]`, "\ufeff{}", `{"":""}`, `nan`, `"a"x`, "\u00a01",
}

// checkFast compares the fast parser with the careful one.
func checkFast(t *testing.T, text string, depth int) {
	t.Helper()
	want, err := parseCarefully([]byte(text), depth)
	got, ok := fastJSON([]byte(text), depth)
	if ok && (err != nil || !reflect.DeepEqual(got, want)) {
		t.Fatalf("%q: the fast parser answers %#v, the careful one %#v, %v", text, got, want, err)
	}
}

func TestFastParserAgrees(t *testing.T) {
	for _, s := range fastSeeds {
		for _, depth := range []int{0, 1, 3, MaxDepth} {
			checkFast(t, s, depth)
		}
	}
	for _, s := range []string{`{}`, `{"a":{"b":[1,-2.5e-3,"ü",true,null]}}`, " [ ] ", `9007199254740991`} {
		if _, ok := fastJSON([]byte(s), MaxDepth); !ok {
			t.Errorf("%s is left to the careful parser", s)
		}
	}
	if _, err := ParseJSON([]byte(`{"a":1,"a":2}`), MaxDocument); CodeOf(err) != CodeMalformed {
		t.Error(err)
	}
}

func FuzzFastParser(f *testing.F) {
	for _, s := range fastSeeds {
		f.Add(s, 4)
	}
	f.Fuzz(func(t *testing.T, text string, depth int) {
		if utf8.ValidString(text) {
			checkFast(t, text, depth&7)
		}
	})
}

func BenchmarkParseJSON(b *testing.B) {
	doc := []byte(`{"a":1`)
	for i := range 50 {
		doc = append(doc, `,"key_`+string(rune('a'+i%26))+string(rune('a'+i/26))+`":123456`...)
	}
	doc = append(doc, '}')
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseJSON(doc, MaxDocument); err != nil {
			b.Fatal(err)
		}
	}
}
