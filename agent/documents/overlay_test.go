package documents

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/seal"
)

const overlaySchema = `{"type":"object","additionalProperties":false,"properties":{
 "level":{"type":"string","enum":["debug","info"],"default":"info","x-env":"E_LEVEL"},
 "workers":{"type":"integer","minimum":1,"maximum":8,"default":2,"x-env":"E_WORKERS"},
 "ratio":{"type":"number","default":0.5,"x-env":"E_RATIO"},
 "verbose":{"type":"boolean","default":false,"x-env":"E_VERBOSE"},
 "name":{"type":"string","default":"","x-env":"E_NAME"},
 "limit":{"anyOf":[{"type":"integer"},{"type":"null"}],"default":5,"x-env":"E_LIMIT"},
 "hosts":{"type":"array","items":{"type":"string"},"default":[],"x-env":"E_HOSTS"},
 "extra":{"type":"object","default":{},"x-env":"E_EXTRA"},
 "db":{"type":"object","properties":{"host":{"type":"string","default":"h","x-env":"E_DB_HOST"},"port":{"type":"integer","default":1}}},
 "log.path":{"type":"string","default":"/a","x-env":"E_LOG_PATH"},
 "stolen":{"type":"string","default":"mine","x-env":"CONFIG_OTHER"},
 "api_key":{"type":"string","x-secret":true,"x-secret-source":"env","x-env":"E_API_KEY"}}}`

func newOverlaid(t *testing.T, env map[string]string) (*Secrets, *conf.Record, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	cache := schema.NewCache()
	s := NewSecrets(SecretsOptions{
		Lookup:  func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		Allowed: func(_, name string) bool { return !strings.HasPrefix(name, "CONFIG_") },
		Schemas: cache, Sealer: keys.NewSealer(keys.NewHolder(keys.Set{})), Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	raw, err := seal.CanonicalJSON([]byte(overlaySchema))
	if err != nil {
		t.Fatal(err)
	}
	sch, err := cache.Get("svc", raw)
	if err != nil {
		t.Fatal(err)
	}
	doc, bad := sch.Effective(map[string]any{"workers": 4})
	if bad != nil {
		t.Fatal(bad)
	}
	config, err := seal.Canonical(doc)
	if err != nil {
		t.Fatal(err)
	}
	return s, &conf.Record{Service: "svc", Version: 2, Schema: raw, Values: []byte(`{"workers":4}`), Config: config}, log
}

func TestEnvironmentOverridesPlainValuesByType(t *testing.T) {
	s, rec, log := newOverlaid(t, map[string]string{
		"E_LEVEL": "debug", "E_WORKERS": "7", "E_RATIO": "0.25", "E_VERBOSE": "yes", "E_NAME": "7", "E_LIMIT": "null",
		"E_HOSTS": `["a","b"]`, "E_EXTRA": `{"x":1}`, "E_DB_HOST": "db1", "E_LOG_PATH": "/b", "CONFIG_OTHER": "stolen", "E_API_KEY": "s3cr3t",
	})
	before := string(rec.Config)
	o := s.Overlay(rec)
	const want = `{"db":{"host":"db1","port":1},"extra":{"x":1},"hosts":["a","b"],"level":"debug","limit":null,"log.path":"/b",` +
		`"name":"7","ratio":0.25,"stolen":"mine","verbose":true,"workers":7}`
	if string(o.Config) != want {
		t.Errorf("document\n%s, want\n%s", o.Config, want)
	}
	keys := []string{"db.host", "extra", "hosts", "level", "limit", "log.path", "name", "ratio", "verbose", "workers"}
	if !slices.Equal(o.Keys, keys) || !slices.Equal(o.SecretKeys, []string{"api_key"}) {
		t.Errorf("keys %v and %v", o.Keys, o.SecretKeys)
	}
	if string(rec.Config) != before || s.problems.by != nil {
		t.Error("the record changed, or there is a problem")
	}
	if !strings.Contains(log.String(), "CONFIG_OTHER") {
		t.Error("the variable that is not for the service is not named in the log")
	}
	// What a schema without variables has, is what is stored, and no work.
	plain := *rec
	plain.Schema = bytes.ReplaceAll(bytes.ReplaceAll(rec.Schema, []byte(`"x-env"`), []byte(`"x-help"`)), []byte("x-secret-source"), []byte("x-help"))
	if o := s.Overlay(&plain); o.Config != nil || o.Keys != nil {
		t.Errorf("%s %v", o.Config, o.Keys)
	}
}

func TestInvalidVariableServesTheStoredValue(t *testing.T) {
	s, rec, log := newOverlaid(t, map[string]string{
		"E_LEVEL": "s3cr3t-level", "E_WORKERS": "9", "E_RATIO": "half-s3cr3t", "E_VERBOSE": "", "E_NAME": "bad\xff", "E_HOSTS": "a,b", "E_EXTRA": "[1]",
		"E_LIMIT": "3",
	})
	v := NewView(s)
	v.Reset("replica", "epoch", 1, []*conf.Record{rec})
	o := s.Overlay(rec)
	if want := bytes.Replace(rec.Config, []byte(`"limit":5`), []byte(`"limit":3`), 1); !bytes.Equal(o.Config, want) || !slices.Equal(o.Keys, []string{"limit"}) {
		t.Errorf("document %s, keys %v", o.Config, o.Keys)
	}
	problems := s.EnvProblems(v.Load())
	var named []string
	for _, p := range problems {
		named = append(named, p.Key)
	}
	if !slices.Equal(named, []string{"extra", "hosts", "level", "name", "ratio", "verbose", "workers"}) {
		t.Errorf("problems %v", named)
	}
	text := EnvError(problems).Error()
	if !strings.Contains(text, "E_WORKERS is not served as workers of svc, which must be an integer from 1 to 8") {
		t.Errorf("health says %q", text)
	}
	if strings.Contains(text+log.String(), "s3cr3t") {
		t.Error("the text of a variable is shown")
	}
	logged := strings.Count(log.String(), "E_WORKERS")
	s.Overlay(rec)
	if strings.Count(log.String(), "E_WORKERS") != logged || logged != 1 {
		t.Errorf("the same problem is logged %d times, then again", logged)
	}
	fixed := *rec
	fixed.Schema, fixed.Version = []byte(`{}`), 3
	s.Overlay(&fixed)
	if len(s.problems.by) != 0 {
		t.Error("the problem stays after the schema lost its variables")
	}
	if n := strings.Count(log.String(), alarm.VariableUnfit.End); n != len(problems) {
		t.Errorf("%d ends of %d alarms:\n%s", n, len(problems), log)
	}
}

// A secret that cannot be opened is an alarm until it can be, or is gone.
func TestAlarmOfASecret(t *testing.T) {
	s, rec, log := newOverlaid(t, nil)
	s.own = "svc"
	sealed := *rec
	sealed.Secrets = []conf.SealedSecret{{Key: "api_key", KeyID: "unknown"}}
	for range 2 {
		s.Values("svc", &sealed)
	}
	if n := strings.Count(log.String(), alarm.SecretNotServed.Text); n != 1 || !s.IsIncomplete(&sealed) {
		t.Errorf("logged %d times:\n%s", n, log)
	}
	for range 2 {
		s.Values("svc", rec)
	}
	if n := strings.Count(log.String(), alarm.SecretNotServed.End); n != 1 || s.IsIncomplete(rec) {
		t.Errorf("%d ends:\n%s", n, log)
	}
}

// Most schemas are not compiled for what they cannot have.
func TestMayReadEnv(t *testing.T) {
	for text, want := range map[string]bool{
		``:                                 false,
		`{"type":"object"}`:                false,
		`{"x-":1,"x-complexity":"simple"}`: false,
		`{"a":{"x-env":"A"}}`:              true,
		`{"x-help":"x-env","x-secret":true,"x-secret-source":"env"}`: true,
		`{"x-environment":1}`: false,
		`{"x-env`:             false,
	} {
		if got := mayReadEnv([]byte(text)); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
}
