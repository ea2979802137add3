package testenv

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A docBlock is a fenced block of a Markdown text.
type docBlock struct {
	language string
	line     int    // of its opening fence
	text     string // as it stands there, without what indents the fence
}

// name is the first line of the block: what the table below knows it by.
func (b docBlock) name() string {
	first, _, _ := strings.Cut(b.text, "\n")
	return first
}

// runs reports whether the block is for a shell, or a file that later blocks use.
func (b docBlock) runs() bool {
	return slices.Contains([]string{"console", "sh", "bash"}, b.language) || b.language == "python"
}

// script is what a reader types. In a console block that has lines with a "$ " prompt
// only those are commands, with the "> " lines that continue them; the others show output.
func (b docBlock) script() string {
	lines := strings.Split(b.text, "\n")
	if b.language != "console" || !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "$ ") }) {
		return b.text
	}
	var script strings.Builder
	for _, l := range lines {
		command, ok := strings.CutPrefix(l, "$ ")
		if !ok {
			command, ok = strings.CutPrefix(l, "> ")
		}
		if ok {
			script.WriteString(command + "\n")
		}
	}
	return script.String()
}

func docBlocks(text string) (blocks []docBlock) {
	open, indent, n := false, "", 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\n")
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && !open:
			open, indent = true, line[:strings.Index(line, "`")]
			blocks = append(blocks, docBlock{language: fence, line: n})
		case isFence && fence == "":
			open = false
		case open:
			blocks[len(blocks)-1].text += strings.TrimPrefix(line, indent) + "\n"
		}
	}
	return blocks
}

// notRun has the blocks that TestDocs leaves out, by page and first line, and why. What
// another test runs is named by that test.
var notRun = map[string]string{
	"README.md: make demo   # build, and run one agent with nine sample services; it prints lines to try": "this test would start itself; every page runs with the agent that make demo starts",
	"docs/cluster.md: holdfast dev --agents 3":                                                            "TestScripts runs it",
	"docs/cluster.md: make image":                                                                         "it needs Docker; TestCompose starts the file and does the same",
	"docs/operating.md: make build":                                                                       "it needs a clone and root; make test builds",
	"docs/operating.md: holdfast agent --data-dir /var/lib/holdfast --service stt-worker --schema-dir /etc/holdfast/schemas":              "it needs directories of root, and runs until it is stopped",
	"docs/operating.md: holdfast agent --role observer --mqtt mqtts://broker:8883 --trust /etc/holdfast/cluster.pem --service stt-worker": "it needs the broker of an operator",
	"docs/recovery.md: export BACKUP_TO=file:///backups BACKUP_DIR=/mnt/backups":                                                          "it needs Docker; TestCompose restores so",
	"docs/deploy.md: make release":                    "it builds for four platforms; TestSameBytes runs the same for one, and compares",
	"docs/deploy.md: dpkg -i holdfast_*_amd64.deb":    "it needs root and systemd; TestInstall does it in a container",
	"docs/deploy.md: systemctl enable --now holdfast": "it needs root and systemd; TestInstall does it in a container",
	"docs/mqtt.md: #!/usr/bin/env python3":            "TestDocumentedSubscribers runs it against a broker that forges",
	"docs/mqtt.md: #!/bin/sh":                         "TestDocumentedSubscribers runs it against a broker that forges",
}

// notForShells are the languages of the blocks that show something else. A text block
// has settings, messages or commands that only a prepared host can run.
var notForShells = []string{"dockerfile", "ini", "json", "mermaid", "text"}

// TestDocBlocks wants each block of a page to be run by TestDocs, or to be in the table.
func TestDocBlocks(t *testing.T) {
	t.Parallel()
	got := docBlocks("text\n```console\na\nb\n```\n- x\n\n  ```sh\n  no\n   yes\n  ```\n```console\n$ c \\\n>   d\noutput\n$ e\n```\n")
	for i, want := range []string{"a\nb\n", "no\n yes\n", "c \\\n  d\ne\n"} {
		if i >= len(got) || got[i].script() != want {
			t.Errorf("block %d is %+v, want %q", i+1, got, want)
		}
	}
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	tests, left := map[string]bool{}, maps.Clone(notRun)
	run := 0
	for _, name := range repositoryFiles(t) {
		if strings.HasSuffix(name, "_test.go") {
			for _, m := range declared.FindAllStringSubmatch(readFile(t, name), -1) {
				tests[m[1]] = true
			}
		}
		if !strings.HasSuffix(name, ".md") || strings.HasPrefix(name, "testenv/testdata/") {
			continue // what others wrote
		}
		for _, b := range docBlocks(readFile(t, name)) {
			where := fmt.Sprintf("%s:%d", name, b.line)
			key := name + ": " + b.name()
			_, excused := notRun[key]
			delete(left, key)
			switch {
			case b.runs() && !excused && name != "README.md" && filepath.Dir(name) != "docs":
				t.Errorf("%s: TestDocs does not run the blocks of this page", where)
			case b.runs() && !excused:
				run++
			case b.runs(), slices.Contains(notForShells, b.language) && b.language != "text":
			case b.language != "text":
				t.Errorf("%s: a block of the language %q is neither run nor known", where, b.language)
			case !excused && looksLikeCommand.MatchString(b.text):
				t.Errorf("%s: commands in a block that is not run: make it console, or say why in the table", where)
			}
		}
	}
	for key, why := range notRun {
		for _, name := range regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(why, -1) {
			if !tests[name] {
				t.Errorf("%s: there is no test %s", key, name)
			}
		}
	}
	for key := range left {
		t.Errorf("the table has %q, which no page has", key)
	}
	if run < 60 {
		t.Errorf("only %d blocks are run", run)
	}
}

// looksLikeCommand finds lines that a reader would paste into a shell.
var looksLikeCommand = regexp.MustCompile(`(?m)^(\$ )?(holdfast|bin/holdfast|make|curl|docker|docker-compose|sudo|export|litestream|systemctl|cp|rm) `)

// TestDocs runs the blocks for a shell of the README and of each page of docs, in
// order and as in one terminal, against an agent that was started as the README says, in a directory
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
			name, err := filepath.Rel(Root(), page)
			if err != nil {
				t.Fatal(err)
			}
			var blocks []docBlock
			for _, b := range docBlocks(string(text)) {
				if _, excused := notRun[name+": "+b.name()]; b.runs() && !excused {
					blocks = append(blocks, b)
				}
			}
			if name == "README.md" && len(blocks) == 0 {
				t.Fatal("the README shows nothing that runs")
			}
			runBlocks(t, blocks)
		})
	}
}

// preamble ends a stream (curl -N) after a second, as its reader would with Ctrl-C, and
// lets curl ask again when an agent says that it cannot answer now. An answer that is an
// error fails the block, unless a comment above says that it is rejected, and then it has
// to be. A text that waits for programs to start means until such programs have started,
// on any machine.
const preamble = `curl() {
	case " $* " in
	*" -N "*) timeout 1 curl "$@" || [ $? = 124 ] ;;
	*" --fail"* | *" -f"*) command curl -sS --retry 9 --retry-delay 1 "$@" ;;
	*)
		if [ "$rejected" ]; then
			command curl -sS --fail-with-body "$@" || { [ $? = 22 ] && return; }
			echo "this is not rejected: $*" >&2
			return 1
		fi
		command curl -sS --fail-with-body --retry 9 --retry-delay 1 "$@"
		;;
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

var (
	comment    = regexp.MustCompile(`(?m)^# .*$`)
	assignment = regexp.MustCompile(`(?m)^(?:export )?([A-Za-z_]\w*)=`)
)

// session is the shell script of a block in a terminal that had the blocks before it:
// variables that they assigned are there.
func session(block string, known map[string]bool) string {
	for _, m := range assignment.FindAllStringSubmatch(block, -1) {
		known[m[1]] = true
	}
	block = comment.ReplaceAllStringFunc(block, func(line string) string {
		if strings.Contains(line, "ejected") {
			return "rejected=yes"
		}
		return "rejected="
	})
	names := strings.Join(slices.Sorted(maps.Keys(known)), " ")
	script := "test ! -e .session || . ./.session\nrejected=\n" + preamble + block
	if names != "" {
		script += "\n(export " + names + "\nexport -p) >.session.new && mv .session.new .session"
	}
	return script
}

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
func runBlocks(t *testing.T, blocks []docBlock) {
	if len(blocks) == 0 {
		return
	}
	bin := Binary(t, "./cmd/holdfast")
	dir := t.TempDir()
	if slices.ContainsFunc(blocks, func(b docBlock) bool { return strings.Contains(b.text, "\nlitestream ") }) {
		link := filepath.Join(dir, "bin", "litestream")
		if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(installed(t, litestream), link)); err != nil {
			t.Fatal(err)
		}
	}
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
		"2820", "8131", "2821",
	}
	ports := FreePorts(t, len(numbers))
	text := func(i int) string { return strconv.Itoa(ports[i]) }
	pairs := []string{"/var/lib/holdfast/", "holdfast-data/", "ready --wait 10s", "ready --wait 2m", "ready --wait 30s", "ready --wait 2m"}
	for i, n := range numbers {
		pairs = append(pairs, n, text(i))
	}
	renumber := strings.NewReplacer(pairs...)
	env := []string{
		"PATH=" + filepath.Join(dir, "bin") + ":" + os.Getenv("PATH"),
		"no_proxy=*",
		"CONFIG_LOCAL_ADDR=127.0.0.1:" + text(0), "CONFIG_MANAGER_PORT=" + text(1),
		"CONFIG_UI_ADDR=none", "CONFIG_CLUSTER_ADDR=127.0.0.1:" + text(2), "CONFIG_MQTT_ADDR=127.0.0.1:" + text(3),
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
	known := map[string]bool{}
	for _, b := range blocks {
		if b.language == "python" { // a file; its name is in its first line
			path := filepath.Join(dir, strings.TrimPrefix(b.name(), "# "))
			if err := os.WriteFile(path, []byte(renumber.Replace(b.text)), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		script := b.script()
		env := env
		if strings.Contains(script, "test $? = 6") { // it shows a refusal that lasts
			env = append(slices.Clone(env), "TRIES=10")
		}
		p := Spawn(t, dir, env, "sh", "-e", "-c", session(renumber.Replace(script), known))
		t.Cleanup(func() { _ = syscall.Kill(-p.Pid(), syscall.SIGKILL) }) // what it left in the background
		what := fmt.Sprintf("the block in line %d", b.line)
		if strings.Contains(script, "while :; do") { // it goes on until its reader ends it
			Await(t, what+" to show something", func() bool { return p.Output() != "" || !p.Running() })
			if p.Running() {
				continue
			}
		}
		poll(2*Patience, func() bool { return !p.Running() }) // many steps, each of which takes its time
		if code := p.Wait(t, what); code != 0 {
			t.Errorf("%s ended with code %d:\n%s\nIt printed:\n%s\nThe agent printed:\n%s",
				what, code, script, p.Output(), dev.Transcript().Tail(15))
		}
	}
}
