package testenv

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/agent"
	"github.com/holdfast-config/holdfast/agent/observer"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// CanarySecret is the value of the secret that the schema Demo reads from the environment. An
// agent in the test's process fails the test when it logs this or WriteToken.
const CanarySecret = "canary-secret-value"

// Demo is the schema of the service demo, the only one that Options has.
const Demo = `{"type":"object","additionalProperties":false,"properties":{
 "level":{"type":"integer","minimum":0,"maximum":100,"default":1},
 "api_key":{"type":"string","x-secret":true,"x-secret-source":"env","x-env":"DEMO_KEY"}}}`

// Options are those of an agent in the test's process, in a new directory and on free
// ports of its own. env is added to its settings.
func Options(t testing.TB, env map[string]string) options.Options {
	t.Helper()
	dir := t.TempDir()
	schemas := filepath.Join(dir, "schemas")
	if err := os.Mkdir(schemas, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(schemas, "demo.json"), []byte(Demo), 0o600); err != nil {
		t.Fatal(err)
	}
	all := settings(filepath.Join(dir, "data"), schemas, [3]int{})
	all["CONFIG_LOCAL_SOCKET"], all["CONFIG_MQTT_ADDR"], all["DEMO_KEY"] = "none", loopback(0), CanarySecret
	for name, value := range env {
		all[name] = value
	}
	o := options.Defaults()
	if err := o.Resolve(nil, func(name string) (string, bool) { v, ok := all[name]; return v, ok }); err != nil {
		t.Fatal(err)
	}
	return o
}

// Logger writes to the test's log, and fails the test when it is given a secret.
func Logger(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(testLog{t}, nil)) }

type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	if strings.Contains(string(p), CanarySecret) || strings.Contains(string(p), WriteToken) {
		l.t.Errorf("a secret in the log: %s", p)
	}
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// InProcess is an agent in the test's process.
type InProcess struct {
	*agent.Agent
	API
	task
	Options options.Options
	Log     *slog.Logger
}

// StartAgent runs an agent in the test's process, and returns when its ports are open.
func StartAgent(t testing.TB, o options.Options) *InProcess {
	t.Helper()
	a, err := agent.New(t.Context(), o, Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	return RunAgent(t, o, a)
}

// RunAgent runs an agent that was made with these options.
func RunAgent(t testing.TB, o options.Options, a *agent.Agent) *InProcess {
	t.Helper()
	i := a.Info()
	r := &InProcess{Agent: a, Options: o, Log: Logger(t), task: startTask(t, a.Run, a.Health)}
	r.API = API{t: t, LocalAddr: strings.TrimPrefix(i.LocalURL, "http://"), AdminAddr: strings.TrimPrefix(i.AdminURL, "http://"), running: r.Running}
	return r
}

// Health is the agent's health, from memory.
func (r *InProcess) Health() conf.Health { return r.Agent.Health() }

// AwaitReady waits until the agent is in normal mode.
func (r *InProcess) AwaitReady() {
	r.T.Helper()
	ctx, cancel := context.WithTimeout(r.T.Context(), Patience)
	defer cancel()
	if err := r.Agent.AwaitReady(ctx); err != nil {
		r.T.Fatal(err)
	}
}

// ObserverInProcess is an observer in the test's process.
type ObserverInProcess struct {
	*observer.Observer
	task
}

// StartObserver runs an observer in the test's process.
func StartObserver(t testing.TB, o options.Options) *ObserverInProcess {
	t.Helper()
	b, err := observer.New(o, Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	return RunObserver(t, b)
}

// RunObserver runs an observer that was made.
func RunObserver(t testing.TB, b *observer.Observer) *ObserverInProcess {
	t.Helper()
	return &ObserverInProcess{b, startTask(t, b.Run, b.Health)}
}

// task is what runs in the test's process until it is stopped, at the latest when the
// test ends.
type task struct {
	T      testing.TB
	stop   context.CancelFunc
	ended  chan struct{}
	err    *error // once ended is closed
	health func() conf.Health
}

func startTask(t testing.TB, run func(context.Context) error, health func() conf.Health) task {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	k := task{T: t, stop: cancel, ended: make(chan struct{}), err: new(error), health: health}
	go func() {
		*k.err = run(ctx)
		close(k.ended)
	}()
	t.Cleanup(k.Stop)
	return k
}

// Running says whether it has not ended.
func (k task) Running() bool {
	select {
	case <-k.ended:
		return false
	default:
		return true
	}
}

// Stop ends it, waits for the end, and fails the test unless it was graceful.
func (k task) Stop() {
	k.stop()
	<-k.ended
	if *k.err != nil {
		k.T.Errorf("Run: %v", *k.err)
		*k.err = nil // told once
	}
	client.CloseIdleConnections()
}

// Await is Await that tells the health when it waited in vain.
func (k task) Await(what string, cond func() bool) {
	k.T.Helper()
	if !poll(Patience, cond) {
		k.T.Fatalf("waited %v in vain for: %s; health is %s", Patience, what, jsonText(k.health()))
	}
}
