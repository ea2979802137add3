package testenv

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
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

// Agent is one `holdfast agent` with its own directory and ports. It may be
// stopped, killed and started again any number of times.
type Agent struct {
	t    testing.TB
	bin  string
	Dir  string // CONFIG_DATA_DIR
	env  map[string]string
	args []string
	log  *Transcript
	proc *Process

	LocalAddr, AdminAddr string // host:port
}

// NewAgent makes an agent and does not start it. env is added to its settings.
func NewAgent(t testing.TB, env ...string) *Agent {
	t.Helper()
	a := &Agent{
		t: t, bin: Binary(t, "./cmd/holdfast"), Dir: filepath.Join(t.TempDir(), "data"),
		log: NewTranscript(), args: []string{"agent"},
	}
	ports := FreePorts(t, 3)
	a.LocalAddr = "127.0.0.1:" + strconv.Itoa(ports[0])
	a.AdminAddr = "127.0.0.1:" + strconv.Itoa(ports[1])
	a.env = map[string]string{
		"CONFIG_DATA_DIR":     a.Dir,
		"CONFIG_LOCAL_ADDR":   a.LocalAddr,
		"CONFIG_MANAGER_HOST": "127.0.0.1",
		"CONFIG_MANAGER_PORT": strconv.Itoa(ports[1]),
		"CONFIG_CLUSTER_ADDR": "127.0.0.1:" + strconv.Itoa(ports[2]),
		"CONFIG_MQTT_ADDR":    "none",
		"CONFIG_SCHEMA_DIR":   filepath.Join(Root(), "testenv", "schemas"),
		"CONFIG_API_TOKENS":   apiTokens,
		"REBUILD_TOKEN":       RebuildToken,
	}
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

// StartAgent makes an agent, starts it and waits until it takes writes.
func StartAgent(t testing.TB, env ...string) *Agent {
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
	a.proc = spawn(a.t, a.log, filepath.Dir(a.Dir), a.Env(), a.bin, a.args...)
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

// FreePorts finds n loopback ports that nothing listens on. They lie below the
// kernel's range for outgoing connections, and in a block that no other test
// process has, so that nobody takes a port while its agent is being restarted.
func FreePorts(t testing.TB, n int) []int { return FreePortRows(t, n) }

// FreePortRows is FreePorts for an agent that counts up: the ports at each of
// steps above a port are free and nobody else's, too.
func FreePortRows(t testing.TB, n int, steps ...int) []int {
	t.Helper()
	ours.Lock()
	defer ours.Unlock()
	var ports []int
next:
	for len(ports) < n {
		if len(ours.ports) == 0 {
			ours.ports = claimPorts(t)
		}
		port := ours.ports[0]
		ours.ports = ours.ports[1:]
		for _, step := range steps {
			if !slices.Contains(ours.ports, port+step) {
				continue next
			}
		}
		for _, step := range append(steps, 0) {
			if !PortFree(port + step) {
				continue next
			}
		}
		ours.ports = slices.DeleteFunc(ours.ports, func(p int) bool { return slices.Contains(steps, p-port) })
		ports = append(ports, port)
	}
	return ports
}

// ours are the ports of this process's blocks that it has not given out yet.
var ours struct {
	sync.Mutex
	ports []int
	locks []*os.File // never closed: the end of the process gives them back
}

const firstPort, blockPorts, portBlocks = 12_000, 100, 200

// claimPorts takes a block of ports for this process: a lock on a file that holds
// until the process ends.
func claimPorts(t testing.TB) []int {
	t.Helper()
	dir := filepath.Join(os.TempDir(), "holdfast-test-ports")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, block := range rand.Perm(portBlocks) {
		f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(block)), os.O_CREATE|os.O_RDWR, 0o666)
		if err != nil {
			continue // another user's
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			_ = f.Close()
			continue
		}
		ours.locks = append(ours.locks, f)
		ports := rand.Perm(blockPorts)
		for i := range ports {
			ports[i] += firstPort + block*blockPorts
		}
		return ports
	}
	t.Fatal("all blocks of test ports are taken")
	return nil
}

// PortFree says whether nothing listens on the loopback port.
func PortFree(port int) bool {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
