package localapi

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/joho/godotenv"
)

var update = flag.Bool("update", false, "write the golden files")

// envValues has what a shell trips over. common says whether dotenv readers have
// a spelling in common with sh.
var envValues = []struct {
	key, value string
	common     bool
}{
	{"backslash", `C:\dir\new`, true},
	{"backslash_double", `a\\b`, true},
	{"backslash_last", `C:\dir\`, false},
	{"backslash_last_quote", `it's C:\`, false},
	{"both_quotes", `say "it's"!`, true},
	{"comment", `a # b`, true},
	{"dollar", `$HOME and ${HOME} and $(id)`, true},
	{"dollar_quote", `it's $HOME`, true},
	{"double", `say "hello" now`, true},
	{"empty", ``, true},
	{"equals", `a=b==`, true},
	{"escape_text", `a\nb\tc`, true},
	{"escape_text_quote", `it's a\nb`, true},
	{"glob", `* ? [a]`, true},
	{"text_lines", "one\ntwo\n\nfour", true},
	{"text_lines_quote", "it's\ntwo lines", true},
	{"regex", "[.!?…]+[\"')\\\\]]?\\\\s", true},
	{"semicolon", `a; touch pwned; b`, true},
	{"single", `it's`, true},
	{"spaces", `  two  spaces  `, true},
	{"substitution", "`id` it's", false},
	{"tab", "a\tb", true},
	{"tilde", `~/x`, true},
	{"unicode", `Grüße 🙂`, true},
	{"url", `https://user@host:8080/a,b?c=d%20e`, true},
}

func envDocument(t *testing.T) *derivedForms {
	t.Helper()
	config := map[string]any{}
	for _, v := range envValues {
		config[v.key] = v.value
	}
	config["number"] = json.Number("0.5")
	config["flag"] = true
	config["nothing"] = nil
	config["list"] = []any{json.Number("1"), "it's"}
	config["db"] = map[string]any{"host": "h", "port-range": "1-2"}
	config["db_host"] = "taken"
	config["path"] = "/evil"
	config["ld_preload"] = "/evil.so"
	config["nul"] = "a\x00b"
	config["weird key\n"] = "v"
	doc := (&Renderer{}).Render(record("a", 1, string(encode(config))))
	d := doc.plain.derived.get()
	if d.err != nil {
		t.Fatal(d.err)
	}
	return d
}

func TestEnvGolden(t *testing.T) {
	d := envDocument(t)
	for name, text := range map[string]string{
		"env.sh": formatShell(d.vars, ""), "env.prefix.sh": formatShell(d.vars, "STT_"), "env.docker": formatDocker(d.vars, ""),
	} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), text); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// want is the environment that every reader must see.
func wantEnv(prefix string) map[string]string {
	want := map[string]string{
		"NUMBER": "0.5", "FLAG": "true", "LIST": `[1,"it's"]`, "DB": `{"host":"h","port-range":"1-2"}`,
		"DB_HOST": "taken", "DB_PORT_RANGE": "1-2", "WEIRD_KEY_": "v",
	}
	for _, v := range envValues {
		want[strings.ToUpper(v.key)] = v.value
	}
	if prefix == "" {
		return want
	}
	out := map[string]string{prefix + "PATH": "/evil", prefix + "LD_PRELOAD": "/evil.so"}
	for k, v := range want {
		out[prefix+k] = v
	}
	return out
}

func TestEnvInPOSIXShell(t *testing.T) {
	for _, prefix := range []string{"", "STT_"} {
		d := envDocument(t)
		file := filepath.Join(t.TempDir(), "env")
		if err := os.WriteFile(file, []byte(formatShell(d.vars, prefix)), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-euc", `set -a; . "$1"; set +a; exec env -0`, "sh", file)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/home/wrong"}
		cmd.Dir = t.TempDir()
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil || stderr.Len() > 0 {
			t.Fatalf("%v: %s", err, &stderr)
		}
		got := map[string]string{}
		for line := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
			name, value, _ := strings.Cut(line, "=")
			got[name] = value
		}
		if got["HOME"] != "/home/wrong" || got["PATH"] != os.Getenv("PATH") {
			t.Error("the file changed the shell's own variables")
		}
		for _, own := range []string{"HOME", "PATH", "PWD", "OLDPWD", "SHLVL", "_"} {
			delete(got, own)
		}
		if diff := cmp.Diff(wantEnv(prefix), got); diff != "" {
			t.Error(diff)
		}
		if left, err := os.ReadDir(cmd.Dir); err != nil || len(left) > 0 {
			t.Errorf("a value was run as a command: %v, %v", left, err)
		}
	}
}

func TestEnvInADotenvReader(t *testing.T) {
	got, err := godotenv.Unmarshal(formatShell(envDocument(t).vars, ""))
	if err != nil {
		t.Fatal(err)
	}
	want := wantEnv("")
	for _, v := range envValues {
		if name := strings.ToUpper(v.key); !v.common {
			if _, ok := got[name]; !ok {
				t.Errorf("%s is missing: the spelling broke the file's structure", name)
			}
			delete(want, name)
			delete(got, name)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Docker takes what stands after the first "=" of a line.
func TestEnvForDocker(t *testing.T) {
	got := map[string]string{}
	for line := range strings.Lines(formatDocker(envDocument(t).vars, "")) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, value, _ := strings.Cut(line, "=")
		got[name] = value
	}
	want := wantEnv("")
	delete(want, "TEXT_LINES")
	delete(want, "TEXT_LINES_QUOTE")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzQuote(f *testing.F) {
	for _, v := range envValues {
		f.Add(v.value)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.IndexByte(s, 0) >= 0 {
			return
		}
		text := quote(s)
		out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", "V="+text+"\nprintf %s. \"$V\"").Output()
		if err != nil || string(out) != s+"." {
			t.Fatalf("%q is written as %s and read as %q, %v", s, text, out, err)
		}
	})
}

// pydantic-settings refuses the empty text for an int | None: an absent variable is
// what it reads as null.
func TestEnvLeavesNullsOut(t *testing.T) {
	d := envDocument(t)
	for _, format := range []func([]variable, string) string{formatShell, formatDocker} {
		if text := format(d.vars, ""); strings.Contains(text, "\nNOTHING=") || !strings.Contains(text, `# "nothing" is left out: its value is null`) {
			t.Errorf("a null is not left out with a comment:\n%s", text)
		}
		if text := format(withEmptyNulls(d.vars), ""); !strings.Contains(text, "\nNOTHING=\n") || !strings.Contains(text, "\nEMPTY=\n") {
			t.Errorf("nulls=empty does not write an empty value:\n%s", text)
		}
	}
}

// Docker reads the file with bufio.Scanner, and fails at a longer line.
func TestEnvForDockerHasNoLineThatDockerRefuses(t *testing.T) {
	most := strings.Repeat("v", bufio.MaxScanTokenSize-1-len("A_FITS="))
	doc := (&Renderer{}).Render(record("a", 1, string(encode(map[string]any{"fits": most, "long": most + "v", "short": "s"}))))
	d := doc.plain.derived.get()
	text := formatDocker(d.vars, "A_")
	lines := 0
	scanner := bufio.NewScanner(strings.NewReader(text))
	for scanner.Scan() {
		lines++
	}
	if err := scanner.Err(); err != nil || lines != 3 {
		t.Fatalf("docker reads %d lines: %v", lines, err)
	}
	if !strings.Contains(text, "A_FITS="+most+"\n") || !strings.Contains(text, `# "long" is left out: docker reads lines of at most`) {
		t.Error("want the line that fits, and a comment for the one that does not")
	}
	if !strings.Contains(formatShell(d.vars, "A_"), "A_LONG=") {
		t.Error("the limit is Docker's")
	}
}
