//go:build !linux

package supervise

import "syscall"

func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// terminal is not managed here: the child is in the background of the terminal.
type terminal struct{}

func openTerminal() *terminal   { return nil }
func (t *terminal) close()      {}
func (t *terminal) give(int)    {}
func (t *terminal) take()       {}
func (t *terminal) suspend(int) {}
