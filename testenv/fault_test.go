package testenv

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// prepared is an agent whose services somebody has changed, and what it serves.
// What it serves stays signed as it is, however long the test takes.
func prepared(t *testing.T, env ...string) (*Agent, State) {
	t.Helper()
	a := StartProcess(t, append([]string{"CONFIG_MQTT_REISSUE=0"}, env...)...)
	a.Patch("stt-worker", `{"whisper_model":"small.en","vad_threshold":0.6}`)
	a.Patch("tts-worker", `{"volume_percent":80}`)
	a.Patch("stt-worker", `{"vad_threshold":0.7}`)
	return a, a.State()
}

// requireReadOnly wants every way of writing refused, clearly.
func requireReadOnly(t *testing.T, a *Agent) {
	t.Helper()
	for _, write := range [][3]string{
		{"PATCH", "/api/config/services/stt-worker", `{"vad_threshold":0.1}`},
		{"PUT", "/api/config/services/stt-worker", `{"service":"stt-worker","config":{},"version":3}`},
		{"DELETE", "/api/config/services/stt-worker", ""},
	} {
		r := a.Admin(write[0], write[1], write[2]).Want(t, http.StatusServiceUnavailable, conf.CodeReadOnly)
		if r.Failure().Hint == "" {
			t.Errorf("%s %s: the refusal has no hint: %s", write[0], write[1], r)
		}
	}
}

func readOnly(h conf.Health) bool { return h.OperationalMode == conf.ModeReadOnly }

// TestColdStartFromLKG starts an agent that has nothing left but its
// last-known-good file.
func TestColdStartFromLKG(t *testing.T) {
	t.Parallel()
	a, want := prepared(t)
	a.Stop()
	a.WreckReplica()

	a.Start()
	want.Require(t, a, "lkg", false)
	h := a.AwaitHealth("the agent to say that it only reads, and why", func(h conf.Health) bool { return readOnly(h) && h.Err != nil })
	if h.OK || h.DatabaseStatus == conf.DatabaseHealthy || !h.LKGCacheValid {
		t.Errorf("health of an agent without its database: %s", jsonText(h))
	}
	if h.ConfigEpoch != want["stt-worker"].Metadata.Epoch {
		t.Errorf("epoch %s, want that of the file", h.ConfigEpoch)
	}
	requireReadOnly(t, a)
	a.Local("/readyz").OK(t)
	want.Require(t, a, "lkg", false)

	a.Kill()
	a.Start() // the file has not been touched by the fault
	want.Require(t, a, "lkg", false)
}

// TestRebuildByHand asks for the rebuild that an agent does not do on its own.
func TestRebuildByHand(t *testing.T) {
	t.Parallel()
	a, want := prepared(t)
	a.Stop()
	a.WreckReplica()
	a.Start()
	a.AwaitHealth("the agent to say that it only reads", readOnly)
	for _, body := range []string{`{}`, `{"token":""}`, `{"token":"wrong"}`, `{"token":"` + WriteToken + `"}`} {
		r := a.Admin("POST", "/api/config/rebuild", body)
		if r.Status != http.StatusForbidden || r.Failure().Code != conf.CodeDenied {
			t.Errorf("rebuild with %s: %s", body, r)
		}
	}
	a.AwaitHealth("the agent to be as it was", readOnly)
	// As the quickstart has it: no X-API-Token.
	Do("POST", "http://"+a.AdminAddr+"/api/config/rebuild", `{"token":"`+RebuildToken+`"}`, "Content-Type: application/json").OK(t)
	requireRebuilt(t, a, want)
}

// TestAutoRebuild lets the agent do it alone.
func TestAutoRebuild(t *testing.T) {
	t.Parallel()
	a, want := prepared(t, "ALLOW_AUTO_REBUILD=1")
	a.Stop()
	a.WreckReplica()
	a.Start()
	requireRebuilt(t, a, want)
	a.Restart()
	requireRebuilt(t, a, want)
}

// requireRebuilt wants a new epoch that holds what the last-known-good file proved.
func requireRebuilt(t *testing.T, a *Agent, before State) {
	t.Helper()
	a.AwaitNormal()
	a.AwaitSource("stt-worker", "replica")
	old := before["stt-worker"].Metadata.Epoch
	before.Require(t, a, "replica", true)
	epoch := a.Document("stt-worker").Metadata.Epoch
	for name, d := range a.State() {
		if d.Metadata.Epoch == old || d.Metadata.Epoch != epoch {
			t.Errorf("%s is in epoch %s; the lost one was %s, the new one is %s", name, d.Metadata.Epoch, old, epoch)
		}
	}
	if h, _ := a.Health(); h.ConfigEpoch != epoch {
		t.Errorf("health names epoch %s, want %s", h.ConfigEpoch, epoch)
	}
	Await(t, "health+epoch.json to name the new epoch", func() bool { return a.EpochFile().ConfigEpoch == epoch })
	if e := a.EpochFile(); e.LastRebuild == nil {
		t.Errorf("health+epoch.json does not tell of the rebuild: %s", jsonText(e))
	}
	info, err := os.ReadFile(a.Path("rebuild.info"))
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(info) || !strings.Contains(string(info), epoch) || !strings.Contains(string(info), old) {
		t.Errorf("rebuild.info does not name both epochs: %s", info)
	}
	v := a.Patch("stt-worker", `{"channels":2}`)
	if got := a.Document("stt-worker").Metadata.Version; got != v {
		t.Errorf("version %d after the write of version %d", got, v)
	}
	a.Patch("stt-worker", `{"channels":null}`)
}

// hold makes another process take the database for itself until it is killed.
func hold(t *testing.T, a *Agent) *Process {
	t.Helper()
	Need(t, "python3")
	p := Spawn(t, a.Dir, nil, "python3", "-c", `
import sqlite3, sys, time
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
c.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
time.sleep(600)
`, a.DB())
	Await(t, "the other process to hold the database", func() bool { return p.Transcript().Has("held") })
	return p
}

// TestDatabaseLocked has another process hold the database: while the agent runs,
// and while it starts.
func TestDatabaseLocked(t *testing.T) {
	t.Parallel()
	a, want := prepared(t)
	locked := func(h conf.Health) bool { return h.DatabaseStatus == conf.DatabaseLocked && readOnly(h) }

	holder := hold(t, a)
	// The write that meets the lock does not enter the log, where it would have no outcome.
	a.Admin("PATCH", "/api/config/services/router", `{"router_stream_min_chars":31}`).Want(t, http.StatusServiceUnavailable, conf.CodeReadOnly)
	h := a.AwaitHealth("the agent to say that the database is locked", locked)
	if h.OK {
		t.Errorf("health is ok with a locked database: %s", jsonText(h))
	}
	want.Require(t, a, "replica", false) // from memory
	requireReadOnly(t, a)
	holder.Kill()
	a.AwaitNormal()
	if d := a.Document("router"); d.Values["router_stream_min_chars"] == json.Number("31") {
		t.Errorf("a write was refused while the database was locked, and is there: %s", d.Config)
	}
	for _, text := range []string{alarm.DatabaseHeld.Text, alarm.DatabaseHeld.End} {
		Await(t, text, func() bool { return strings.Contains(a.Log(), text) })
	}
	a.Patch("router", `{"router_stream_min_chars":32}`)

	want = a.State()
	a.Stop() // so that the last-known-good file is as new as the database
	holder = hold(t, a)
	a.Start()
	want.Require(t, a, "lkg", false)
	a.AwaitHealth("the agent to say that the database is locked", locked)
	requireReadOnly(t, a)
	want.Require(t, a, "lkg", false)
	holder.Kill()
	a.AwaitNormal()
	a.AwaitSource("stt-worker", "replica")
	want.Require(t, a, "replica", false)
}

// TestDatabaseDeleted removes the file, under a running agent and under a stopped
// one. The log has all of it: nothing is lost, and the epoch stays.
func TestDatabaseDeleted(t *testing.T) {
	t.Parallel()
	a, _ := prepared(t)

	a.RemoveDB()
	Await(t, "the agent to take a write into a database that exists", func() bool {
		r := a.Admin("PATCH", "/api/config/services/router", `{"router_stream_min_chars":33}`)
		if r.Err != nil || (r.Status != http.StatusOK && r.Status/100 != 5) {
			t.Fatalf("a write after the database was deleted: %s", r)
		}
		_, err := os.Stat(a.DB())
		return r.Status == http.StatusOK && err == nil
	})
	a.AwaitNormal()
	a.AwaitSource("router", "replica")
	want := a.State()
	if got := want["router"].Values["router_stream_min_chars"]; got != json.Number("33") {
		t.Fatalf("router_stream_min_chars is %v after the write of 33", got)
	}
	a.Restart()
	a.AwaitSource("router", "replica")
	want.Require(t, a, "replica", false)

	a.AwaitLKG(want)
	a.Kill()
	a.RemoveDB()
	a.Start()
	want.RequireHealing(t, a)
	a.AwaitNormal()
	a.AwaitSource("router", "replica")
	want.Require(t, a, "replica", false)
	a.Patch("router", `{"router_stream_min_chars":34}`)
}
