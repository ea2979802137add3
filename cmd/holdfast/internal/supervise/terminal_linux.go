package supervise

import (
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// childAttr puts a child into a group of its own, and ends it with this process.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// terminal is the controlling terminal of this process, when it is in the foreground there;
// nil when there is none.
type terminal struct {
	f   *os.File
	own int // the process group of this process
}

func openTerminal() *terminal {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	t := &terminal{f: f, own: unix.Getpgrp()}
	if front, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP); err != nil || front != t.own {
		t.close()
		return nil
	}
	return t
}

func (t *terminal) close() {
	if t != nil {
		_ = t.f.Close()
	}
}

// give makes the group of pid the foreground group. It may have been stopped because it
// read before that.
func (t *terminal) give(pid int) {
	if t != nil {
		t.foreground(pid)
		_ = syscall.Kill(-pid, syscall.SIGCONT)
	}
}

// take makes this process's group the foreground group again.
func (t *terminal) take() {
	if t != nil {
		t.foreground(t.own)
	}
}

// suspend stops this process, which the terminal has not told: the shell before it shall
// see a stopped job. It returns when the job goes on.
func (t *terminal) suspend(pid int) {
	if t == nil {
		return
	}
	t.take()
	_ = syscall.Kill(syscall.Getpid(), syscall.SIGSTOP)
	t.give(pid)
}

// foreground sets the foreground group. A process in the background that does so gets
// SIGTTOU unless it blocks it.
func (t *terminal) foreground(group int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var block, old unix.Sigset_t
	block.Val[0] = 1 << (uint(unix.SIGTTOU) - 1)
	if unix.PthreadSigmask(unix.SIG_BLOCK, &block, &old) != nil {
		return
	}
	_ = unix.IoctlSetPointerInt(int(t.f.Fd()), unix.TIOCSPGRP, group)
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
}
