package conf

import (
	"encoding/json"
	"slices"
	"testing"
)

func object(t *testing.T, text string) map[string]any {
	t.Helper()
	m, err := ParseObject([]byte(text), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestResolveKey(t *testing.T) {
	fields := []Field{
		{Key: "log.level", Path: Path{"log.level"}},
		{Key: "log.labels", Path: Path{"log.labels"}},
		{Key: "db.pool.size"},
		{Key: "db.log.level", Path: Path{"db", "log.level"}},
		{Key: "limits"},
	}
	doc := object(t, `{"x.y":{"z":1},"x":{"y.w":2,"q":{"r":3}},"limits":{"a.b":4},"log":{"level":"nested"}}`)
	for key, want := range map[string]Path{
		"log.level":       {"log.level"},
		"db.log.level":    {"db", "log.level"},
		"db.pool.size":    {"db", "pool", "size"},
		"db.pool":         {"db", "pool"},
		"log.labels.env":  {"log.labels", "env"},
		"x.y.z":           {"x.y", "z"},
		"x.y.w":           {"x", "y.w"},
		"x.q.r":           {"x", "q", "r"},
		"x.y.new":         {"x.y", "new"},
		"limits.a.b":      {"limits", "a.b"},
		"limits.a.c":      {"limits", "a", "c"},
		"new":             {"new"},
		"new.er":          {"new", "er"},
		`"log"."level"`:   {"log", "level"},
		`"x.y".z`:         {"x.y", "z"},
		`x."y.w"`:         {"x", "y.w"},
		`limits."a\"b.c"`: {"limits", `a"b.c`},
	} {
		if got := ResolveKey(key, fields, doc); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
		if got := ResolveKey(want.Quoted(), fields, doc); !slices.Equal(got, want) && len(want) > 0 && want.Quoted() != want.Key() {
			t.Errorf("%s: %q, want %q", want.Quoted(), got, want)
		}
	}
	for _, key := range []string{`"a`, `a"`, `"a"b`, `a."`, `a."b`, `"a\"`, `a.."b"`, `"a".`} {
		if p, ok := ParseQuoted(key); ok {
			t.Errorf("%s: %q", key, p)
		}
	}
}

func TestSpellings(t *testing.T) {
	doc := object(t, `{"a.b":{"c":1},"a":{"b.c":2,"b":{"c":3}},"a.b.c":4}`)
	if got := Spellings(doc, "a.b.c"); len(got) != 4 {
		t.Errorf("%q", got)
	}
	if v, ok := Lookup(doc, `a."b.c"`); !ok || v != json.Number("2") {
		t.Error(v, ok)
	}
	if v, ok := Lookup(doc, "a.b.c"); !ok || v != json.Number("4") {
		t.Error(v, ok)
	}
}
