package testenv

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/seal"
)

func loadSchema(t *testing.T, service string) *schema.Schema {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("schemas", service+".json"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := schema.Compile(service, raw)
	if err != nil {
		t.Fatalf("%v %v", err, err.(*conf.Error).Details)
	}
	return s
}

// TestServiceSchemas holds that each schema compiles, that its defaults alone are
// a valid document, and that a reader is told enough of every field.
func TestServiceSchemas(t *testing.T) {
	want := []string{
		"camera-service", "llm-worker", "memory-worker", "movement-service", "router",
		"stt-worker", "tts-worker", "ui-web", "wake-activation",
	}
	files, err := filepath.Glob("schemas/*.json")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, strings.TrimSuffix(filepath.Base(f), ".json"))
	}
	if !slices.Equal(got, want) {
		t.Fatalf("schemas of %v, want %v", got, want)
	}
	seen := map[conf.Type]bool{}
	sources := map[conf.Source]bool{}
	for _, service := range want {
		t.Run(service, func(t *testing.T) {
			s := loadSchema(t, service)
			doc, errs := s.Effective(nil)
			if errs != nil {
				t.Fatalf("the defaults are not valid: %v", errs)
			}
			if _, err := seal.Canonical(doc); err != nil {
				t.Errorf("the defaults have no canonical form: %v", err)
			}
			complexities := map[conf.Complexity]bool{}
			for _, f := range s.Fields() {
				seen[f.Type] = true
				complexities[f.Complexity] = true
				if f.SecretSource != nil {
					sources[*f.SecretSource] = true
				}
				if f.Description == "" {
					t.Errorf("%s has no description", f.Key)
				}
				if !f.IsSecret && f.Default == nil {
					t.Errorf("%s has no default", f.Key)
				}
			}
			if !complexities[conf.Simple] || !complexities[conf.Advanced] {
				if service != "tts-worker" && service != "router" {
					t.Errorf("complexities %v, want both", complexities)
				}
			}
		})
	}
	for _, typ := range []conf.Type{
		conf.TypeString, conf.TypeInteger, conf.TypeFloat, conf.TypeBoolean, conf.TypeEnum, conf.TypePath, conf.TypeSecret,
	} {
		if !seen[typ] {
			t.Errorf("no field of type %s", typ)
		}
	}
	if !sources[conf.SourceEnv] || !sources[conf.SourceDatabase] {
		t.Errorf("sources of secrets %v, want both", sources)
	}
}

// TestSeedSchemas holds the three schemas that the data model spells out against it.
func TestSeedSchemas(t *testing.T) {
	type field struct{ typ, min, max, def, allowed string }
	for service, fields := range map[string]map[string]field{
		"stt-worker": {
			"whisper_model":           {"string", "", "", `"base.en"`, ""},
			"stt_backend":             {"enum", "", "", `"whisper"`, "whisper ws"},
			"ws_url":                  {"string", "", "", `null`, ""},
			"streaming_partials":      {"boolean", "", "", `false`, ""},
			"vad_threshold":           {"float", "0", "1", `0.5`, ""},
			"vad_speech_pad_ms":       {"integer", "0", "1000", `300`, ""},
			"vad_silence_duration_ms": {"integer", "0", "2000", `500`, ""},
			"sample_rate":             {"integer", "0", "", `16000`, ""},
			"channels":                {"integer", "1", "2", `1`, ""},
		},
		"tts-worker": {
			"piper_voice":               {"string", "", "", `"en_US-lessac-medium"`, ""},
			"tts_streaming":             {"boolean", "", "", `false`, ""},
			"tts_pipeline":              {"boolean", "", "", `true`, ""},
			"tts_aggregate_by_utt":      {"boolean", "", "", `true`, ""},
			"tts_aggregate_timeout_sec": {"float", "0", "10", `2`, ""},
			"volume_percent":            {"integer", "0", "200", `100`, ""},
		},
		"router": {
			"router_llm_tts_stream":       {"boolean", "", "", `true`, ""},
			"router_stream_min_chars":     {"integer", "1", "", `30`, ""},
			"router_stream_max_chars":     {"integer", "1", "", `200`, ""},
			"router_stream_boundary_only": {"boolean", "", "", `true`, ""},
			// The characters of Python's r"[.!?…]+[\"')\\]]?\\s", backslashes and all.
			"router_stream_boundary_regex": {"string", "", "", string(mustJSON(t, `[.!?…]+[\"')\\]]?\\s`)), ""},
		},
	} {
		t.Run(service, func(t *testing.T) {
			got := map[string]field{}
			s := loadSchema(t, service)
			for _, f := range s.Fields() {
				def, err := seal.CanonicalJSON(f.Default)
				if err != nil {
					t.Fatal(err)
				}
				g := field{typ: string(f.Type), def: string(def), allowed: strings.Join(f.Allowed, " ")}
				if f.Min != nil {
					g.min = strings.TrimSuffix(f.Min.String(), ".0")
				}
				if f.Max != nil {
					g.max = strings.TrimSuffix(f.Max.String(), ".0")
				}
				got[f.Key] = g
				if f.Pattern != nil {
					t.Errorf("%s has the pattern %s, the data model has none", f.Key, *f.Pattern)
				}
			}
			if diff := cmp.Diff(fields, got, cmp.AllowUnexported(field{})); diff != "" {
				t.Errorf("(-seed +schema)\n%s", diff)
			}
			if _, errs := s.Effective(map[string]any{"not_in_the_model": true}); errs == nil {
				t.Error(`an unknown key is let through, against extra="forbid"`)
			}
		})
	}
}

func mustJSON(t *testing.T, s string) []byte {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSeedLimits tries both sides of the bounds that the data model sets.
func TestSeedLimits(t *testing.T) {
	for _, c := range []struct {
		service, key string
		valid, not   []string
	}{
		{"stt-worker", "sample_rate", []string{"1", "48000"}, []string{"0", "-1", "1.5"}},
		{"stt-worker", "vad_threshold", []string{"0", "1", "0.6"}, []string{"-0.1", "1.7", `"x"`}},
		{"stt-worker", "ws_url", []string{"null", `"ws://127.0.0.1:9002"`}, []string{"5"}},
		{"stt-worker", "stt_backend", []string{`"ws"`}, []string{`"google"`, "null"}},
		{"tts-worker", "volume_percent", []string{"0", "200"}, []string{"-1", "201"}},
		{"router", "router_stream_min_chars", []string{"1"}, []string{"0"}},
	} {
		s := loadSchema(t, c.service)
		for i, text := range append(c.valid, c.not...) {
			values, err := conf.ParseObject([]byte(`{"`+c.key+`":`+text+`}`), conf.MaxDocument)
			if err != nil {
				t.Fatal(err)
			}
			if _, errs := s.Effective(values); (errs == nil) != (i < len(c.valid)) {
				t.Errorf("%s of %s = %s: %v", c.key, c.service, text, errs)
			}
		}
	}
}

// TestWhisperIsSimple holds what the quickstart's search must find.
func TestWhisperIsSimple(t *testing.T) {
	s := loadSchema(t, "stt-worker")
	doc, _ := s.Effective(nil)
	for _, item := range s.Items("stt-worker", doc) {
		if item.Key == "whisper_model" {
			if item.Complexity != conf.Simple || item.ValueJSON != `"base.en"` || !strings.Contains(strings.ToLower(item.Description), "whisper") {
				t.Errorf("whisper_model = %+v", item)
			}
			return
		}
	}
	t.Error("no item whisper_model")
}
