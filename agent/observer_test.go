package agent_test

import (
	"encoding/base64"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// observing is an observer in this process, with what these tests ask of it.
type observing struct{ *testenv.ObserverInProcess }

func observe(t *testing.T, o options.Options) *observing {
	t.Helper()
	return &observing{testenv.StartObserver(t, o)}
}

func (r *observing) get(path string) (int, http.Header, string) {
	r.T.Helper()
	a := testenv.Do("GET", r.LocalURL()+path, "")
	if a.Err != nil {
		r.T.Fatal(a.Err)
	}
	return a.Status, a.Header, string(a.Body)
}

func (r *observing) serves(level, source string) {
	r.T.Helper()
	r.Await("level "+level+" from "+source, func() bool {
		_, h, body := r.get("/v1/config/demo/level")
		return body == level && h.Get("X-Config-Source") == source
	})
}

// TestObserverOverTLS follows an embedded broker with a certificate of its own CA and
// a password, and comes back from a last-known-good file that somebody changed.
func TestObserverOverTLS(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, map[string]string{"CONFIG_MQTT_USER": "observers", "CONFIG_MQTT_PASSWORD": "pass word"})
	o.MQTTAddr = "127.0.0.1:0"
	dir := t.TempDir()
	o.MQTTCert, o.MQTTKey = filepath.Join(dir, "mqtt.pem"), filepath.Join(dir, "mqtt.key")
	writePair(t, o.MQTTCert, o.MQTTKey, 1)
	member := start(t, o).ready()
	if code, body := member.set("42"); code != 200 {
		t.Fatal(code, body)
	}
	trust := base64.StdEncoding.EncodeToString(member.Rooms().Keys.Set().Public)
	env := map[string]string{
		"CONFIG_ROLE": "observer", "CONFIG_SERVICE_NAME": "demo", "CONFIG_TRUST": trust, "MQTT_CA_FILE": o.MQTTCert,
		"CONFIG_OBSERVE_URL": "mqtts://observers:pass%20word@" + member.Rooms().Broker.Addr().String(),
	}
	oo := testenv.Options(t, env)
	r := observe(t, oo)
	r.serves("42", "replica")
	r.Await("the word that it is connected, which may come after the value", func() bool { h := r.Health(); return h.OK && h.Err == nil })
	if h := r.Health(); h.OperationalMode != conf.ModeNormal || h.ConfigEpoch != member.Health().ConfigEpoch {
		t.Errorf("health %+v", h)
	}
	if code, _, body := r.get("/readyz"); code != http.StatusOK {
		t.Errorf("not ready: %s", body)
	}
	r.Stop()

	// Alone, with its file.
	member.Stop()
	r = observe(t, oo)
	r.serves("42", "lkg")
	r.Stop()

	// Alone, with a file that was changed: what the schemas say, and a loud word.
	data, err := os.ReadFile(oo.LKGPath)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(oo.LKGPath, []byte(strings.Replace(string(data), `"level":42`, `"level":43`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	r = observe(t, oo)
	r.serves("1", "default")
	if h := r.Health(); h.OK || h.LKGCacheValid || h.Err == nil || !strings.Contains(*h.Err, "HMAC") {
		t.Errorf("health %+v", h)
	}
	if code, _, body := r.get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "demo") {
		t.Errorf("ready with nothing proven: %d %s", code, body)
	}
	r.Stop()

	// The cluster is back: so is the truth, and a good file.
	member = start(t, o).ready()
	env["CONFIG_OBSERVE_URL"] = "mqtts://observers:pass%20word@" + member.Rooms().Broker.Addr().String()
	again := testenv.Options(t, env)
	again.DataDir, again.LKGPath, again.EnvFile = oo.DataDir, oo.LKGPath, oo.EnvFile
	r = observe(t, again)
	r.serves("42", "replica")
	r.Await("a good file", func() bool { return r.Health().OK })
}

// TestLeftEpochStaysLeft puts the files of before a rebuild back under an agent whose
// last-known-good file knows that they are of the past.
func TestLeftEpochStaysLeft(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	r := start(t, o).ready()
	if code, body := r.set("7"); code != 200 {
		t.Fatal(code, body)
	}
	r.Stop()
	kept := t.TempDir()
	files := []string{o.DBPath, o.RaftDir()}
	move := func(from, to string) {
		t.Helper()
		if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for _, f := range files {
		move(f, kept)
	}
	r = start(t, o).ready()
	left := r.Health().ConfigEpoch
	if err := r.Rooms().Backend.Rebuild(t.Context(), testenv.RebuildToken); err != nil {
		t.Fatal(err)
	}
	if code, body := r.set("8"); code != 200 {
		t.Fatal(code, body)
	}
	now := r.Health().ConfigEpoch
	changes := r.Rooms().Replicas.EpochChanges()
	if len(changes) != 1 || changes[0].Previous != left || changes[0].Epoch != now {
		t.Errorf("the changes of the epoch are %+v", changes)
	}
	r.Stop()
	for _, f := range files {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.RemoveAll(f + suffix); err != nil {
				t.Fatal(err)
			}
		}
		move(filepath.Join(kept, filepath.Base(f)), filepath.Dir(f))
	}
	r = start(t, o)
	r.Await("the old files to be refused", func() bool {
		h := r.Health()
		return h.Err != nil && strings.Contains(*h.Err, "which this agent has left")
	})
	if v, src := r.level(); v != "8" || src != "lkg" {
		t.Errorf("it serves %s from %s", v, src)
	}
	if h := r.Health(); h.ConfigEpoch != now {
		t.Errorf("it tells the epoch %s, not %s", h.ConfigEpoch, now)
	}
}
