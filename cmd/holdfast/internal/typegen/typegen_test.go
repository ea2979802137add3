package typegen

import (
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/testenv/base"
)

var update = flag.Bool("update", false, "write the golden files")

var suffixes = map[string]string{"python": "py", "ts": "ts", "go": "go"}

const repository = "../../../.."

// schemas are those of the tests: hostile, the services of the test environment, and those
// of public repositories.
func schemas(t *testing.T) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, pattern := range []string{
		"testdata/*.json", filepath.Join(repository, "testenv/schemas/*.json"), filepath.Join(repository, "testenv/testdata/public-schemas/*/*.json.gz"),
	} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: no schemas: %v", pattern, err)
		}
		for _, p := range paths {
			data, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(p, ".gz") {
				r, err := gzip.NewReader(bytes.NewReader(data))
				if err != nil {
					t.Fatal(err)
				}
				if data, err = io.ReadAll(r); err != nil {
					t.Fatal(err)
				}
			}
			name := "s_" + strings.ToLower(strings.NewReplacer("-", "_", ".", "_").Replace(strings.TrimSuffix(strings.TrimSuffix(filepath.Base(p), ".gz"), ".json")))
			if strings.Contains(p, "public-schemas") {
				name = filepath.Base(filepath.Dir(p)) + name
				name = strings.ToLower(strings.ReplaceAll(name, "-", "_"))
			}
			if withKeys := bytes.Replace(data, []byte("{"), []byte(`{"x-keys":"any",`), 1); strings.HasSuffix(p, ".gz") {
				if _, err := schema.Compile("svc", withKeys); err != nil {
					continue // no agent has it
				}
			}
			out[name] = data
		}
	}
	return out
}

func generate(t *testing.T, language string, text []byte) string {
	t.Helper()
	out, err := Generate(language, "demo", text)
	if err != nil {
		t.Fatalf("%s: %v", language, err)
	}
	return out
}

// TestGolden shows what is written for two schemas.
func TestGolden(t *testing.T) {
	for name, path := range map[string]string{"hostile": "testdata/hostile.json", "movement": filepath.Join(repository, "testenv/schemas/movement-service.json")} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for language, suffix := range suffixes {
			got := generate(t, language, text)
			golden := "testdata/" + name + "." + suffix + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s: %s", golden, diff)
			}
			if strings.Contains(got, "never in the output") {
				t.Errorf("%s: the default of a secret is in it", golden)
			}
		}
	}
}

// TestPythonLoads: every output is a module whose types resolve.
func TestPythonLoads(t *testing.T) {
	t.Parallel()
	base.Need(t, "python3")
	dir := t.TempDir()
	for name, text := range schemas(t) {
		write(t, filepath.Join(dir, name+".py"), generate(t, "python", text))
	}
	run(t, dir, "python3", "-c", `
import dataclasses, importlib, pathlib, typing
for path in sorted(pathlib.Path(".").glob("*.py")):
    m = importlib.import_module(path.stem)
    for c in list(vars(m).values()):
        if dataclasses.is_dataclass(c) and c.__module__ == m.__name__:
            typing.get_type_hints(c)
            if not any(f.default is f.default_factory is dataclasses.MISSING for f in dataclasses.fields(c)):
                c()
`)
}

// TestGoVets: every output is a package that go vet accepts, and whose defaults decode.
func TestGoVets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "go.mod"), "module types\n\ngo 1.22\n")
	var imports, calls strings.Builder
	for name, text := range schemas(t) {
		text := generate(t, "go", text)
		write(t, filepath.Join(dir, name, "config.go"), text)
		fmt.Fprintf(&imports, "\t%s \"types/%s\"\n", name, name)
		_, maker, _ := strings.Cut(text[strings.LastIndex(text, "\nfunc "):], "func ")
		maker, _, _ = strings.Cut(maker, "(")
		fmt.Fprintf(&calls, "\tif _, err := %s.%s(); err != nil {\n\t\tpanic(\"%s: \" + err.Error())\n\t}\n", name, maker, name)
	}
	write(t, filepath.Join(dir, "main.go"), "package main\n\nimport (\n"+imports.String()+")\n\nfunc main() {\n"+calls.String()+"}\n")
	run(t, dir, "go", "vet", "./...")
	run(t, dir, "go", "run", "-trimpath", ".")
}

// TestTypeScriptChecks: every output is one that tsc accepts; without it, one that Node can
// strip the types of.
func TestTypeScriptChecks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var files []string
	for name, text := range schemas(t) {
		write(t, filepath.Join(dir, name+".ts"), generate(t, "ts", text))
		files = append(files, name+".ts")
	}
	if _, err := exec.LookPath("tsc"); err == nil {
		run(t, dir, "tsc", append([]string{"--strict", "--noEmit", "--target", "es2020"}, files...)...)
		return
	}
	base.Need(t, "node")
	strip := `const m = require("node:module");
if (!m.stripTypeScriptTypes) { console.log("old"); process.exit(0); }
for (const f of process.argv.slice(1)) new Function(m.stripTypeScriptTypes(require("fs").readFileSync(f, "utf8")).replace(/^export /gm, ""));`
	if out := run(t, dir, "node", append([]string{"-e", strip}, files...)...); strings.Contains(out, "old") {
		t.Skip("neither tsc nor a Node that strips types is installed: TypeScript is compared with the golden files only")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
	return string(out)
}

// FuzzGenerate: whatever a schema says, the output of each language is made, and that of Go
// is formatted, so it parses.
func FuzzGenerate(f *testing.F) {
	f.Add([]byte(`{"properties":{"a":{"$ref":"#/$defs/A"}},"$defs":{"A":{"properties":{"b":{"anyOf":[{"$ref":"#"},{"enum":["x",null]}]},"c":{"type":["string","null"],"default":1}}}}}`))
	if data, err := os.ReadFile("testdata/hostile.json"); err == nil {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := schema.Compile("svc", text); err != nil {
			return // no agent has it
		}
		for _, language := range Languages() {
			if _, err := Generate(language, "demo", text); err != nil {
				t.Errorf("%s: %v", language, err)
			}
		}
	})
}
