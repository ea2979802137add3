package seal_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/gowebpki/jcs"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// rfcInput and rfcOutput are the example of RFC 8785, section 3.2.
const (
	rfcInput = `{
  "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
  "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
  "literals": [null, true, false]
}`
	rfcOutput = `{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],` +
		`"string":"€$\u000f\nA'B\"\\\\\"/"}`
	rfcKeysInput = `{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh",` +
		`"1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}`
	rfcKeysOutput = `{"\r":"Carriage Return","1":"One","` + "\u0080" + `":"Control","ö":"Latin Small Letter O With Diaeresis",` +
		`"€":"Euro Sign","😀":"Emoji: Grinning Face","` + "\ufb33" + `":"Hebrew Letter Dalet With Dagesh"}`
)

func TestCanonicalJSON(t *testing.T) {
	deep := strings.Repeat(`{"a":`, conf.MaxDepth) + `1` + strings.Repeat(`}`, conf.MaxDepth)
	for _, c := range []struct{ name, in, want string }{
		{"rfc values", rfcInput, rfcOutput},
		{"rfc keys", rfcKeysInput, rfcKeysOutput},
		{"empty object", " {\n} ", `{}`},
		{"empty array", "[ ]", `[]`},
		{"scalar null", " null ", `null`},
		{"scalar true", "true", `true`},
		{"scalar string", `"\u00e9"`, `"é"`},
		{"scalar number", "1.50", `1.5`},
		{"empty key", `{"":1,"a":2}`, `{"":1,"a":2}`},
		{"prefix keys", `{"ab":1,"a":2,"a b":3}`, `{"a":2,"a b":3,"ab":1}`},
		{"html is kept", `{"a":"<&>\u2028"}`, `{"a":"<&>` + "\u2028" + `"}`},
		{"delete is kept", `"\u007f"`, "\"\u007f\""},
		{"escapes", `"\b\t\n\f\r\u0001\u001f\/"`, `"\b\t\n\f\r\u0001\u001f/"`},
		{"negative zero", `[-0,-0.0,0e9]`, `[0,0,0]`},
		{"integers", `[1.0,100e-2,-7,9007199254740991,-9007199254740991]`, `[1,1,-7,9007199254740991,-9007199254740991]`},
		{"large floats", `[1e21,1e300,-1e21]`, `[1e+21,1e+300,-1e+21]`},
		{"small floats", `[1e-6,1e-7,5e-324]`, `[0.000001,1e-7,5e-324]`},
		{"as deep as a document", deep, deep},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := seal.CanonicalJSON([]byte(c.in))
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != c.want {
				t.Fatalf("got  %s\nwant %s", got, c.want)
			}
			again, err := seal.CanonicalJSON(got)
			if err != nil || string(again) != string(got) {
				t.Fatalf("not a fixed point: %s, %v", again, err)
			}
		})
	}
}

func TestCanonicalJSONRefuses(t *testing.T) {
	for _, c := range []struct {
		name, in, says string
		code           conf.Code
	}{
		{"nothing", "", "end of the document", conf.CodeMalformed},
		{"two values", "1 2", "more text", conf.CodeMalformed},
		{"duplicate", `{"a":1,"\u0061":2}`, "duplicate", conf.CodeMalformed},
		{"bad UTF-8", "\"\xff\"", "UTF-8", conf.CodeMalformed},
		{"lone surrogate", `"\ud800"`, "surrogate", conf.CodeMalformed},
		{"2^53", `{"a":[9007199254740992]}`, "2^53", conf.CodeMalformed},
		{"2^53 spelled as a float", `{"a":[9007199254740992.0]}`, "2^53", conf.CodeInvalid},
		{"1e20 would become an integer", `{"a":1e20}`, "2^53", conf.CodeInvalid},
		{"large integer text", `1000000000000000000000`, "2^53", conf.CodeMalformed},
		{"overflow", `1e400`, "64-bit float", conf.CodeMalformed},
		{"underflow", `-0.1e-400`, "too small", conf.CodeInvalid},
		{"too deep", strings.Repeat("[", 99) + strings.Repeat("]", 99), "deeper", conf.CodeMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := seal.CanonicalJSON([]byte(c.in))
			if conf.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %s, %v; want %s saying %q", got, err, c.code, c.says)
			}
		})
	}
}

func TestCanonicalNamesTheKey(t *testing.T) {
	_, err := seal.Canonical(map[string]any{"a": []any{map[string]any{"b": json.Number("1e20")}}})
	e, ok := errors.AsType[*conf.Error](err)
	if !ok || len(e.Details) != 1 || e.Details[0].Key != "a.0.b" || e.Hint == "" {
		t.Fatalf("got %+v", err)
	}
}

func TestCanonicalOfGoValues(t *testing.T) {
	type inner struct {
		B string          `json:"b"`
		A float64         `json:"a"`
		R json.RawMessage `json:"r"`
	}
	got, err := seal.Canonical(map[string]any{
		"int": 1, "int64": int64(-2), "uint64": uint64(3), "uint8": uint8(4), "float": 0.5, "nil": nil,
		"bool": true, "strings": []string{"<"}, "raw": json.RawMessage(`{ "y":1, "x":[ ] }`),
		"struct": inner{"x", 1, json.RawMessage("null")}, "number": json.Number("1.0"),
	})
	want := `{"bool":true,"float":0.5,"int":1,"int64":-2,"nil":null,"number":1,"raw":{"x":[],"y":1},` +
		`"strings":["<"],"struct":{"a":1,"b":"x","r":null},"uint64":3,"uint8":4}`
	if err != nil || string(got) != want {
		t.Fatalf("got  %s, %v\nwant %s", got, err, want)
	}
}

func TestCanonicalRefusesGoValues(t *testing.T) {
	loop := map[string]any{}
	loop["loop"] = loop
	for name, v := range map[string]any{
		"NaN": math.NaN(), "infinity": math.Inf(-1), "large int64": int64(1 << 53), "large uint64": uint64(math.MaxUint64),
		"large float": 1e20, "float32 infinity": float32(math.Inf(1)), "channel": make(chan int),
		"bad UTF-8": "\xff", "bad UTF-8 key": map[string]any{"\xff": 1}, "cycle": loop,
		"number 007": json.Number("007"), "number with space": json.Number(" 1"), "hex number": json.Number("0x10"),
		"empty number": json.Number(""), "Inf number": json.Number("Inf"), "signed number": json.Number("+1"),
		"number 1.": json.Number("1."), "underscore": json.Number("1_0"), "raw": json.RawMessage(`{`),
	} {
		if got, err := seal.Canonical(v); err == nil {
			t.Errorf("%s: got %s", name, got)
		} else if _, ok := errors.AsType[*conf.Error](err); !ok {
			t.Errorf("%s: %T is not a *conf.Error", name, err)
		}
	}
}

// FuzzCanonical holds three things of any JSON text that is accepted: the form
// is a fixed point, it means the same, and an independent implementation agrees.
func FuzzCanonical(f *testing.F) {
	for _, s := range []string{rfcInput, rfcKeysInput, `1`, `"\ud83d\ude00"`, `[1e21,-0,1e-7,0.1]`, `{"\ue000":1,"\ud800\udc00":2,"\u007f":3}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := seal.CanonicalJSON(in)
		if err != nil {
			return
		}
		again, err := seal.CanonicalJSON(got)
		if err != nil || string(again) != string(got) {
			t.Fatalf("not a fixed point: %q became %q, %v", got, again, err)
		}
		if _, err := conf.ParseJSONDepth(got, len(got), 2*conf.MaxDepth); err != nil {
			t.Fatalf("%q is refused at the edge: %v", got, err)
		}
		if got[0] != '{' && got[0] != '[' {
			return // the other implementation takes objects and arrays only
		}
		other, err := jcs.Transform(in)
		if err != nil || string(other) != string(got) {
			t.Fatalf("got %q, the other implementation %q, %v", got, other, err)
		}
	})
}

func BenchmarkCanonicalJSON(b *testing.B) {
	doc := []byte(service1200())
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := seal.CanonicalJSON(doc); err != nil {
			b.Fatal(err)
		}
	}
}
