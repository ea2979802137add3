package agent

import (
	"context"
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/agent/observer"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// observing is an observer in this process.
type observing struct {
	*observer.Observer
	t    *testing.T
	stop context.CancelFunc
	done chan error
}

func observe1(t *testing.T, o options.Options) *observing {
	t.Helper()
	b, err := observer.New(o, slog.New(slog.NewTextHandler(testLog{t}, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &observing{Observer: b, t: t, stop: cancel, done: make(chan error, 1)}
	go func() { r.done <- b.Run(ctx) }()
	t.Cleanup(r.halt)
	return r
}

func (r *observing) halt() {
	r.stop()
	if r.done == nil {
		return
	}
	if err := <-r.done; err != nil {
		r.t.Errorf("Run: %v", err)
	}
	r.done = nil
	http.DefaultClient.CloseIdleConnections()
}

func (r *observing) get(path string) (int, http.Header, string) {
	r.t.Helper()
	resp, err := http.Get(r.LocalURL() + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(data)
}

func (r *observing) await(what string, cond func() bool) {
	r.t.Helper()
	deadline := time.NewTimer(testenv.Patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			r.t.Fatalf("never: %s; health %+v", what, r.Health())
		}
	}
}

func (r *observing) serves(level, source string) {
	r.t.Helper()
	r.await("level "+level+" from "+source, func() bool {
		_, h, body := r.get("/v1/config/demo/level")
		return body == level && h.Get("X-Config-Source") == source
	})
}

// TestObserverOverTLS follows an embedded broker with a certificate of its own CA and
// a password, and comes back from a last-known-good file that somebody changed.
func TestObserverOverTLS(t *testing.T) {
	o := testOptions(t, map[string]string{"CONFIG_MQTT_USER": "observers", "CONFIG_MQTT_PASSWORD": "pass word"})
	o.MQTTAddr = "127.0.0.1:0"
	dir := t.TempDir()
	o.MQTTCert, o.MQTTKey = filepath.Join(dir, "mqtt.pem"), filepath.Join(dir, "mqtt.key")
	writePair(t, o.MQTTCert, o.MQTTKey, 1)
	member := start(t, o).ready()
	if code, body := member.set("42"); code != 200 {
		t.Fatal(code, body)
	}
	trust := base64.StdEncoding.EncodeToString(member.rooms.keys.Set().Public)
	env := map[string]string{
		"CONFIG_ROLE": "observer", "CONFIG_SERVICE_NAME": "demo", "CONFIG_TRUST": trust, "MQTT_CA_FILE": o.MQTTCert,
		"CONFIG_OBSERVE_URL": "mqtts://observers:pass%20word@" + member.broker.Addr().String(),
	}
	oo := testOptions(t, env)
	r := observe1(t, oo)
	r.serves("42", "replica")
	r.await("the word that it is connected, which may come after the value", func() bool { h := r.Health(); return h.OK && h.Err == nil })
	if h := r.Health(); h.OperationalMode != conf.ModeNormal || h.ConfigEpoch != member.Health().ConfigEpoch {
		t.Errorf("health %+v", h)
	}
	if code, _, body := r.get("/readyz"); code != http.StatusOK {
		t.Errorf("not ready: %s", body)
	}
	r.halt()

	// Alone, with its file.
	member.halt()
	r = observe1(t, oo)
	r.serves("42", "lkg")
	r.halt()

	// Alone, with a file that was changed: what the schemas say, and a loud word.
	data, err := os.ReadFile(oo.LKGPath)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(oo.LKGPath, []byte(strings.Replace(string(data), `"level":42`, `"level":43`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	r = observe1(t, oo)
	r.serves("1", "default")
	if h := r.Health(); h.OK || h.LKGCacheValid || h.Err == nil || !strings.Contains(*h.Err, "HMAC") {
		t.Errorf("health %+v", h)
	}
	if code, _, body := r.get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "demo") {
		t.Errorf("ready with nothing proven: %d %s", code, body)
	}
	r.halt()

	// The cluster is back: so is the truth, and a good file.
	member = start(t, o).ready()
	env["CONFIG_OBSERVE_URL"] = "mqtts://observers:pass%20word@" + member.broker.Addr().String()
	again := testOptions(t, env)
	again.DataDir, again.LKGPath, again.EnvFile = oo.DataDir, oo.LKGPath, oo.EnvFile
	r = observe1(t, again)
	r.serves("42", "replica")
	r.await("a good file", func() bool { return r.Health().OK })
}

// TestLeftEpochStaysLeft puts the files of before a rebuild back under an agent whose
// last-known-good file knows that they are of the past.
func TestLeftEpochStaysLeft(t *testing.T) {
	o := testOptions(t, nil)
	r := start(t, o).ready()
	if code, body := r.set("7"); code != 200 {
		t.Fatal(code, body)
	}
	r.halt()
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
	if err := r.backend.Rebuild(t.Context(), "rebuild-me-please-0123456789"); err != nil {
		t.Fatal(err)
	}
	if code, body := r.set("8"); code != 200 {
		t.Fatal(code, body)
	}
	now := r.Health().ConfigEpoch
	changes := r.replicas.EpochChanges()
	if len(changes) != 1 || changes[0].Previous != left || changes[0].Epoch != now {
		t.Errorf("the changes of the epoch are %+v", changes)
	}
	r.halt()
	for _, f := range files {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.RemoveAll(f + suffix); err != nil {
				t.Fatal(err)
			}
		}
		move(filepath.Join(kept, filepath.Base(f)), filepath.Dir(f))
	}
	r = start(t, o)
	r.await("the old files to be refused", func() bool {
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
