package testenv

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
)

// Tokens of every agent that this package starts: those of the quickstart.
const (
	ReadToken    = "readonly-token"
	WriteToken   = "admin-token"
	RebuildToken = "rebuild-token-of-the-tests"
	apiTokens    = ReadToken + ":config.read," + WriteToken + ":config.write"
)

// Agent is one `holdfast agent`, a process with its own directory and ports. It may be
// stopped, killed and started again any number of times.
type Agent struct {
	API
	bin  string
	Dir  string // CONFIG_DATA_DIR
	env  map[string]string
	args []string
	log  *Transcript
	proc *Process

	asUser int    // whom the process runs as, when the test is root; 0: the same user
	cgroup string // a directory of the cgroup that the process runs in; "": that of the test
}

// NewAgent makes an agent and does not start it. env is added to its settings.
func NewAgent(t testing.TB, env ...string) *Agent {
	t.Helper()
	a := &Agent{
		API: API{t: t}, bin: Binary(t, "./cmd/holdfast"), Dir: filepath.Join(t.TempDir(), "data"),
		log: NewTranscript(), args: []string{"agent"},
	}
	ports := FreePorts(t, 3)
	a.LocalAddr, a.AdminAddr, a.running = loopback(ports[0]), loopback(ports[1]), a.Running
	a.env = settings(a.Dir, filepath.Join(Root(), "testenv", "schemas"), [3]int(ports))
	a.env["CONFIG_MQTT_ADDR"] = "none"
	for _, e := range env {
		name, value, _ := cut(e)
		a.env[name] = value
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the agent in %s printed at its end:\n%s", a.Dir, a.log.Tail(30))
		}
	})
	return a
}

// settings are those of every agent of a test: its directory, and its ports for the
// local API, the admin API and the cluster, where 0 takes any free one.
// RaftLogEnv names where the agents of this run have their Raft log; unset: where they have
// it by default.
const RaftLogEnv = "HOLDFAST_TEST_RAFT_LOG"

func settings(dir, schemas string, ports [3]int) map[string]string {
	return map[string]string{
		"CONFIG_DATA_DIR":     dir,
		"CONFIG_LOCAL_ADDR":   loopback(ports[0]),
		"CONFIG_MANAGER_HOST": "127.0.0.1",
		"CONFIG_MANAGER_PORT": strconv.Itoa(ports[1]),
		"CONFIG_CLUSTER_ADDR": loopback(ports[2]),
		"CONFIG_UI_ADDR":      "none",
		"CONFIG_SCHEMA_DIR":   schemas,
		"CONFIG_RAFT_LOG":     os.Getenv(RaftLogEnv),
		"CONFIG_API_TOKENS":   apiTokens,
		"REBUILD_TOKEN":       RebuildToken,
	}
}

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// StartProcess makes an agent, starts it and waits until it takes writes.
func StartProcess(t testing.TB, env ...string) *Agent {
	t.Helper()
	a := NewAgent(t, env...)
	a.Start()
	a.AwaitNormal()
	return a
}

func cut(e string) (name, value string, ok bool) {
	for i := range len(e) {
		if e[i] == '=' {
			return e[:i], e[i+1:], true
		}
	}
	return e, "", false
}

// Set changes one setting, for the next start.
func (a *Agent) Set(name, value string) { a.env[name] = value }

// Use makes another build the agent's, for the next start.
func (a *Agent) Use(bin string) { a.bin = bin }

// Env is the agent's settings as NAME=value, for a client beside it.
func (a *Agent) Env() []string {
	var env []string
	for _, name := range slices.Sorted(maps.Keys(a.env)) {
		env = append(env, name+"="+a.env[name])
	}
	return env
}

// Start starts the process and returns at once.
func (a *Agent) Start() {
	a.t.Helper()
	if a.proc != nil && a.proc.Running() {
		a.t.Fatal("the agent runs already")
	}
	bin, args := a.bin, a.args
	if a.asUser != 0 {
		id := strconv.Itoa(a.asUser)
		bin, args = "setpriv", append([]string{"--reuid", id, "--regid", id, "--clear-groups", a.bin}, a.args...)
	}
	if a.cgroup != "" {
		const enter = `echo $$ > "$0" && exec "$@"`
		bin, args = "sh", append([]string{"-c", enter, filepath.Join(a.cgroup, "cgroup.procs"), bin}, args...)
	}
	a.proc = spawn(a.t, a.log, filepath.Dir(a.Dir), a.Env(), bin, args...)
}

// Kill ends the process at once, with SIGKILL.
func (a *Agent) Kill() { a.proc.Kill() }

// Stop asks the process to end, with SIGTERM, and waits for its end.
func (a *Agent) Stop() {
	a.t.Helper()
	a.proc.Signal(syscall.SIGTERM)
	if code := a.proc.Wait(a.t, "the agent to stop after SIGTERM"); code != 0 {
		a.t.Fatalf("the agent ended with code %d after SIGTERM:\n%s", code, a.log.Tail(40))
	}
}

// Restart kills the process, starts it and waits until it takes writes.
func (a *Agent) Restart() {
	a.t.Helper()
	a.Kill()
	a.Start()
	a.AwaitNormal()
}

// Running says whether the process has not ended.
func (a *Agent) Running() bool { return a.proc != nil && a.proc.Running() }

// Log is all that the agent has printed over all its starts.
func (a *Agent) Log() string { return a.log.String() }

// Path is a file in the agent's directory.
func (a *Agent) Path(name ...string) string {
	return filepath.Join(append([]string{a.Dir}, name...)...)
}

// Files of an agent, as docs/files.md names them.
func (a *Agent) DB() string      { return a.Path("config.db") }
func (a *Agent) LKG() string     { return a.Path("config.lkg.json") }
func (a *Agent) Raft() string    { return a.Path("raft") }
func (a *Agent) EnvFile() string { return a.Path(".env") }

// RemoveDB deletes the database and what SQLite keeps beside it.
func (a *Agent) RemoveDB() {
	a.t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.RemoveAll(a.DB() + suffix); err != nil {
			a.t.Fatal(err)
		}
	}
}

// WreckReplica makes the database and the log unusable and unrepairable: only
// the last-known-good file is left. The agent must not be running.
func (a *Agent) WreckReplica() {
	a.t.Helper()
	if a.Running() {
		a.t.Fatal("the agent runs")
	}
	a.RemoveDB()
	junk := []byte("this is neither a database nor a log\n")
	if err := os.WriteFile(a.DB(), junk, 0o600); err != nil {
		a.t.Fatal(err)
	}
	if err := filepath.WalkDir(a.Raft(), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.WriteFile(path, junk, 0o600)
	}); err != nil {
		a.t.Fatal(err)
	}
}
