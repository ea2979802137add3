package schema

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	patterns "github.com/holdfast-config/holdfast/replication/schema/pattern"
)

// FuzzCompile never panics, and what compiles keeps its promises: valid keys, no
// secrets in a document, a document that stays what it is when completed again.
func FuzzCompile(f *testing.F) {
	names, err := filepath.Glob("testdata/*.json")
	if err != nil || len(names) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, []byte(`{"req":5,"audio":{"token":"x"},"name":"a/b"}`))
	}
	f.Add([]byte(secretSchema), []byte(`{"name":"n","key":"k","db":{"host":"h","password":"p"}}`))
	f.Add([]byte(`{"type":"object","properties":{"a":{"$ref":"#"}},"additionalProperties":{"$ref":"#"}}`), []byte(`{"a":{"a":{}},"b":{"c":{}}}`))
	f.Add([]byte(`{"type":"object","patternProperties":{"^a":{"type":"number","multipleOf":0.1}},"unevaluatedProperties":false}`), []byte(`{"a":1e-400,"b":1}`))
	f.Fuzz(func(t *testing.T, raw, values []byte) {
		s, err := Compile("demo", raw)
		if err != nil {
			return
		}
		for _, field := range s.Fields() {
			if err := conf.CheckAnyKey(field.Key); err != nil {
				t.Errorf("field %q: %v", field.Key, err)
			}
		}
		doc, err := conf.ParseObject(values, conf.MaxDocument)
		if err != nil {
			return
		}
		before := jsonText(doc)
		rest, secrets := s.SplitSecrets(doc)
		if _, more := s.SplitSecrets(rest); more != nil {
			t.Errorf("secrets %v left in the rest", more)
		}
		for _, sec := range secrets {
			s.CheckSecret(sec.Field.Key, sec.Value)
		}
		effective, errs := s.Effective(doc)
		if s.fastValid(effective) && s.validate.Validate(effective) != nil {
			t.Errorf("%s is taken for valid", jsonText(effective))
		}
		if got := jsonText(doc); got != before {
			t.Errorf("values became %s, were %s", got, before)
		}
		if _, secrets := s.SplitSecrets(effective); secrets != nil {
			t.Errorf("secrets %v in the document", secrets)
		}
		again, _ := s.Effective(effective)
		if errs == nil && jsonText(again) != jsonText(effective) {
			t.Errorf("completed again: %s\nwas %s", jsonText(again), jsonText(effective))
		}
		for _, item := range s.Items("demo", effective) {
			if errs == nil && item.Key == "" || !json.Valid([]byte(item.ValueJSON)) {
				t.Errorf("item %+v", item)
			}
		}
	})
}

// FuzzPattern never panics and never takes long.
func FuzzPattern(f *testing.F) {
	f.Add(`^(a+)+$`, "aaaa!")
	f.Add(`\u{110000}\Z`, "x")
	f.Fuzz(func(_ *testing.T, pattern, text string) {
		if re, err := patterns.Compile(pattern); err == nil {
			re.MatchString(text)
		}
	})
}

// benchSchema has n fields of the usual kinds.
func benchSchema(n int) string {
	fields := make([]string, 0, n)
	for i := range n {
		switch i % 5 {
		case 0:
			fields = append(fields, fmt.Sprintf(`"s%d":{"type":"string","default":"text","description":"A text"}`, i))
		case 1:
			fields = append(fields, fmt.Sprintf(`"n%d":{"type":"integer","minimum":0,"maximum":100,"default":5}`, i))
		case 2:
			fields = append(fields, fmt.Sprintf(`"e%d":{"enum":["a","b","c"],"default":"b"}`, i))
		case 3:
			fields = append(fields, fmt.Sprintf(`"o%d":{"anyOf":[{"type":"string"},{"type":"null"}],"default":null}`, i))
		default:
			fields = append(fields, fmt.Sprintf(`"p%d":{"type":"string","pattern":"^[a-z]+$","default":"abc"}`, i))
		}
	}
	return props(strings.Join(fields, ","))
}

func BenchmarkEffective(b *testing.B) {
	s, err := Compile("demo", []byte(benchSchema(50)))
	if err != nil {
		b.Fatal(err)
	}
	values, _ := conf.ParseObject([]byte(`{"s0":"x","n1":7,"e2":"a"}`), conf.MaxDocument)
	b.ReportAllocs()
	for b.Loop() {
		if _, errs := s.Effective(values); errs != nil {
			b.Fatal(errs)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for _, n := range []int{50, MaxFields} {
		raw := []byte(benchSchema(n))
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Compile("demo", raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCache(b *testing.B) {
	c, raw := NewCache(), []byte(benchSchema(50))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Get("demo", raw); err != nil {
			b.Fatal(err)
		}
	}
}
