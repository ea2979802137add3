package agent_test

import (
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/testenv"
)

// Names that only x-keys admits go through MQTT: an observer has them from the signed
// updates alone, and follows a change of one.
func TestNamesOfAnyKindOverMQTT(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	o.MQTTAddr = "127.0.0.1:0"
	const schema = `{"type":"object","x-keys":"any","properties":{"maxRetries":{"type":"integer","default":3},
		"log-level":{"type":"string","default":"info"},"$schema":{"type":"string","default":"x"},
		"Image":{"type":"object","default":{},"properties":{"pullPolicy":{"type":"string","default":"Always"}}}}}`
	if err := os.WriteFile(filepath.Join(o.SchemaDir, "helm.json"), []byte(schema), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, o).ready()
	b := observe(t, testenv.Options(t, map[string]string{
		"CONFIG_ROLE": "observer", "CONFIG_SERVICE_NAME": "helm",
		"CONFIG_TRUST":       base64.StdEncoding.EncodeToString(r.Rooms().Keys.Set().Public),
		"CONFIG_OBSERVE_URL": "mqtt://" + r.Rooms().Broker.Addr().String(),
	}))
	reads := func(key, want string) {
		t.Helper()
		b.Await(key+" to be "+want, func() bool {
			code, _, body := b.get("/v1/config/helm/" + key + "?raw")
			return code == http.StatusOK && strings.TrimSpace(body) == want
		})
	}
	for key, want := range map[string]string{"maxRetries": "3", "log-level": "info", "%24schema": "x", "Image.pullPolicy": "Always"} {
		reads(key, want)
	}
	code, _, body := r.Call("PATCH", r.Info().AdminURL+"/api/config/services/helm",
		`{"maxRetries":9,"Image":{"pullPolicy":"Never"}}`, "X-API-Token", testenv.WriteToken)
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	reads("maxRetries", "9")
	reads("Image.pullPolicy", "Never")
}

// Each admin route that takes a key takes it percent-encoded.
func TestNamesOfAnyKindInAdminPaths(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	const schema = `{"type":"object","x-keys":"any","properties":{"$Api-Key":{"type":"string","x-secret":true,"x-secret-source":"database"}}}`
	if err := os.WriteFile(filepath.Join(o.SchemaDir, "helm.json"), []byte(schema), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, o).ready()
	const key = "%24Api%2DKey"
	for _, c := range [][4]string{
		{"PUT", "/services/helm/secrets/" + key, `{"value":"hunter2"}`, `"success":true`},
		{"GET", "/services/helm/secrets", "", `"$Api-Key"`},
		{"POST", "/services/helm/secrets/" + key + "/reveal", `{"reason":"a test"}`, "hunter2"},
		{"GET", "/history?service=helm&key=" + key, "", "$Api-Key"},
		{"DELETE", "/services/helm/secrets/" + key, "", `"success":true`},
	} {
		code, _, body := r.Call(c[0], r.Info().AdminURL+"/api/config"+c[1], c[2], "X-API-Token", testenv.WriteToken)
		if code != http.StatusOK || !strings.Contains(strings.ReplaceAll(body, `": `, `":`), c[3]) {
			t.Errorf("%s %s: %d %s", c[0], c[1], code, body)
		}
	}
}
