//go:build !linux

package render

import "syscall"

// groupOf starts a command in a process group of its own.
func groupOf(bool) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
