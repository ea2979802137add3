package localapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	composedotenv "github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/google/go-cmp/cmp"
	"github.com/joho/godotenv"

	"github.com/holdfast-config/holdfast/testenv/base"
)

// readerValues are values that one reader or another trips over: every special character
// alone, at the start, in the middle, at the end, in pairs, and texts of real settings.
func readerValues() []string {
	var out []string
	for _, v := range envValues {
		out = append(out, v.value)
	}
	special := []string{`\`, `'`, `"`, "`", `$`, `#`, ` `, "\t", "\n", "\r", "\r\n", `!`, `=`, `;`, `&`, `*`, `~`, `{`, `%`, `é`}
	for _, c := range special {
		out = append(out, c, c+"a", "a"+c+"b", "a"+c, "a "+c+" b", c+c, "a"+c+"n")
		for _, d := range special[:9] {
			out = append(out, "a"+c+d+"b")
		}
	}
	return append(out,
		"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIH==\n-----END PRIVATE KEY-----\n",
		`{"a": "it's", "b": ["$x", "\\"]}`, `^(?:[a-z]+\.)*\$[^'"]+$`, `postgres://u:p%40ss@h/db?x='y'&z="w"`, `C:\Program Files\x\`,
		"${HOME}", "$(id)", "`id`", `\u0041`, `\x41`, `\n`, `\\n`, "=x", "export A=1", "a\n#b", "a\nB=2", "'quoted'", `"quoted"`, "`quoted`", "a'b\"c`d",
		"a:=b", ":=b", "a:~b", "=",
	)
}

// wrongIn counts the values that a reader gets wrong, or that the format leaves out. Each
// value is in a file of its own, between two others: a value that ends a file early, or
// makes the reader refuse it, counts as one. read returns what each file has.
func wrongIn(t *testing.T, name string, format func([]variable, string) string, read func(files []string) []map[string]string) int {
	t.Helper()
	values := readerValues()
	dir := t.TempDir()
	files := make([]string, len(values))
	for i, value := range values {
		vars := []variable{{name: "BEFORE", key: "before", value: "1"}, {name: "V", key: "v", value: value}, {name: "AFTER", key: "after", value: "2"}}
		files[i] = filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(files[i], []byte(format(vars, "")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := read(files)
	if len(got) != len(files) {
		t.Fatalf("%s read %d of %d files", name, len(got), len(files))
	}
	var wrong []string
	for i, value := range values {
		if have, ok := got[i]["V"]; got[i]["BEFORE"] != "1" || got[i]["AFTER"] != "2" || !ok || have != value {
			wrong = append(wrong, fmt.Sprintf("%q", value))
		}
	}
	t.Logf("%s: %d of %d wrong: %s", name, len(wrong), len(values), strings.Join(wrong, " "))
	return len(wrong)
}

// program reads the files with one run of a program that prints a JSON array.
func program(t *testing.T, name string, args ...string) func(files []string) []map[string]string {
	return func(files []string) (got []map[string]string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, append(args, files...)...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err == nil {
			err = json.Unmarshal(out, &got)
		}
		if err != nil {
			t.Fatalf("%s: %v %s", name, err, &stderr)
		}
		return got
	}
}

// shell reads the files with one run of a shell, each in a subshell.
func shell(t *testing.T, name string, args ...string) func(files []string) []map[string]string {
	const script = `for f; do ( . "$f"; printf 'BEFORE=%s\0V=%s\0AFTER=%s\0' "$BEFORE" "$V" "$AFTER" ) || printf 'BEFORE=\0V=\0AFTER=\0'; done`
	return func(files []string) (got []map[string]string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), name, append(append(args, "-uc", script, "sh"), files...)...).Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i, line := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
			if i%3 == 0 {
				got = append(got, map[string]string{})
			}
			variable, value, _ := strings.Cut(line, "=")
			got[len(got)-1][variable] = value
		}
		return got
	}
}

func godotenvRead(files []string) (got []map[string]string) {
	for _, file := range files {
		m, _ := godotenv.Read(file)
		got = append(got, m)
	}
	return got
}

// composeRead reads as docker compose does.
func composeRead(files []string) (got []map[string]string) {
	for _, file := range files {
		m, _ := composedotenv.Read(file)
		got = append(got, m)
	}
	return got
}

const (
	phpReader = `require "Dotenv/autoload.php"; $all = []; foreach (array_slice($argv, 1) as $f) {
		try { $m = Dotenv\Dotenv::parse(file_get_contents($f)); } catch (Throwable $e) { $m = []; } $all[] = (object) $m; } echo json_encode($all);`
	rubyReader   = `require "dotenv"; require "json"; puts JSON.generate(ARGV.map { |f| Dotenv::Parser.call(File.read(f)) rescue {} })`
	npmReader    = `const fs = require('fs'), dotenv = require('dotenv'); console.log(JSON.stringify(process.argv.slice(1).map(f => dotenv.parse(fs.readFileSync(f)))))`
	nodeReader   = `const fs = require('fs'); console.log(JSON.stringify(process.argv.slice(1).map(f => require('util').parseEnv(fs.readFileSync(f, 'utf8')))))`
	pythonReader = `import sys, json, dotenv; print(json.dumps([dict(dotenv.dotenv_values(f, interpolate=%s)) for f in sys.argv[1:]]))`
)

// The table of docs/http.md has what was measured: no reader gets more values wrong, and
// what a format of its own writes a reader reads exactly.
func TestEnvReaders(t *testing.T) {
	page, err := os.ReadFile("../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	leftOut := 0
	for _, value := range readerValues() {
		if strings.HasPrefix(formatNode([]variable{{name: "V", key: "v", value: value}}, ""), "#") {
			leftOut++
		}
	}
	python := func(interpolate string) func([]string) []map[string]string {
		return program(t, "python3", "-c", fmt.Sprintf(pythonReader, interpolate))
	}
	node, npm := program(t, "node", "-e", nodeReader), program(t, "node", "-e", npmReader)
	php, ruby := program(t, "php", "-r", phpReader, "--"), program(t, "ruby", "-e", rubyReader)
	// What each reader needs; that of "" is always here.
	probes := map[string][]string{
		"zsh": {"zsh", "-c", ":"}, "phpdotenv": {"php", "-r", `require "Dotenv/autoload.php";`},
		"ruby-dotenv 2": {"ruby", "-e", `require "dotenv/version"; exit Dotenv::VERSION < "3"`},
		"ruby-dotenv 3": {"ruby", "-e", `require "dotenv/version"; exit Dotenv::VERSION >= "3"`},
		"python-dotenv": {"python3", "-c", "import dotenv"}, "npm dotenv": {"node", "-e", "require('dotenv')"},
	}
	installed := []string{"zsh", "phpdotenv", "ruby-dotenv 2"} // by make test-tools
	here := map[string]bool{"": true}
	for name, probe := range probes {
		here[name] = exec.CommandContext(t.Context(), probe[0], probe[1:]...).Run() == nil
	}
	for _, r := range []struct {
		row, needs string
		format     func([]variable, string) string
		read       func(files []string) []map[string]string
		most       int
	}{
		{"dash, bash, bash in POSIX mode, zsh | `sh` | 0", "", formatShell, shell(t, "dash"), 0},
		{"dash, bash, bash in POSIX mode, zsh | `sh` | 0", "", formatShell, shell(t, "bash"), 0},
		{"dash, bash, bash in POSIX mode, zsh | `sh` | 0", "", formatShell, shell(t, "bash", "--posix"), 0},
		{"dash, bash, bash in POSIX mode, zsh | `sh` | 0", "zsh", formatShell, shell(t, "zsh"), 0},
		{"docker compose (compose-go 2.9.0) | `sh` | 10", "", formatShell, composeRead, 10},
		{"godotenv 1.5.1 | `sh` | 24", "", formatShell, godotenvRead, 24},
		{"dotenv-ruby 3.2.0 | `sh` | 32", "ruby-dotenv 3", formatShell, ruby, 32},
		{"dotenv-ruby 2.4.0 | `sh` | 78", "ruby-dotenv 2", formatShell, ruby, 78},
		{"python-dotenv 1.2.2, `interpolate=False` | `sh` | 47", "python-dotenv", formatShell, python("False"), 47},
		{"python-dotenv 1.2.2 | `sh` | 49", "python-dotenv", formatShell, python("True"), 49},
		{"phpdotenv 5.4.1 | `sh` | 51", "phpdotenv", formatShell, php, 51},
		{"phpdotenv 5.4.1 | `php` | 0", "phpdotenv", formatPHP, php, 0},
		{"Node 20, npm dotenv 17.4.2 | `sh` | 58", "", formatShell, node, 58},
		{"Node 20, npm dotenv 17.4.2 | `sh` | 58", "npm dotenv", formatShell, npm, 58},
		{"Node 20, npm dotenv 17.4.2 | `node` | 0, and 33 left out", "", formatNode, node, leftOut},
		{"Node 20, npm dotenv 17.4.2 | `node` | 0, and 33 left out", "npm dotenv", formatNode, npm, leftOut},
	} {
		if !strings.Contains(string(page), "| "+r.row+" |") {
			t.Errorf("docs/http.md has no row %q", r.row)
		}
		switch {
		case here[r.needs]:
			if n := wrongIn(t, r.row, r.format, r.read); n > r.most {
				t.Errorf("%s: %d are wrong now", r.row, n)
			}
		case slices.Contains(installed, r.needs) && !(r.needs == "ruby-dotenv 2" && here["ruby-dotenv 3"]):
			base.MissingPart(t, "%s is not installed, make test-tools installs it: %s", r.needs, r.row)
		default:
			t.Logf("SKIPPED: %s is not installed: %s", r.needs, r.row)
		}
	}
	if leftOut != 33 || len(readerValues()) != 369 {
		t.Errorf("%d of %d values are left out, docs/http.md has other figures", leftOut, len(readerValues()))
	}
}

// A program that can parse JSON gets every value exactly, line breaks and NUL aside.
func TestEnvAsJSON(t *testing.T) {
	var got map[string]string
	if err := json.Unmarshal([]byte(formatJSON(envDocument(t).vars, "")), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wantEnv(""), got); diff != "" {
		t.Error(diff)
	}
}
