package schema

import (
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// TestAnyKeys compiles names as Kubernetes, Helm, zod and Go write them, when the
// schema asks for it.
func TestAnyKeys(t *testing.T) {
	const properties = `"properties":{"maxRetries":{"type":"integer","default":3},"log-level":{"type":"string","x-secret":true,"x-secret-source":"env"},
		"$schema":{"type":"string"},"_id":{"type":"string"},"Image":{"type":"object","default":{},"properties":{"pullPolicy":{"type":"string","default":"Always"}}},
		"8bit":{"type":"boolean"},"app.kubernetes.io":{"type":"string"}}}`
	s := compile(t, `{"type":"object","x-keys":"any",`+properties)
	doc, errs := s.Effective(document(t, `{"$schema":"x","Image":{"pullPolicy":"Never"},"otherName":1,"app.kubernetes.io":"y"}`))
	if errs != nil || doc["maxRetries"] == nil || doc["$schema"] != "x" {
		t.Fatal(doc, errs)
	}
	if f, ok := s.Field("log-level"); !ok || f.Env != "LOG_LEVEL" {
		t.Error(f, ok)
	}
	for _, item := range s.Items("demo", doc) {
		if conf.CheckAnyKey(item.Key) != nil {
			t.Errorf("no API takes the key %q", item.Key)
		}
	}
	if _, errs := s.Effective(document(t, `{"with space":1}`)); len(errs) != 1 || !strings.Contains(errs[0].Message, "letters, digits and _ - $") {
		t.Error(errs)
	}

	_, err := Compile("demo", []byte(`{"type":"object",`+properties))
	if err == nil || !strings.Contains(err.Error(), `"x-keys": "any"`) {
		t.Errorf("the rejection does not name the keyword: %v", err)
	}
	plain := compile(t, `{"type":"object","properties":{"a":{"type":"integer"}}}`)
	if _, errs := plain.Effective(document(t, `{"maxRetries":1}`)); len(errs) != 1 || !strings.Contains(errs[0].Message, `"x-keys": "any"`) {
		t.Error(errs)
	}
}

func TestAnyKeysRejects(t *testing.T) {
	for text, want := range map[string]string{
		`"properties":{"a b":{}}`:                      "bad name",
		`"properties":{".a":{}}`:                       "bad name",
		`"properties":{"a..b":{}}`:                     "bad name",
		`"properties":{"a/b":{}}`:                      "bad name",
		`"properties":{"é":{}}`:                        "bad name",
		`"properties":{"log-level":{},"log_level":{}}`: "environment variable",
		`"properties":{"Level":{},"level":{}}`:         "environment variable",
		`"properties":{"log":{"type":"object","properties":{"level":{}}},"log_level":{}}`: "environment variable",
		`"properties":{"a":{"x-keys":"any"}}`:                                             "at the top only",
	} {
		if _, err := Compile("demo", []byte(`{"type":"object","x-keys":"any",`+text+`}`)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{`"x-keys":"all"`, `"x-keys":true`, `"x-key":"any"`} {
		if _, err := Compile("demo", []byte(`{"type":"object",`+text+`}`)); err == nil {
			t.Errorf("%s is accepted", text)
		}
	}
}
