package render

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/trust"
)

const (
	checkTimeout  = 10 * time.Second
	reloadTimeout = 30 * time.Second
	tailBytes     = 1 << 10 // of what a command prints
)

// passed are the variables that commands get. The environment of an agent has its keys.
var passed = []string{"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR"}

func environment() (env []string) {
	for _, name := range passed {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// tail keeps the end of what is written to it.
type tail struct{ buf []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailBytes; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

// String returns the end in one line.
func (t *tail) String() string {
	text := strings.ToValidUTF8(string(bytes.TrimSpace(t.buf)), "?")
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), " | ")
}

// command is a program that runs once.
type command struct {
	argv    []string
	dir     string
	timeout time.Duration
	check   bool              // it ends with this process, and leaves nothing running
	hidden  bool              // what it prints may have secrets
	show    *strings.Replacer // of what it prints
}

// run runs the command in a process group of its own, which is killed when the time is
// over, when ctx ends or, for a check, when the command has ended.
func (c *command) run(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if c.check {
		// The kernel ends a check whose starter is killed when the thread ends that
		// started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	var out, errs tail
	cmd := exec.CommandContext(limited, c.argv[0], c.argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = c.dir, environment(), &out, &errs
	cmd.SysProcAttr = groupOf(c.check)
	kill := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel, cmd.WaitDelay = kill, time.Second
	err := cmd.Run()
	if c.check && cmd.Process != nil {
		_ = kill()
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it has ended well, and left something running that has its output
	}
	if err == nil {
		return nil
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case limited.Err() != nil:
		err = fmt.Errorf("it has not ended in %s", c.timeout)
	}
	said := errs.String()
	if said == "" {
		said = out.String()
	}
	if c.show != nil {
		said = c.show.Replace(said)
	}
	e := conf.Errorf(conf.CodeInvalid, "%s: %w", c.argv[0], err)
	switch {
	case c.hidden:
		return e.WithHint("what it printed is not shown, because the group has secrets: run it by hand")
	case said != "":
		return conf.Errorf(conf.CodeInvalid, "%s: %s", e.Error(), said)
	default:
		return e
	}
}

// reload is how the program that reads the files of a group is told. The zero value tells
// nobody.
type reload struct {
	dir     string // of render.yaml
	signal  syscall.Signal
	pid     int
	pidfile string
	command []string
}

func newReload(text *reloadText, dir string) (r reload, err error) {
	bad := func(format string, args ...any) (reload, error) {
		e := usage("reload: "+format, args...)
		return reload{}, e.WithHint("use reload: {signal: HUP, pidfile: FILE}, {signal: HUP, pid: N}, {command: [PROGRAM, ARGUMENT]} or none")
	}
	switch {
	case len(text.Command) > 0 && (text.Signal != "" || text.PID != 0 || text.PIDFile != ""):
		return bad("it has a command and a signal")
	case len(text.Command) > 0 && text.Command[0] == "":
		return bad("its command is empty")
	case len(text.Command) > 0:
		r.dir, r.command = dir, text.Command
		return r, nil
	case text.Signal == "" && text.PID == 0 && text.PIDFile == "":
		return r, nil
	case text.Signal == "" || (text.PID == 0) == (text.PIDFile == ""):
		return bad("a signal needs one of pid and pidfile, and they need a signal")
	case text.PID < 0:
		return bad("%d is no process", text.PID)
	}
	name := strings.TrimPrefix(text.Signal, "SIG")
	if r.signal = unix.SignalNum("SIG" + name); r.signal == 0 || strings.ToUpper(name) != name {
		return bad("there is no signal %q", text.Signal)
	}
	r.pid = text.PID
	if text.PIDFile != "" {
		r.pidfile = within(dir, text.PIDFile)
	}
	return r, nil
}

func (r *reload) none() bool { return r.signal == 0 && len(r.command) == 0 }

// errNobody says that there is no process yet that could be told: it reads the files when
// it starts.
var errNobody = errors.New("there is no process to tell")

// tell runs the reload.
func (r *reload) tell(ctx context.Context, hidden bool) error {
	if len(r.command) > 0 {
		c := command{argv: r.command, dir: r.dir, timeout: reloadTimeout, hidden: hidden}
		return c.run(ctx)
	}
	pid := r.pid
	if r.pidfile != "" {
		var err error
		if pid, err = readPID(r.pidfile); err != nil {
			return err
		}
	}
	err := syscall.Kill(pid, r.signal)
	switch {
	case errors.Is(err, syscall.ESRCH):
		return errNobody
	case errors.Is(err, syscall.EPERM):
		return conf.Errorf(conf.CodeDenied, "no signal may be sent to process %d", pid).WithHint("render as the user of that process, or as root")
	case err != nil:
		return conf.Errorf(conf.CodeInternal, "signal to process %d: %w", pid, err)
	}
	return nil
}

// readPID reads a file with the number of a process. A process that may write it chooses what gets
// the signal, so others may only name a process of their own.
func readPID(path string) (int, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, errNobody
	}
	if err != nil {
		return 0, conf.Errorf(conf.CodeDenied, "cannot read the pidfile: %w", err).WithHint("let the user that renders read it")
	}
	defer func() { _ = f.Close() }()
	buf := make([]byte, 32)
	n, _ := f.Read(buf)
	text := strings.TrimSpace(string(buf[:n]))
	if text == "" {
		return 0, errNobody // it is being written
	}
	pid, err := strconv.Atoi(text)
	if err != nil || pid <= 0 {
		return 0, conf.Errorf(conf.CodeInvalid, "%s has no number of a process", path).WithHint("is it the pidfile of the program?")
	}
	if pid == os.Getpid() {
		return 0, conf.Errorf(conf.CodeInvalid, "%s names this process", path).WithHint("is it the pidfile of the program?")
	}
	info, err := f.Stat()
	if err != nil {
		return 0, conf.Errorf(conf.CodeInternal, "%s: %w", path, err)
	}
	if err = trust.Owner(path, info, trust.Self, ""); err == nil {
		err = trust.Mode(path, info)
	}
	if err != nil && !sameOwner(info, pid) {
		return 0, err
	}
	return pid, nil
}

// sameOwner reports whether only the user of a process can have written a file.
func sameOwner(info fs.FileInfo, pid int) bool {
	process, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid)))
	if err != nil || info.Mode()&0o022 != 0 {
		return false
	}
	a, ok1 := info.Sys().(*syscall.Stat_t)
	b, ok2 := process.Sys().(*syscall.Stat_t)
	return ok1 && ok2 && a.Uid == b.Uid
}
