package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// consoleBlocks are the ```console blocks of a Markdown text, each as a script. In
// a block that has lines with a "$ " prompt only those are commands, with the
// "> " lines that continue them; the others show output.
func consoleBlocks(text string) (blocks []string) {
	var block []string
	in := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case !in && strings.TrimSpace(line) == "```console":
			in, block = true, nil
		case in && strings.TrimSpace(line) == "```":
			in = false
			prompted := slices.ContainsFunc(block, func(l string) bool { return strings.HasPrefix(l, "$ ") })
			var script strings.Builder
			for _, l := range block {
				if prompted {
					cmd, ok := strings.CutPrefix(l, "$ ")
					if !ok {
						cmd, ok = strings.CutPrefix(l, "> ")
					}
					if !ok {
						continue
					}
					l = cmd
				}
				script.WriteString(l + "\n")
			}
			blocks = append(blocks, script.String())
		case in:
			block = append(block, line)
		}
	}
	return blocks
}

func TestConsoleBlocks(t *testing.T) {
	t.Parallel()
	got := consoleBlocks("text\n```console\na\nb\n```\n```sh\nno\n```\n```console\n$ c \\\n>   d\noutput\n$ e\n```\n")
	want := []string{"a\nb\n", "c \\\n  d\ne\n"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestDocs runs the console blocks of the README and of each page of docs, in
// order, against an agent that was started as the README says, in a directory
// where the repository seems to be. A command that fails, fails the test.
func TestDocs(t *testing.T) {
	t.Parallel()
	Need(t, "sh", "curl", "python3", "node", "sqlite3", "flock")
	pages, err := filepath.Glob(filepath.Join(Root(), "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append([]string{filepath.Join(Root(), "README.md")}, pages...) {
		t.Run(filepath.Base(page), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			blocks := consoleBlocks(string(text))
			if filepath.Base(page) == "README.md" && len(blocks) == 0 {
				t.Fatal("the README shows nothing that runs")
			}
			runBlocks(t, blocks)
		})
	}
}

// preamble ends a stream (curl -N) after a second, as its reader would with Ctrl-C, and
// lets curl ask again when an agent says that it cannot answer now. A text that waits
// for programs to start means until such programs have started, on any machine.
const preamble = `curl() {
	case " $* " in
	*" -N "*) timeout 1 curl "$@" || [ $? = 124 ] ;;
	*) command curl -sS --retry 9 --retry-delay 1 "$@" ;;
	esac
}
sleep() {
	case $1 in
	*.*) command sleep "$1" ;;
	1) command sleep 3 ;;
	*) command sleep $(($1 * 5)) && python3 -c 'import json, urllib.request' && node -e 0 ;;
	esac
}
`

// patient is the program in the hands of a reader who tries again when it says that
// the agent cannot take a change now (exit code 6), as its hint has it, or that there
// is no agent yet. Each try has the standard input from its beginning.
const patient = `#!/bin/sh
[ "$1" = agent ] && exec %[1]s "$@"
said=$(mktemp)
trap 'rm -f "$said"' EXIT
for try in $(seq ${TRIES:-60}); do
	%[1]s "$@" </dev/stdin 2>"$said"
	code=$?
	cat "$said" >&2
	[ $code = 6 ] || grep -q '^holdfast: cannot reach the agent' "$said" || exit $code
	sleep 0.5
done
exit $code
`

// runBlocks gives each block to a shell, in one directory and one environment. The
// ports of the text are replaced by free ones, so that pages run side by side and
// beside an agent of the developer's own.
func runBlocks(t *testing.T, blocks []string) {
	if len(blocks) == 0 {
		return
	}
	bin := Binary(t, "./cmd/holdfast")
	dir := t.TempDir()
	for _, name := range []string{"testenv", "docs"} {
		if err := os.Symlink(filepath.Join(Root(), name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin", "holdfast"), fmt.Appendf(nil, patient, bin), 0o755); err != nil {
		t.Fatal(err)
	}
	// Those of the first agent, and of the others that a page of the cluster starts.
	numbers := []string{
		"2770", "8081", "2771", "1883", "2780", "8091", "2781", "2790", "8101", "2791", "2800", "8111", "2801", "2810", "8121", "2811",
	}
	ports := FreePorts(t, len(numbers))
	text := func(i int) string { return strconv.Itoa(ports[i]) }
	pairs := []string{"ready --wait 10s", "ready --wait 2m", "ready --wait 30s", "ready --wait 2m"}
	for i, n := range numbers {
		pairs = append(pairs, n, text(i))
	}
	renumber := strings.NewReplacer(pairs...)
	env := []string{
		"PATH=" + filepath.Join(dir, "bin") + ":" + os.Getenv("PATH"),
		"no_proxy=*",
		"CONFIG_LOCAL_ADDR=127.0.0.1:" + text(0), "CONFIG_MANAGER_PORT=" + text(1),
		"CONFIG_CLUSTER_ADDR=127.0.0.1:" + text(2), "CONFIG_MQTT_ADDR=127.0.0.1:" + text(3),
		"CONFIG_AGENT_URL=http://127.0.0.1:" + text(0),
	}
	dev := Spawn(t, dir, env, bin, "dev")
	ready := func() bool { return Do("GET", "http://127.0.0.1:"+text(0)+"/readyz", "").Status == 200 }
	if !poll(Patience, func() bool { return ready() || !dev.Running() }) || !dev.Running() {
		t.Fatalf("holdfast dev did not come up:\n%s", dev.Output())
	}
	health := func() bool {
		return strings.Contains(string(Do("GET", "http://127.0.0.1:"+text(1)+"/api/config/health", "").Body), `"normal"`)
	}
	Await(t, "holdfast dev to work normally", health)
	t.Cleanup(func() {
		logs, _ := filepath.Glob(filepath.Join(dir, "*.log")) // of the agents that the blocks started
		for _, path := range logs {
			if out, err := os.ReadFile(path); err == nil && t.Failed() {
				t.Logf("%s:\n%s", filepath.Base(path), out)
			}
		}
	})
	for i, block := range blocks {
		env := env
		if strings.Contains(block, "test $? = 6") { // it shows a refusal that lasts
			env = append(slices.Clone(env), "TRIES=10")
		}
		p := Spawn(t, dir, env, "sh", "-e", "-c", preamble+renumber.Replace(block))
		t.Cleanup(func() { _ = syscall.Kill(-p.Pid(), syscall.SIGKILL) }) // what it left in the background
		poll(2*Patience, func() bool { return !p.Running() })             // many steps, each of which takes its time
		if code := p.Wait(t, "block "+strconv.Itoa(i+1)); code != 0 {
			t.Errorf("block %d ended with code %d:\n%s\nIt printed:\n%s\nThe agent printed:\n%s",
				i+1, code, block, p.Output(), dev.Transcript().Tail(15))
		}
	}
}
