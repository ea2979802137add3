package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// machine describes what a run was made on, and the versions of the peers.
func (b *bench) machine() string {
	var out strings.Builder
	line := func(name, text string) {
		if text = strings.TrimSpace(text); text == "" {
			text = "unknown"
		}
		fmt.Fprintf(&out, "- %s: %s\n", name, text)
	}
	line("date", time.Now().UTC().Format(time.DateOnly))
	line("machine", fmt.Sprintf("%d CPUs, %s, %s of memory, Linux %s, load %s before the run", runtime.NumCPU(), match("/proc/cpuinfo", `model name\s*: (.+)`), memory(), kernel(), loadAverage()))
	line("temporary files on", b.dir)
	line("agent", versionOf(b.options.agent, "version"))
	line("bare net/http server", runtime.Version()+"; it sends the agent's headers and bytes and has no deadlines, limits or guards")
	if nginx := nginxPath(); nginx != "" {
		line("nginx", versionOf(nginx, "-v")+"; a file, sendfile, open_file_cache, no access log, a worker a CPU")
	} else {
		line("nginx", "not installed")
	}
	for _, p := range []struct{ name, arg string }{{"etcd", "--version"}, {"mosquitto", "-h"}} {
		path, err := exec.LookPath(p.name)
		if err != nil {
			if path, err = exec.LookPath("/usr/sbin/" + p.name); err != nil {
				line(p.name, "not installed")
				continue
			}
		}
		line(p.name, versionOf(path, p.arg))
	}
	line("reads", fmt.Sprintf("%d rounds of %v a side; another side begins each round; a ratio is the median of the ratios of the rounds; the load is one thread with raw sockets on %s", b.rounds, b.slice, map[bool]string{true: "a processor of its own (but for 1 connection), and the servers have the others", false: "the only processor"}[loader() != nil]))
	return out.String()
}

// versionOf is the first line that a program prints about itself.
func versionOf(path string, arg string) string {
	out, _ := exec.Command(path, arg).CombinedOutput() //nolint:errcheck // some exit with 1 after their help
	first, _, _ := bytes.Cut(out, []byte("\n"))
	return string(first)
}

// loader is the processor of the load, and servers are those of what it measures; nil where
// there is only one.
func loader() *unix.CPUSet  { return processors(func(i, n int) bool { return i == n-1 }) }
func servers() *unix.CPUSet { return processors(func(i, n int) bool { return i < n-1 }) }

func processors(take func(i, n int) bool) *unix.CPUSet {
	var all, out unix.CPUSet
	if unix.SchedGetaffinity(os.Getpid(), &all) != nil || all.Count() < 2 {
		return nil
	}
	n := 0
	for cpu := range 1024 {
		if all.IsSet(cpu) {
			if take(n, all.Count()) {
				out.Set(cpu)
			}
			n++
		}
	}
	return &out
}

// pin keeps this thread, which is locked, on processors, until the caller undoes it.
func pin(cpus *unix.CPUSet) (undo func()) {
	var before unix.CPUSet
	if unix.SchedGetaffinity(0, &before) != nil || unix.SchedSetaffinity(0, cpus) != nil {
		return func() {}
	}
	return func() { _ = unix.SchedSetaffinity(0, &before) }
}

func match(file, pattern string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	if m := regexp.MustCompile(pattern).FindSubmatch(text); m != nil {
		return string(m[1])
	}
	return ""
}

func memory() string {
	var kb float64
	_, _ = fmt.Sscan(match("/proc/meminfo", `MemTotal:\s+(\d+)`), &kb)
	return fmt.Sprintf("%.1f GB", kb/1e6)
}

func kernel() string {
	var u syscall.Utsname
	if syscall.Uname(&u) != nil {
		return ""
	}
	var b strings.Builder
	for _, c := range u.Release {
		if c == 0 {
			break
		}
		b.WriteByte(byte(c))
	}
	return b.String()
}

func loadAverage() string { return match("/proc/loadavg", `^(\S+)`) }
