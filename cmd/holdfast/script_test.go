package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/testenv"
)

// The scripts of testdata/script run this test binary as "holdfast", in a process
// of its own: what they see is what a user sees. Beside testscript's own commands
// they have
//
//	agent start [ARG...]   start "holdfast agent ARG..." and wait until it serves
//	agent launch [ARG...]  start it and wait until it is ready, healthy or not
//	agent stop             end it with SIGTERM; it must exit with 0
//	agent kill             end it with SIGKILL
//	dev start [ARG...]     the same for "holdfast dev"; its output is in $WORK/dev.out
//	exits N COMMAND...     run a command that must exit with N
//	eventually TEXT FILE   wait until a file has the text
//	tokens                 put the generated tokens into $READ and $WRITE
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"holdfast": func() { os.Exit(realMain()) }})
}

func TestScripts(t *testing.T) {
	schemas, err := filepath.Abs("testdata/schemas")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(e *testscript.Env) error {
			var ports []string
			for _, port := range testenv.FreePortRows(t, 3, 10, 20) { // dev --agents 3 counts up
				ports = append(ports, strconv.Itoa(port))
			}
			// A directory of its own, with a short path: a socket's name is short.
			data, err := os.MkdirTemp("", "hf")
			if err != nil {
				return err
			}
			e.Defer(func() { _ = os.RemoveAll(data) })
			e.Setenv("GORACE", "atexit_sleep_ms=10") // not a second at the end of each command
			e.Setenv("CONFIG_DATA_DIR", data)
			e.Setenv("DATA", data)
			e.Setenv("SCHEMAS", schemas)
			e.Setenv("CONFIG_SCHEMA_DIR", schemas)
			e.Setenv("CONFIG_LOCAL_ADDR", "127.0.0.1:"+ports[0])
			e.Setenv("CONFIG_MANAGER_PORT", ports[1])
			e.Setenv("CONFIG_CLUSTER_ADDR", "127.0.0.1:"+ports[2])
			e.Setenv("CONFIG_MQTT_ADDR", "none")
			e.Setenv("CONFIG_UI_ADDR", "none")
			e.Setenv("ADMIN", "http://127.0.0.1:"+ports[1])
			e.Setenv("LOCAL", "http://127.0.0.1:"+ports[0])
			e.Values[agentKey{}] = &process{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"agent": func(ts *testscript.TestScript, neg bool, args []string) { control(ts, neg, "agent", args) },
			"dev":   func(ts *testscript.TestScript, neg bool, args []string) { control(ts, neg, "dev", args) },
			"exits": exits, "eventually": eventually, "tokens": tokens,
		},
	})
}

const patience = testenv.Patience

type agentKey struct{}

// process is the agent of one script.
type process struct {
	cmd  *exec.Cmd
	log  syncBuffer
	done chan error
}

// syncBuffer is a log that may be read while it grows.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// environ is the environment of the script, as far as the agent is concerned.
func environ(ts *testscript.TestScript) []string {
	var out []string
	for _, name := range []string{
		"PATH", "HOME", "TMPDIR", "GORACE", "CONFIG_DATA_DIR", "CONFIG_SCHEMA_DIR", "CONFIG_LOCAL_ADDR", "CONFIG_MANAGER_PORT",
		"CONFIG_CLUSTER_ADDR", "CONFIG_MQTT_ADDR", "CONFIG_UI_ADDR", "CONFIG_API_TOKENS", "CONFIG_ENV_FILE", "STT_API_KEY", "DEMO_LEVEL", "DEMO_WORKERS", "AWS_REGION",
		"LITESTREAM_S3_ENDPOINT", "LITESTREAM_S3_PATH",
	} {
		if v := ts.Getenv(name); v != "" {
			out = append(out, name+"="+v)
		}
	}
	return out
}

func control(ts *testscript.TestScript, neg bool, mode string, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: %s start|launch|stop|kill", mode)
	}
	p := ts.Value(agentKey{}).(*process)
	switch args[0] {
	case "start":
		p.start(ts, mode, args[1:])
		p.awaitServing(ts)
	case "launch":
		p.start(ts, mode, args[1:])
		p.awaitReady(ts)
	case "stop":
		ts.Check(p.cmd.Process.Signal(syscall.SIGTERM))
		if err := p.wait(ts); err != nil {
			ts.Fatalf("after SIGTERM: %v\n%s", err, p.log.String())
		}
	case "kill":
		ts.Check(p.cmd.Process.Kill())
		_ = p.wait(ts) // it was killed
	default:
		ts.Fatalf("unknown: %s %s", mode, args[0])
	}
}

func (p *process) start(ts *testscript.TestScript, mode string, args []string) {
	env := environ(ts)
	path := ""
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if candidate := filepath.Join(dir, "holdfast"); path == "" {
			if _, err := os.Stat(candidate); err == nil {
				path = candidate
			}
		}
	}
	p.cmd = exec.Command(path, append([]string{mode}, args...)...)
	p.cmd.Dir, p.cmd.Env = ts.MkAbs("."), env
	p.log = syncBuffer{}
	p.cmd.Stderr = &p.log
	p.cmd.Stdout = &p.log
	if mode == "dev" {
		out, err := os.Create(filepath.Join(ts.Getenv("WORK"), "dev.out"))
		ts.Check(err)
		defer out.Close()
		p.cmd.Stdout = out
	}
	ts.Check(p.cmd.Start())
	p.done = make(chan error, 1)
	cmd, done := p.cmd, p.done
	go func() { done <- cmd.Wait() }()
	ts.Defer(func() {
		_ = cmd.Process.Kill() // fails when it has ended, and then all is well
	})
}

// awaitReady returns when the agent has anything to serve.
func (p *process) awaitReady(ts *testscript.TestScript) {
	c, err := client.New(client.Options{LocalURL: ts.Getenv("LOCAL")})
	ts.Check(err)
	defer c.Close()
	if err := p.until(ts, c.Ready); err != nil {
		ts.Fatalf("the agent is not ready: %v\n%s", err, p.log.String())
	}
}

// awaitServing returns when the agent is in normal mode and has loaded its schemas.
func (p *process) awaitServing(ts *testscript.TestScript) {
	c, err := client.New(client.Options{AdminURL: ts.Getenv("ADMIN"), LocalURL: ts.Getenv("LOCAL")})
	ts.Check(err)
	defer c.Close()
	files, err := filepath.Glob(filepath.Join(ts.Getenv("CONFIG_SCHEMA_DIR"), "*.json"))
	ts.Check(err)
	err = p.until(ts, func(ctx context.Context) error {
		h, err := c.Health(ctx)
		if err != nil {
			return err
		}
		if !h.OK {
			return errors.New("not healthy")
		}
		for _, f := range files {
			if _, err := c.Document(ctx, strings.TrimSuffix(filepath.Base(f), ".json")); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		ts.Fatalf("the agent does not serve: %v\n%s", err, p.log.String())
	}
}

// until repeats f until it succeeds, the process ends, or patience does.
func (p *process) until(ts *testscript.TestScript, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		case ended := <-p.done:
			ts.Fatalf("the agent ended: %v\n%s", ended, p.log.String())
		}
	}
}

func (p *process) wait(ts *testscript.TestScript) error {
	select {
	case err := <-p.done:
		p.done <- err
		return err
	case <-time.After(patience):
		ts.Fatalf("the agent does not end\n%s", p.log.String())
		return nil
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		ee, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = ee.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: eventually TEXT FILE")
	}
	path := ts.MkAbs(args[1])
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		data, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(data), args[0]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s never had %q:\n%s", args[1], args[0], data)
		}
	}
}

// tokens puts the generated tokens of the agent into $READ and $WRITE.
func tokens(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: tokens")
	}
	a := &cli.App{LookupEnv: func(name string) (string, bool) {
		if name == "CONFIG_DATA_DIR" {
			return ts.Getenv(name), true
		}
		return "", false
	}}
	for name, role := range map[string]string{"READ": "config.read", "WRITE": "config.write"} {
		o, err := a.Options()
		ts.Check(err)
		list, _ := o.LookupEnv("CONFIG_API_TOKENS")
		for entry := range strings.SplitSeq(list, ",") {
			if token, ok := strings.CutSuffix(entry, ":"+role); ok {
				ts.Setenv(name, token)
			}
		}
		if ts.Getenv(name) == "" {
			ts.Fatalf("no token with the role %s", role)
		}
	}
}
