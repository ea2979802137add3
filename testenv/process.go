package testenv

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// starter runs functions on one thread that never ends. The kernel sends
// Pdeathsig when the *thread* that started a child ends, so children are started
// from a thread that lives as long as the process.
var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// Process is one child of the test.
type Process struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{}
	err  error
	out  *Transcript
}

// Spawn starts name with args in dir, with env added to this process's
// environment (a later assignment wins), and its output kept in a Transcript.
// The process group is killed when the test ends.
func Spawn(t testing.TB, dir string, env []string, name string, args ...string) *Process {
	t.Helper()
	return spawn(t, NewTranscript(), dir, env, name, args...)
}

func spawn(t testing.TB, out *Transcript, dir string, env []string, name string, args ...string) *Process {
	t.Helper()
	return spawnTo(t, out, out, dir, env, name, args...)
}

// spawnTo is spawn with another stderr.
func spawnTo(t testing.TB, out *Transcript, stderr io.Writer, dir string, env []string, name string, args ...string) *Process {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(cleanEnv(), env...)
	cmd.Stdout, cmd.Stderr = out, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error, 1)
	starter() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	p := &Process{t: t, cmd: cmd, done: make(chan struct{}), out: out}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.Kill)
	return p
}

// cleanEnv is this process's environment without settings of Holdfast, so that
// what a developer has set does not reach the agents of a test.
func cleanEnv() []string {
	var env []string
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, "CONFIG_") || strings.HasPrefix(name, "LKG_") || strings.HasPrefix(name, "LITESTREAM_") || strings.HasPrefix(name, "AWS_") ||
			name == "ALLOW_AUTO_REBUILD" || name == "REBUILD_TOKEN" || name == "MQTT_URL" {
			continue
		}
		env = append(env, e)
	}
	return env
}

// Output is all that the process has printed.
func (p *Process) Output() string { return p.out.String() }

// Transcript is where the process prints to.
func (p *Process) Transcript() *Transcript { return p.out }

// Pid is the process's id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends sig to the process.
func (p *Process) Signal(sig syscall.Signal) {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("signal %v: %v", sig, err)
	}
}

// Kill ends the process and its children with SIGKILL and waits for its end.
func (p *Process) Kill() {
	select {
	case <-p.done:
	default:
		_ = syscall.Kill(-p.Pid(), syscall.SIGKILL)
		<-p.done
	}
}

// Running says whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Wait waits for the process's end and tells its exit code (-1 after a signal).
func (p *Process) Wait(t testing.TB, what string) int {
	t.Helper()
	if !poll(Patience, func() bool { return !p.Running() }) {
		t.Fatalf("waited %v in vain for: %s; it printed:\n%s", Patience, what, p.Output())
	}
	return p.cmd.ProcessState.ExitCode()
}

// Transcript keeps what a process prints, for any goroutine to read.
type Transcript struct {
	mu  sync.Mutex
	buf []byte
}

// NewTranscript makes an empty one.
func NewTranscript() *Transcript { return &Transcript{} }

var _ io.Writer = (*Transcript)(nil)

// Write adds p.
func (l *Transcript) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p...)
	return len(p), nil
}

// String is everything so far.
func (l *Transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.buf)
}

// Has says whether s was printed.
func (l *Transcript) Has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.buf, []byte(s))
}

// Tail is the last n lines.
func (l *Transcript) Tail(n int) string {
	lines := strings.Split(strings.TrimRight(l.String(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
