package supervise

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Exit codes that are not the child's, as shells have them.
const (
	ExitOwn        = 125 // this command failed, not the child
	ExitNotRunable = 126
	ExitNotFound   = 127
	exitSignal     = 128 // plus the signal's number
)

// Action is what a new environment does to the child.
type Action struct {
	kind   string // restart, signal, exit, ignore
	signal syscall.Signal
}

// ParseAction reads restart, exit, ignore or signal=NAME.
func ParseAction(s string) (Action, error) {
	switch s {
	case "restart", "exit", "ignore":
		return Action{kind: s}, nil
	}
	for name, sig := range signals {
		if s == "signal="+name || s == "signal=SIG"+name {
			return Action{kind: "signal", signal: sig}, nil
		}
	}
	return Action{}, conf.Errorf(conf.CodeUsage, "--on-change %q is not known", s).WithHint("restart, signal=HUP (or USR1, USR2, ...), exit or ignore")
}

// Ignores reports whether new environments are of no interest.
func (a Action) Ignores() bool { return a.kind == "ignore" }

var signals = map[string]syscall.Signal{
	"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2,
	"TERM": syscall.SIGTERM, "CONT": syscall.SIGCONT, "WINCH": syscall.SIGWINCH,
}

// Options set up Run.
type Options struct {
	Command  []string
	Env      []string        // of the first child
	Changes  <-chan []string // the environment, whenever it differs; nil or closed: no more
	OnChange Action
	Grace    time.Duration // between TERM and KILL
	Log      *slog.Logger
}

// Run starts the command and returns its exit code when it has ended permanently. The error
// says why it cannot be started. Signals of this process go to the child. A context that
// has ended before means that nothing is started.
func Run(ctx context.Context, o Options) (code int, err error) {
	path, err := exec.LookPath(o.Command[0])
	if err != nil {
		return startCode(err), conf.Errorf(conf.CodeUsage, "cannot run %s: %w", o.Command[0], err)
	}
	// The kernel ends the child when the thread that started it ends: it is this one.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := supervisor{o: o, path: path, tty: openTerminal(), env: o.Env}
	defer s.tty.close()
	got, ended := make(chan os.Signal, 64), make(chan os.Signal, 1)
	signal.Notify(got, passed...)
	defer signal.Stop(got)
	signal.Notify(ended, syscall.SIGCHLD)
	defer signal.Stop(ended)
	if ctx.Err() != nil { // a signal came before
		return exitSignal + int(syscall.SIGTERM), nil
	}
	if err := s.start(); err != nil {
		return startCode(err), conf.Errorf(conf.CodeUsage, "cannot run %s: %w", path, err)
	}
	return s.loop(got, ended)
}

// passed are the signals that go to the child: all that can be caught, but those of faults,
// of the Go runtime and of pipes, and those by which the terminal stops a background group.
var passed = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM,
	syscall.SIGTERM, syscall.SIGCONT, syscall.SIGTSTP, syscall.SIGVTALRM, syscall.SIGWINCH, syscall.SIGIO,
}

// supervisor is one Run. Its goroutine is the only user.
type supervisor struct {
	o    Options
	path string
	tty  *terminal
	env  []string

	pid      int
	stopping bool // the child was told to end, and another one follows
	gone     bool // it has ended, what is left of its group has not
	ending   bool // none follows
	grace    <-chan time.Time
}

func startCode(err error) int {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		return ExitNotFound
	}
	return ExitNotRunable
}

func (s *supervisor) start() error {
	pid, err := syscall.ForkExec(s.path, s.o.Command, &syscall.ProcAttr{
		Env: s.env, Files: []uintptr{0, 1, 2}, Sys: childAttr(),
	})
	if err != nil {
		return err
	}
	s.pid, s.stopping, s.gone, s.grace = pid, false, false, nil
	s.tty.give(pid)
	return nil
}

func (s *supervisor) loop(got, ended <-chan os.Signal) (int, error) {
	changes := s.o.Changes
	var drain <-chan time.Time
	for {
		if code, done, err := s.reap(); done {
			return code, err
		}
		drain = nil
		if s.gone {
			drain = time.After(drainEvery)
		}
		select {
		case sig := <-got:
			s.pass(sig)
		case <-ended:
		case <-drain:
			if errors.Is(syscall.Kill(-s.pid, 0), syscall.ESRCH) {
				if code, err := s.next(); err != nil {
					return code, err
				}
			}
		case <-s.grace:
			s.o.Log.Warn("the command did not end in time: killing it", "pid", s.pid, "grace", s.o.Grace)
			s.kill(syscall.SIGKILL)
			if s.gone {
				if code, err := s.next(); err != nil {
					return code, err
				}
			}
		case env, ok := <-changes:
			if !ok {
				changes = nil
				break
			}
			s.change(env)
		}
	}
}

// drainEvery is the time between two looks for processes of a group whose first one ended.
const drainEvery = 20 * time.Millisecond

// change does what a new environment is to do.
func (s *supervisor) change(env []string) {
	switch {
	case s.o.OnChange.kind == "signal":
		s.env = env
		s.o.Log.Info("the environment changed: the command gets a signal", "signal", s.o.OnChange.signal)
		s.kill(s.o.OnChange.signal)
	case s.ending || slices.Equal(env, s.env) && !s.stopping:
	case s.stopping: // for an earlier change
		s.env = env
	default:
		s.env = env
		s.o.Log.Info("the environment changed: the command is told to end", "action", s.o.OnChange.kind, "pid", s.pid)
		s.ending, s.stopping = s.o.OnChange.kind == "exit", true
		s.grace = time.After(s.o.Grace)
		s.kill(syscall.SIGTERM)
	}
}

// reap collects what has ended. The run is done with a child that is not to be replaced.
func (s *supervisor) reap() (code int, done bool, err error) {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG|syscall.WUNTRACED, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil || pid <= 0:
			return 0, false, nil
		case pid != s.pid: // an orphan that came to this process
		case ws.Stopped():
			s.tty.suspend(pid)
		case s.stopping && !s.ending:
			s.gone = true
		default:
			s.kill(syscall.SIGKILL) // what is left of its group
			s.tty.take()
			if ws.Signaled() {
				return exitSignal + int(ws.Signal()), true, nil
			}
			return ws.ExitStatus(), true, nil
		}
	}
}

// next starts the child that follows.
func (s *supervisor) next() (int, error) {
	if s.ending {
		s.tty.take()
		return exitSignal + int(syscall.SIGTERM), errEnded
	}
	if err := s.start(); err != nil {
		s.tty.take()
		return startCode(err), conf.Errorf(conf.CodeUsage, "cannot run %s again: %w", s.path, err)
	}
	s.o.Log.Info("the command runs with the new environment", "pid", s.pid)
	return 0, nil
}

// errEnded ends a run whose child was already gone when no other was to follow.
var errEnded = conf.Errorf(conf.CodeUsage, "ended before the command was started again")

// pass hands a signal of this process on. One that is to end it also ends a restart.
func (s *supervisor) pass(sig os.Signal) {
	n, ok := sig.(syscall.Signal)
	if !ok {
		return
	}
	if s.stopping && (n == syscall.SIGTERM || n == syscall.SIGINT || n == syscall.SIGQUIT) {
		s.ending = true
	}
	s.kill(n)
}

// kill sends a signal to the child's process group.
func (s *supervisor) kill(sig syscall.Signal) { _ = syscall.Kill(-s.pid, sig) }
