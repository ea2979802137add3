package agent_test

import (
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// A file of the schema directory that cannot be loaded is named, and holds up no other.
func TestSchemaDirectoryWithBadFiles(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	o.MQTTAddr = "127.0.0.1:0"
	bad := map[string]string{"Wrong_Name.json": testenv.Demo, "damaged.json": "{", "no-schema.json": `{"type":7}`}
	write := func(dir string) {
		t.Helper()
		for name, data := range bad {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(o.SchemaDir)
	if err := os.WriteFile(filepath.Join(o.SchemaDir, "zeta.json"), []byte(testenv.Demo), 0o600); err != nil {
		t.Fatal(err)
	}
	names := func(h conf.Health, want ...string) {
		t.Helper()
		if h.OK || h.OperationalMode != conf.ModeNormal || h.Err == nil {
			t.Fatalf("health %+v", h)
		}
		for _, name := range want {
			if !strings.Contains(*h.Err, name) {
				t.Errorf("%s is not named: %s", name, *h.Err)
			}
		}
		if strings.Contains(*h.Err, o.SchemaDir) {
			t.Errorf("a path of this host: %s", *h.Err)
		}
	}
	r := start(t, o).ready()
	for _, service := range []string{"demo", "zeta"} {
		if code, _, body := r.Call("GET", r.Info().LocalURL+"/v1/config/"+service, ""); code != http.StatusOK {
			t.Errorf("%s was not loaded: %d %s", service, code, body)
		}
	}
	names(r.Health(), "Wrong_Name.json", "damaged.json", "no-schema.json")

	oo := testenv.Options(t, map[string]string{
		"CONFIG_ROLE": "observer", "CONFIG_SERVICE_NAME": "demo",
		"CONFIG_TRUST":       base64.StdEncoding.EncodeToString(r.Rooms().Keys.Set().Public),
		"CONFIG_OBSERVE_URL": "mqtt://" + r.Rooms().Broker.Addr().String(),
	})
	write(oo.SchemaDir)
	b := observe(t, oo)
	b.serves("1", "replica")
	b.Await("normal mode", func() bool { return b.Health().OperationalMode == conf.ModeNormal })
	names(b.Health(), "Wrong_Name.json", "damaged.json")

	// Corrected, all is well again.
	r.Stop()
	for name := range bad {
		if err := os.Remove(filepath.Join(o.SchemaDir, name)); err != nil {
			t.Fatal(err)
		}
	}
	corrected, log := startLogged(t, o)
	corrected.Await("all to be well", func() bool { h := corrected.Health(); return h.OK && h.Err == nil && log.Has(alarm.SchemasUnread.End) })
}

// A new schema that does not accept the stored values is a schema-mismatch, as the seed
// has it: read-only-fallback in health, with the way out. Each way out ends it.
func TestNewSchemaAgainstStoredValues(t *testing.T) {
	t.Parallel()
	const stricter = `{"type":"object","additionalProperties":false,"properties":{"level":{"type":"integer","maximum":10,"default":1}}}`
	for name, wayOut := range map[string]func(t *testing.T, r *running, file string){
		"the values change": func(_ *testing.T, r *running, _ string) {
			if code, body := r.set("5"); code != http.StatusOK {
				r.T.Fatalf("%d %s", code, body)
			}
		},
		"schema and values at once": func(t *testing.T, r *running, _ string) {
			code, _, body := r.Call("PUT", r.Info().AdminURL+"/api/config/services/demo", `{"service":"demo","config":{"level":6},"schema":`+stricter+`,"version":2}`, "X-API-Token", testenv.WriteToken)
			if code != http.StatusOK {
				t.Fatalf("%d %s", code, body)
			}
		},
		"the file is corrected": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := testenv.Options(t, nil)
			r := start(t, o).ready()
			if code, body := r.set("42"); code != http.StatusOK {
				t.Fatal(body)
			}
			r.Stop()
			file := filepath.Join(o.SchemaDir, "demo.json")
			if err := os.WriteFile(file, []byte(stricter), 0o600); err != nil {
				t.Fatal(err)
			}
			r = start(t, o)
			r.Await("the mismatch in health", func() bool {
				h := r.Health()
				return h.DatabaseStatus == conf.DatabaseSchemaMismatch && *h.Event == "started"
			})
			h := r.Health()
			if h.OK || h.OperationalMode != conf.ModeReadOnly || h.Err == nil || !strings.Contains(*h.Err, "demo") || !strings.Contains(*h.Err, "holdfast schema put demo") {
				t.Errorf("health %+v %v", h, h.Err)
			}
			if code, _, body := r.Call("GET", r.Info().LocalURL+"/v1/config/demo/level", ""); code != http.StatusOK || !strings.Contains(body, "42") {
				t.Errorf("reads: %d %s", code, body)
			}
			if wayOut == nil {
				r.Stop()
				if err := os.WriteFile(file, []byte(testenv.Demo), 0o600); err != nil {
					t.Fatal(err)
				}
				r = start(t, o).ready()
			} else {
				wayOut(t, r, file)
			}
			r.Await("all to be well", func() bool { h := r.Health(); return h.OK && h.DatabaseStatus == conf.DatabaseHealthy && h.Err == nil })
		})
	}
}
