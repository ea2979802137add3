package render

import "syscall"

// groupOf starts a command in a process group of its own. A check ends with its starter.
func groupOf(check bool) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true}
	if check {
		a.Pdeathsig = syscall.SIGKILL
	}
	return a
}
