package agent_test

import (
	"database/sql"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/agent"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// startLogged starts an agent whose log is kept.
func startLogged(t *testing.T, o options.Options) (*testenv.InProcess, *testenv.Transcript) {
	t.Helper()
	log := testenv.NewTranscript()
	a, err := agent.New(t.Context(), o, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return testenv.RunAgent(t, o, a), log
}

// mismatched makes the database name other schemas than those that it holds.
func mismatched(t *testing.T, o options.Options) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+o.DBPath+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`UPDATE schema_version SET model_hash = 'f' || substr(model_hash, 2) || 'f'`); err != nil {
		t.Fatal(err)
	}
}

// Stored schemas that do not match their hash are no dead end while the log is there. The
// log says when it is over.
func TestSchemaMismatchIsHealedFromTheLog(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	r := start(t, o).ready()
	if code, body := r.set("42"); code != 200 {
		t.Fatal(body)
	}
	epoch := r.Health().ConfigEpoch
	r.Stop()
	mismatched(t, o)
	a, log := startLogged(t, o)
	a.Await("a healthy database", func() bool { h := a.Health(); return h.OK && h.DatabaseStatus == conf.DatabaseHealthy })
	if h := a.Health(); h.ConfigEpoch != epoch || h.Event == nil || *h.Event != "database restored from the log" {
		t.Errorf("epoch %s before; health is %+v", epoch, h)
	}
	a.Await("the all-clear", func() bool { return log.Has(alarm.DatabaseDamaged.End) })
	if !log.Has("model hash") || !log.Has(alarm.DatabaseDamaged.Text) {
		t.Errorf("the log:\n%s", log)
	}
}

// Without the log the database is rebuilt by the command that the hint names.
func TestSchemaMismatchAndNoLog(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	r := start(t, o).ready()
	if code, body := r.set("42"); code != 200 {
		t.Fatal(body)
	}
	r.Stop()
	mismatched(t, o)
	for _, path := range []string{o.RaftDir(), o.LKGPath} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	a, log := startLogged(t, o)
	a.Await("the mismatch in health", func() bool { return a.Health().DatabaseStatus == conf.DatabaseSchemaMismatch })
	if h := a.Health(); h.OperationalMode != conf.ModeReadOnly || h.OK {
		t.Errorf("%+v", h)
	}
	a.Await("the way out in the log", func() bool { return log.Has("POST /api/config/rebuild") })
	code, _, body := a.Call("POST", a.Info().AdminURL+"/api/config/rebuild", `{"token":"`+testenv.RebuildToken+`"}`)
	if code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	a.AwaitReady()
	a.Await("the all-clears", func() bool { return log.Has(alarm.ReplicaDown.End) && log.Has(alarm.ServesDefaults.End) })
	if strings.Count(log.String(), alarm.ReplicaDown.Text) != 1 || strings.Count(log.String(), alarm.ServesDefaults.Text) != 1 {
		t.Errorf("the log:\n%s", log)
	}
}

// A database that is deleted under a running agent is an error in the log, once, and
// its end is there too.
func TestAllClearAfterALostDatabase(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	a, log := startLogged(t, o)
	a.AwaitReady()
	if log.Has(alarm.ReplicaDown.End) {
		t.Errorf("an all-clear without a fault:\n%s", log)
	}
	for _, path := range []string{o.DBPath, o.DBPath + "-wal", o.DBPath + "-shm"} { // as the step of the README does
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	a.Await("the all-clear", func() bool { return log.Has(alarm.ReplicaDown.End) })
	if !a.Health().OK || !log.Has("level=ERROR") {
		t.Errorf("health is %+v; the log:\n%s", a.Health(), log)
	}
}
