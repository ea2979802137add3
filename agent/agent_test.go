package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/agent"
	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/recovery"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/view"
	"github.com/holdfast-config/holdfast/testenv"
)

// The tests wait for elections most of the time, so more of them run at once than there
// are processors. -parallel on the command line is stronger.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	os.Exit(testenv.NoLeaks(m))
}

// running is an agent in this process, with what these tests ask of it.
type running struct{ *testenv.InProcess }

// start runs an agent and returns at once; ready waits for normal mode.
func start(t *testing.T, o options.Options) *running {
	t.Helper()
	return &running{testenv.StartAgent(t, o)}
}

// run runs an agent that was made.
func run(t *testing.T, o options.Options, a *agent.Agent) *running {
	t.Helper()
	return &running{testenv.RunAgent(t, o, a)}
}

func (r *running) ready() *running {
	r.T.Helper()
	r.AwaitReady()
	return r
}

func (r *running) set(level string) (int, string) {
	r.T.Helper()
	code, _, body := r.Call("PATCH", r.Info().AdminURL+"/api/config/services/demo", `{"level":`+level+`}`, "X-API-Token", testenv.WriteToken)
	return code, body
}

// setOnce is set for who wants to hear that nobody leads.
func (r *running) setOnce(level string) (int, string) {
	r.T.Helper()
	code, _, body := r.Once("PATCH", r.Info().AdminURL+"/api/config/services/demo", `{"level":`+level+`}`, "X-API-Token", testenv.WriteToken)
	return code, body
}

// level is what a service reads: the value, and where it came from.
func (r *running) level() (string, string) {
	r.T.Helper()
	code, h, body := r.Call("GET", r.Info().LocalURL+"/v1/config/demo/level", "")
	if code != http.StatusOK {
		return "", body
	}
	return strings.TrimSpace(body), h.Get("X-Config-Source")
}

func TestWriteReadRestart(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	r := start(t, o).ready()
	epoch := r.Health().ConfigEpoch
	if code, body := r.set("42"); code != 200 || !strings.Contains(body, `"new_version":2`) {
		t.Fatalf("%d %s", code, body)
	}
	if v, src := r.level(); v != "42" || src != "replica" {
		t.Fatalf("%s from %s", v, src)
	}
	r.Stop()

	r = start(t, o)
	if v, src := r.level(); v != "42" || (src != "lkg" && src != "replica") {
		t.Fatalf("at once after the restart: %q from %q", v, src)
	}
	r.ready()
	if v, src := r.level(); v != "42" || src != "replica" || r.Health().ConfigEpoch != epoch {
		t.Fatalf("%s from %s", v, src)
	}
	if h := r.Health(); !h.OK || !h.LKGCacheValid || h.DatabaseStatus != conf.DatabaseHealthy {
		t.Fatalf("%+v", h)
	}
	f, err := lkg.ReadEpoch(o.EpochPath)
	if err != nil || f.ConfigEpoch != epoch || f.LastRebuild != nil {
		t.Fatalf("%+v %v", f, err)
	}
}

// TestReadyStaysReady: an agent that was ready with its last-known-good file is
// ready when the replica takes over, too, before that has looked for new schemas.
func TestReadyStaysReady(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	start(t, o).ready().Stop()
	a, err := agent.New(t.Context(), o, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{view.SourceLKG, view.SourceReplica} {
		snap := a.Rooms().View.Load()
		if source != snap.Source {
			a.Rooms().View.Reset(source, snap.Epoch, snap.Index, nil)
		}
		if err := a.Rooms().Replicas.Serving(); err != nil {
			t.Errorf("with the values of %s: %v", source, err)
		}
	}
	run(t, o, a).ready()
}

func TestEnvSecretsStayInTheEnvironment(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	r := start(t, o).ready()
	if _, _, body := r.Call("GET", r.Info().LocalURL+"/v1/config/demo", ""); strings.Contains(body, "canary") || strings.Contains(body, "api_key") {
		t.Fatalf("a stranger got the secret: %s", body)
	}
	token, err := os.ReadFile(o.LocalTokenFile())
	if err != nil {
		t.Fatal(err)
	}
	_, _, body := r.Call("GET", r.Info().LocalURL+"/v1/config/demo", "", "X-Holdfast-Token", strings.TrimSpace(string(token)))
	if !strings.Contains(body, `"api_key":"canary-secret-value"`) {
		t.Fatalf("with the token: %s", body)
	}
	code, _, body := r.Call("PATCH", r.Info().AdminURL+"/api/config/services/demo", `{"api_key":"other"}`, "X-API-Token", testenv.WriteToken)
	if code != http.StatusConflict || !strings.Contains(body, `"code":"immutable"`) {
		t.Fatalf("%d %s", code, body)
	}
	r.Stop()
	err = filepath.WalkDir(o.DataDir, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(p)
		if bytes.Contains(data, []byte("canary-secret-value")) {
			t.Errorf("the secret stands in %s", p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDatabaseDeletedWhileRunning(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	r := start(t, o).ready()
	if code, body := r.set("7"); code != 200 {
		t.Fatal(body)
	}
	epoch := r.Health().ConfigEpoch
	if err := os.Remove(o.DBPath); err != nil {
		t.Fatal(err)
	}
	r.Await("a database again", func() bool { _, err := os.Stat(o.DBPath); return err == nil && r.Health().OK })
	if v, _ := r.level(); v != "7" || r.Health().ConfigEpoch != epoch {
		t.Fatalf("level %s, epoch %s", v, r.Health().ConfigEpoch)
	}
	if code, body := r.set("8"); code != 200 || !strings.Contains(body, `"new_version":3`) {
		t.Fatalf("%d %s", code, body)
	}
}

// damage makes the replica unusable: the database and the log it could be
// rebuilt from.
func damage(t *testing.T, o options.Options) {
	t.Helper()
	if err := os.RemoveAll(o.RaftDir()); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{o.DBPath + "-wal", o.DBPath + "-shm"} {
		_ = os.Remove(p)
	}
	if err := os.WriteFile(o.DBPath, bytes.Repeat([]byte("not a database "), 4096), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReadOnlyFallbackAndRebuildByHand(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	r := start(t, o).ready()
	if code, body := r.set("55"); code != 200 {
		t.Fatal(body)
	}
	epoch := r.Health().ConfigEpoch
	r.Stop()
	damage(t, o)

	r = start(t, o)
	r.Await("corrupted", func() bool { return r.Health().DatabaseStatus == conf.DatabaseCorrupted })
	h := r.Health()
	if h.OK || h.OperationalMode != conf.ModeReadOnly || h.ConfigEpoch != epoch || h.Err == nil {
		t.Fatalf("%+v", h)
	}
	if v, src := r.level(); v != "55" || src != "lkg" {
		t.Fatalf("%s from %s", v, src)
	}
	code, body := r.set("56")
	var e struct{ Code, Hint string }
	if err := json.Unmarshal([]byte(body), &e); err != nil || code != http.StatusServiceUnavailable || e.Code != "read_only" || e.Hint == "" {
		t.Fatalf("%d %s", code, body)
	}
	url := r.Info().AdminURL + "/api/config/rebuild"
	if code, _, body := r.Call("POST", url, `{"token":"wrong"}`); code != http.StatusForbidden {
		t.Fatalf("%d %s", code, body)
	}
	if code, _, body := r.Call("POST", url, `{"token":"`+testenv.RebuildToken+`"}`); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	if h := r.Health(); !h.OK || h.ConfigEpoch == epoch {
		t.Fatalf("%+v", h)
	}
	if v, src := r.level(); v != "55" || src != "replica" {
		t.Fatalf("%s from %s", v, src)
	}
	var info recovery.Info
	data, err := os.ReadFile(o.RebuildInfo())
	if err != nil || json.Unmarshal(data, &info) != nil || info.Source != "lkg" || info.OldEpoch != epoch || len(info.Services) != 1 {
		t.Fatalf("%s %v", data, err)
	}
	if q, _ := filepath.Glob(filepath.Join(o.DataDir, "quarantine", "*", "config.db")); len(q) != 1 {
		t.Fatalf("the damaged file was not kept: %v", q)
	}
	// The new store is an ordinary one.
	if code, body := r.set("56"); code != 200 {
		t.Fatal(body)
	}
	r.Stop()
	r = start(t, o).ready()
	if v, _ := r.level(); v != "56" {
		t.Fatal(v)
	}
	if f, err := lkg.ReadEpoch(o.EpochPath); err != nil || f.LastRebuild == nil || f.ConfigEpoch != r.Health().ConfigEpoch {
		t.Fatalf("%+v %v", f, err)
	}
}

// A rebuild of a healthy store keeps what was written up to its very moment.
func TestRebuildUnderWritesLosesNothing(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	r := start(t, o).ready()
	acked := make(chan []string, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		last := []string{"1"} // acknowledged, and then those of which nobody knows
		defer func() { acked <- last }()
		for i := 2; ctx.Err() == nil; i = i%100 + 1 {
			text := strconv.Itoa(i)
			switch code, _ := r.set(text); code {
			case http.StatusOK:
				last = []string{text}
			case http.StatusGatewayTimeout:
				last = append(last, text)
			}
		}
	}()
	first, _ := r.level()
	r.Await("traffic", func() bool { v, _ := r.level(); return v != first })
	code, _, body := r.Call("POST", r.Info().AdminURL+"/api/config/rebuild", `{"token":"`+testenv.RebuildToken+`"}`)
	cancel()
	want := <-acked
	if code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	if v, _ := r.level(); !slices.Contains(want, v) {
		t.Fatalf("acknowledged %s, served %s", want, v)
	}
}

func TestAutoRebuild(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	r := start(t, o).ready()
	if code, body := r.set("9"); code != 200 {
		t.Fatal(body)
	}
	epoch := r.Health().ConfigEpoch
	r.Stop()
	damage(t, o)
	o.AllowAutoRebuild = true
	r = start(t, o).ready()
	if v, _ := r.level(); v != "9" || r.Health().ConfigEpoch == epoch {
		t.Fatalf("level %s, epoch %s", v, r.Health().ConfigEpoch)
	}
}

// A rebuild that was killed between the new epoch and its filling is begun again.
func TestInterruptedRebuild(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	r := start(t, o).ready()
	if code, body := r.set("31"); code != 200 {
		t.Fatal(body)
	}
	r.Stop()
	good, err := os.ReadFile(o.LKGPath)
	if err != nil {
		t.Fatal(err)
	}
	// What such a kill leaves: an empty store of a new epoch, the old file, the marker.
	for _, p := range []string{o.DBPath, o.DBPath + "-wal", o.DBPath + "-shm", o.RaftDir(), o.LKGPath, o.EpochPath} {
		if err := os.RemoveAll(p); err != nil {
			t.Fatal(err)
		}
	}
	empty := o
	empty.SchemaDir = ""
	start(t, empty).ready().Stop()
	if err := os.WriteFile(o.LKGPath, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.RebuildPending(), []byte(`{"reason":"by hand"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	r = start(t, empty).ready()
	if v, src := r.level(); v != "31" || src != "replica" {
		t.Fatalf("%s from %s", v, src)
	}
	if _, err := os.Stat(o.RebuildPending()); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("the marker is still there")
	}
}

// The database and the log of last week, put back: acknowledged writes would be
// gone. The agent says so and serves what it proved, instead.
func TestOlderDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	start(t, o).ready().Stop()
	old := t.TempDir()
	copyInto := func(dst, src string) {
		t.Helper()
		if err := os.RemoveAll(dst); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(dst, os.DirFS(src)); err != nil {
			t.Fatal(err)
		}
	}
	copyInto(filepath.Join(old, "data"), o.DataDir)
	r := start(t, o).ready()
	if code, body := r.set("77"); code != 200 {
		t.Fatal(body)
	}
	r.Stop()
	newest, err := os.ReadFile(o.LKGPath)
	if err != nil {
		t.Fatal(err)
	}
	copyInto(o.DataDir, filepath.Join(old, "data"))
	if err := os.WriteFile(o.LKGPath, newest, 0o600); err != nil {
		t.Fatal(err)
	}
	r = start(t, o)
	r.Await("the older database refused", func() bool { return r.Health().DatabaseStatus == conf.DatabaseCorrupted })
	if v, src := r.level(); v != "77" || src != "lkg" {
		t.Fatalf("%s from %s", v, src)
	}
	if code, _ := r.set("78"); code != http.StatusServiceUnavailable {
		t.Fatalf("a write got %d", code)
	}
}

// Neither database nor last-known-good file: the schemas' defaults, and so marked.
func TestDefaultsWhenNothingIsLeft(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	r := start(t, o).ready()
	if code, body := r.set("9"); code != 200 {
		t.Fatal(body)
	}
	r.Stop()
	damage(t, o)
	data, err := os.ReadFile(o.LKGPath)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.LKGPath, bytes.Replace(data, []byte(`"level":9`), []byte(`"level":8`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	r = start(t, o)
	r.Await("defaults", func() bool { v, src := r.level(); return v == "1" && src == "default" })
	if h := r.Health(); h.OK || h.LKGCacheValid {
		t.Fatalf("%+v", h)
	}
	if code, _, _ := r.Call("GET", r.Info().LocalURL+"/readyz", ""); code != http.StatusServiceUnavailable {
		t.Fatalf("readyz %d", code)
	}
}

func TestRefusedAtStart(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	r := start(t, o).ready()
	if _, err := agent.New(t.Context(), o, slog.New(slog.DiscardHandler)); conf.CodeOf(err) != conf.CodeUsage || !strings.Contains(err.Error(), "another agent") {
		t.Fatalf("a second agent in the directory: %v", err)
	}
	taken := testenv.Options(t, nil)
	taken.LocalAddr = strings.TrimPrefix(r.Info().LocalURL, "http://")
	if _, err := agent.New(t.Context(), taken, slog.New(slog.DiscardHandler)); conf.CodeOf(err) != conf.CodeUsage || conf.HintOf(err) == "" {
		t.Fatalf("a port in use: %v", err)
	}
	bad := testenv.Options(t, map[string]string{"CONFIG_MASTER_KEY_BASE64": "CHANGEME_base64_encoded_32_bytes"})
	if _, err := agent.New(t.Context(), bad, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "CONFIG_MASTER_KEY_BASE64") {
		t.Fatalf("CHANGEME: %v", err)
	}
	readonly := testenv.Options(t, nil)
	readonly.EnvFile = filepath.Join(t.TempDir(), "file", ".env")
	if err := os.WriteFile(filepath.Dir(readonly.EnvFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := agent.New(t.Context(), readonly, slog.New(slog.DiscardHandler))
	lines, ok := errors.AsType[interface {
		error
		Lines() []string
	}](err)
	if !ok || len(lines.Lines()) == 0 {
		t.Fatalf("an .env that cannot be written: %v", err)
	}
}
