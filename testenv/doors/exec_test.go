package doors

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-config/holdfast/testenv"
)

// execute starts holdfast exec for stt-worker beside an agent: flags, then --, then the command.
func execute(t *testing.T, a *testenv.Agent, args ...string) *testenv.Process {
	t.Helper()
	testenv.Need(t, "python3")
	env := append(a.Env(), "HOME=/home/of-the-test")
	return testenv.Spawn(t, t.TempDir(), env, testenv.Binary(t, "./cmd/holdfast"), append([]string{"exec", "stt-worker"}, args...)...)
}

func child(t *testing.T, mode ...string) []string {
	t.Helper()
	return append([]string{"--", "python3", testdata(t, "child.py")}, mode...)
}

func printed(t *testing.T, p *testenv.Process, line string) {
	t.Helper()
	testenv.Await(t, "the command to print "+strconv.Quote(line), func() bool { return p.Transcript().Has(line) || !p.Running() })
	if !p.Transcript().Has(line) {
		t.Fatalf("it ended without %q:\n%s", line, p.Output())
	}
}

// starts counts the children that printed that they start.
func starts(out string) int { return strings.Count("\n"+out, "\nstart ") }

// TestExecRestarts: the command is ended and started again when a variable changes, once for
// changes that come together, and not when what it has is the same.
func TestExecRestarts(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t)
	p := execute(t, a, child(t, "plain")...)
	only := execute(t, a, append([]string{"--only", "whisper_model", "--pristine"}, child(t, "plain")...)...)
	printed(t, p, "start 0.5 model base.en home /home/of-the-test")
	printed(t, only, "start None model base.en home None")
	a.Patch("stt-worker", `{"vad_threshold":0.25}`)
	a.Patch("stt-worker", `{"vad_threshold":0.75}`)
	printed(t, p, "start 0.75 model base.en")
	a.Patch("stt-worker", `{"whisper_model":"small.en"}`)
	printed(t, p, "start 0.75 model small.en")
	printed(t, only, "start None model small.en")
	if out := p.Output(); strings.Contains(out, "start 0.25") || starts(out) != 3 || strings.Index(out, "bye 0.5") > strings.Index(out, "start 0.75") || !strings.Contains(out, "bye 0.5") {
		t.Errorf("the command was not replaced once for each change:\n%s", out)
	}
	if out := only.Output(); starts(out) != 2 {
		t.Errorf("a change of another key restarted the command:\n%s", out)
	}
	a.Kill() // what runs goes on, and hears of changes afterwards
	a.Start()
	a.AwaitNormal()
	a.Patch("stt-worker", `{"vad_threshold":0.5}`)
	printed(t, p, "start 0.5 model small.en")
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(t, "exec to end"); code != 0 {
		t.Errorf("exit code %d, want the child's 0:\n%s", code, p.Output())
	}
	printed(t, p, "bye 0.5")
}

// TestExecActions: a signal, the end, or nothing instead of a restart.
func TestExecActions(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t)
	hup := execute(t, a, append([]string{"--on-change", "signal=HUP"}, child(t, "plain")...)...)
	end := execute(t, a, append([]string{"--on-change", "exit"}, child(t, "plain", "9")...)...)
	ignore := execute(t, a, append([]string{"--on-change", "ignore"}, child(t, "plain")...)...)
	for _, p := range []*testenv.Process{hup, end, ignore} {
		printed(t, p, "start 0.5")
	}
	a.Patch("stt-worker", `{"vad_threshold":0.75}`)
	printed(t, hup, "got SIGHUP 1\n")
	if code := end.Wait(t, "exec to end with the change"); code != 9 {
		t.Errorf("exit code %d, want the child's 9:\n%s", code, end.Output())
	}
	if out := ignore.Output(); strings.Contains(out, "bye") || starts(out) != 1 {
		t.Errorf("a change was not ignored:\n%s", out)
	}
	// A signal reaches the command once.
	hup.Signal(syscall.SIGUSR1)
	printed(t, hup, "got SIGUSR1 1\n")
	hup.Signal(syscall.SIGINT)
	printed(t, hup, "got SIGINT 1\n")
	hup.Signal(syscall.SIGWINCH)
	printed(t, hup, "got SIGWINCH 1\n")
	// Those of exec itself stay with it.
	hup.Signal(syscall.SIGURG)
	hup.Signal(syscall.SIGCHLD)
	hup.Signal(syscall.SIGUSR2)
	printed(t, hup, "got SIGUSR2 1\n")
	if strings.Contains(hup.Output(), "SIGURG") || strings.Contains(hup.Output(), "SIGCHLD") {
		t.Errorf("a signal of exec itself was passed on:\n%s", hup.Output())
	}
	if out := hup.Output(); strings.Contains(out, "got SIGUSR1 2") || strings.Contains(out, "got SIGINT 2") || strings.Contains(out, "bye") {
		t.Errorf("a signal came twice, or another one:\n%s", out)
	}
}

// TestExecCodes: the exit code is the child's, or says why there was none.
func TestExecCodes(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t)
	plain := filepath.Join(t.TempDir(), "plain")
	write(t, plain, "no program")
	away := testenv.NewAgent(t) // never started
	for name, c := range map[string]struct {
		agent *testenv.Agent
		args  []string
		code  int
	}{
		"its own code":       {a, []string{"--", "sh", "-c", "exit 3"}, 3},
		"zero":               {a, []string{"--", "true"}, 0},
		"a signal":           {a, []string{"--", "sh", "-c", "kill -9 $$"}, 137},
		"not found":          {a, []string{"--", "no-such-command"}, 127},
		"no program":         {a, []string{"--", plain}, 126},
		"no agent":           {away, []string{"--wait", "300ms", "--", "true"}, 125},
		"no such value":      {a, []string{"--only", "nothing", "--wait", "300ms", "--", "true"}, 125},
		"an unknown action":  {a, []string{"--on-change", "signal=NOPE", "--", "true"}, 125},
		"without a command":  {a, nil, 2},
		"more than one name": {a, []string{"more", "--", "true"}, 2},
	} {
		p := execute(t, c.agent, c.args...)
		if code := p.Wait(t, "exec to end: "+name); code != c.code {
			t.Errorf("%s: exit code %d, want %d:\n%s", name, code, c.code, p.Output())
		}
	}
}

// TestExecEnds: how exec ends, and how it starts, when the agent or the command do not wait for
// each other.
func TestExecEnds(t *testing.T) {
	t.Parallel()
	a := testenv.NewAgent(t) // started below, while exec waits for it
	early := execute(t, a, child(t, "plain", "6")...)
	silent := testenv.NewAgent(t) // in its place something that takes a request and does not answer
	l, err := net.Listen("tcp", silent.LocalAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	told := execute(t, silent, child(t, "plain")...)
	if _, err := l.Accept(); err != nil {
		t.Fatal(err)
	}
	told.Signal(syscall.SIGTERM)
	if code := told.Wait(t, "exec to end while it waits"); code != 143 || strings.Contains(told.Output(), "start") {
		t.Errorf("exit code %d, want 143 and no command:\n%s", code, told.Output())
	}
	a.Start()
	a.AwaitNormal()
	printed(t, early, "start 0.5")

	// The first of the group decides; the others do not outlive it.
	alone := execute(t, a, child(t, "alone", "8")...)
	if code := alone.Wait(t, "exec to end with its command"); code != 8 {
		t.Errorf("exit code %d, want 8:\n%s", code, alone.Output())
	}
	member, err := strconv.Atoi(regexp.MustCompile(`member (\d+)`).FindStringSubmatch(alone.Output())[1])
	if err != nil {
		t.Fatal(err)
	}
	testenv.Await(t, "the rest of the group to be killed", func() bool { return !alive(member) })

	// Told to end during a restart, it starts no other; and a command may be gone by then.
	stubborn := execute(t, a, append([]string{"--grace", "1h"}, child(t, "stubborn")...)...)
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho start $VAD_THRESHOLD\nexec sleep 1000\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	removed := execute(t, a, "--", script)
	printed(t, stubborn, "start 0.5")
	printed(t, removed, "start 0.5")
	if err := os.Remove(script); err != nil {
		t.Fatal(err)
	}
	a.Patch("stt-worker", `{"vad_threshold":0.75}`)
	printed(t, stubborn, "the command is told to end")
	stubborn.Signal(syscall.SIGTERM)
	stubborn.Signal(syscall.SIGWINCH) // has a higher number, so it comes after the other
	printed(t, stubborn, "got SIGWINCH 1")
	old, _ := strconv.Atoi(regexp.MustCompile(`start .* pid (\d+)`).FindStringSubmatch(stubborn.Output())[1])
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := stubborn.Wait(t, "exec to end instead of a restart"); code != 137 || starts(stubborn.Output()) != 1 {
		t.Errorf("exit code %d, want 137 of a killed command, and no other:\n%s", code, stubborn.Output())
	}
	if code := removed.Wait(t, "exec to end without its command"); code != 127 || !strings.Contains(removed.Output(), "again") {
		t.Errorf("exit code %d, want 127:\n%s", code, removed.Output())
	}
	printed(t, early, "start 0.75")
	early.Signal(syscall.SIGTERM)
	if code := early.Wait(t, "exec to end"); code != 6 {
		t.Errorf("exit code %d, want 6:\n%s", code, early.Output())
	}
}

// TestExecNames: a name that no variable can have gets one that it can, also with --only; the
// keys of an object, and one with a dot in its name, are chosen by their keys.
func TestExecNames(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t)
	dir := t.TempDir()
	schema := filepath.Join(dir, "digits.json")
	write(t, schema, `{"type": "object", "x-keys": "any", "properties": {"2fa": {"type": "boolean", "default": true},
	  "1st-try": {"type": "string", "default": "x y"}, "db": {"type": "object", "properties": {"host": {"type": "string", "default": "h"}, "port": {"type": "integer", "default": 1}}},
	  "log.level": {"type": "string", "default": "info"}}}`)
	binary := testenv.Binary(t, "./cmd/holdfast")
	if p := testenv.Spawn(t, dir, a.Env(), binary, "schema", "put", "digits", schema); p.Wait(t, "the schema to be stored") != 0 {
		t.Fatal(p.Output())
	}
	for flags, want := range map[string]string{
		"":                                  "DB_HOST=h\nDB_PORT=1\nLOG_LEVEL=info\n_FA=true\n_ST_TRY=x y",
		"--only 2fa,1st-try":                "_FA=true\n_ST_TRY=x y",
		"--only 2fa --prefix X":             "X_FA=true",
		"--only db.host,log.level":          "DB_HOST=h\nLOG_LEVEL=info",
		"--only log.level --prefix 9x":      "9x",
		"--only 2fa --on-change ignore":     "_FA=true",
		"--only 1st-try --on-change signal": "signal",
	} {
		args := append(append([]string{"exec", "digits", "--pristine"}, strings.Fields(flags)...), "--", "/usr/bin/env")
		p := testenv.Spawn(t, dir, a.Env(), binary, args...)
		code := p.Wait(t, "exec to end: "+flags)
		var lines []string
		for line := range strings.Lines(p.Output()) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "DB={") {
				lines = append(lines, line)
			}
		}
		slices.Sort(lines)
		if strings.Contains(want, "=") && (code != 0 || strings.Join(lines, "\n") != want) || !strings.Contains(want, "=") && code != 125 {
			t.Errorf("%s: exit code %d, %q, want %q", flags, code, lines, want)
		}
	}
}

// TestExecGroups: the next child starts after all of the last one's process group has ended,
// which is killed at the end of the grace.
func TestExecGroups(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t)
	family := execute(t, a, append([]string{"--grace", "1s"}, child(t, "family")...)...)
	stubborn := execute(t, a, append([]string{"--grace", "1s"}, child(t, "stubborn")...)...)
	printed(t, family, "start 0.5")
	printed(t, stubborn, "start 0.5")
	member, err := strconv.Atoi(regexp.MustCompile(`member (\d+)`).FindStringSubmatch(family.Output())[1])
	if err != nil {
		t.Fatal(err)
	}
	old, err := strconv.Atoi(regexp.MustCompile(`start .* pid (\d+)`).FindStringSubmatch(stubborn.Output())[1])
	if err != nil {
		t.Fatal(err)
	}
	a.Patch("stt-worker", `{"vad_threshold":0.75}`)
	printed(t, family, "start 0.75")
	printed(t, stubborn, "start 0.75")
	for _, pid := range []int{member, old} {
		if alive(pid) {
			t.Errorf("the process %d of the last child's group lives beside the next child", pid)
		}
	}
	if !strings.Contains(stubborn.Output(), "did not end in time") {
		t.Errorf("nothing is said of the kill:\n%s", stubborn.Output())
	}
	// The child does not outlive exec.
	next, _ := strconv.Atoi(regexp.MustCompile(`start 0.75 .* pid (\d+)`).FindStringSubmatch(family.Output())[1])
	if err := syscall.Kill(family.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testenv.Await(t, "the child to end with exec", func() bool { return !alive(next) })
	if err := syscall.Kill(-next, syscall.SIGKILL); err != nil { // what it has started holds the output open
		t.Error(err)
	}
}

// alive reports whether a process runs; one that has ended and is not reaped does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	after := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
	return !strings.HasPrefix(after, " Z")
}

// TestExecAsProcessOne: in a PID namespace of its own it reaps what is left to it.
func TestExecAsProcessOne(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "unshare", "python3")
	a := testenv.StartProcess(t)
	args := append([]string{"--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child", testenv.Binary(t, "./cmd/holdfast"), "exec", "stt-worker"}, child(t, "orphans", "5")...)
	p := testenv.Spawn(t, t.TempDir(), a.Env(), "unshare", args...)
	printed(t, p, "start 0.5")
	inside, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", p.Pid(), p.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	one := strings.TrimSpace(string(inside))
	await := func(what string, cond func(children int) bool) {
		t.Helper()
		testenv.Await(t, what, func() bool {
			tasks, _ := filepath.Glob("/proc/" + one + "/task/*/children")
			n := 0
			for _, task := range tasks {
				text, _ := os.ReadFile(task)
				n += len(strings.Fields(string(text)))
			}
			return cond(n)
		})
	}
	await("process 1 to have one child, and no orphans", func(children int) bool { return children == 1 })
	a.Patch("stt-worker", `{"vad_threshold":0.75}`) // and it is no obstacle to a restart
	printed(t, p, "start 0.75")
	await("process 1 to have its next child, and no orphans", func(children int) bool { return children == 1 })
	pid, _ := strconv.Atoi(one)
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.Wait(t, "exec to end"); code != 5 {
		t.Errorf("exit code %d, want the child's 5:\n%s", code, p.Output())
	}
}

// TestExecOnATerminal: what is typed reaches the command once, which is in the foreground.
func TestExecOnATerminal(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t)
	command := append([]string{testdata(t, "terminal.py"), testenv.Binary(t, "./cmd/holdfast"), "exec", "stt-worker"}, child(t, "plain", "4")...)
	p := testenv.Spawn(t, t.TempDir(), a.Env(), "python3", command...)
	printed(t, p, "start 0.5")
	p.Signal(syscall.SIGUSR1) // type Ctrl-C
	printed(t, p, "got SIGINT 1")
	a.Patch("stt-worker", `{"vad_threshold":0.75}`)
	printed(t, p, "start 0.75")
	p.Signal(syscall.SIGUSR1)
	testenv.Await(t, "the second child to get it", func() bool { return strings.Count(p.Output(), "got SIGINT 1") == 2 })
	p.Signal(syscall.SIGUSR2) // type Ctrl-Z
	printed(t, p, "stopped")
	printed(t, p, "continued")
	p.Signal(syscall.SIGUSR1)
	printed(t, p, "got SIGINT 2")
	if strings.Contains(p.Output(), "got SIGINT 3") {
		t.Errorf("one key came twice:\n%s", p.Output())
	}
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(t, "exec to end"); code != 4 {
		t.Errorf("exit code %d, want the child's 4:\n%s", code, p.Output())
	}
}

// TestHiddenPromptOnATerminal: Ctrl-C at a prompt that shows nothing ends the command, and the
// terminal shows again what is typed.
func TestHiddenPromptOnATerminal(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "python3")
	a := testenv.StartProcess(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "schema.json"), `{"type": "object", "properties": {"pin": {"type": "string", "x-secret": true}}}`)
	write(t, filepath.Join(dir, "app.env"), "DB_PASSWORD=hunter2\n")
	binary := testenv.Binary(t, "./cmd/holdfast")
	if p := testenv.Spawn(t, dir, a.Env(), binary, "schema", "put", "vault", "schema.json"); p.Wait(t, "the schema to be stored") != 0 {
		t.Fatal(p.Output())
	}
	for _, args := range [][]string{
		{"secret", "set", "vault", "pin"},
		{"import", "--from", "env", "app.env", "--service", "app", "--infer-schema"},
	} {
		p := testenv.Spawn(t, dir, a.Env(), "python3", append([]string{testdata(t, "terminal.py"), binary}, args...)...)
		printed(t, p, "(not shown")
		p.Signal(syscall.SIGUSR1)
		if code := p.Wait(t, "the prompt to end"); code != 1 || !strings.Contains(p.Output(), "echo on") {
			t.Errorf("%v: exit code %d, want 1 and a terminal that echoes:\n%s", args, code, p.Output())
		}
	}
}
