package keys_test

import (
	"encoding/base64"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// founder is the set of a cluster's first server.
func founder(t *testing.T) keys.Set {
	t.Helper()
	set, _, err := keys.Load(noEnv, filepath.Join(t.TempDir(), ".env"), keys.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func export(t *testing.T, set keys.Set) []string {
	t.Helper()
	lines, err := set.Export()
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// publicLines are what a sidecar without a service receives.
func publicLines(t *testing.T, set keys.Set) []string {
	t.Helper()
	lines, err := set.SidecarLines("")
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func nameOf(line string) string {
	name, _, _ := strings.Cut(line, "=")
	return name
}

func TestServerReceivesTheKeys(t *testing.T) {
	set := founder(t)
	lines := export(t, set)
	var names []string
	for _, l := range lines {
		names = append(names, nameOf(l))
	}
	if !reflect.DeepEqual(names, keys.Names()) {
		t.Fatalf("exported %v", names)
	}
	user := "# mine\nCONFIG_NODE_ID=node-2\nREBUILD_TOKEN=\nOTHER='a \"b\" $c'"
	for name, path := range map[string]string{
		"no file": filepath.Join(t.TempDir(), "data", ".env"), "a file": write(t, user), "an empty file": write(t, ""),
	} {
		t.Run(name, func(t *testing.T) {
			if err := keys.Import(noEnv, path, lines, keys.Options{}); err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Fatalf("mode %v, %v", info.Mode(), err)
			}
			content := read(t, path)
			if name == "a file" && !strings.HasPrefix(content, user+"\n\n# Received from the cluster") {
				t.Fatalf("the user's lines are not kept:\n%s", content)
			}
			got, gen, err := keys.Load(noEnv, path, keys.Options{Joined: true})
			if err != nil || gen.Names != nil || !reflect.DeepEqual(got, set) {
				t.Fatalf("loaded another set: generated %v, %v", gen.Names, err)
			}
			if err := keys.Import(noEnv, path, lines, keys.Options{}); err != nil || read(t, path) != content {
				t.Fatalf("a second import: %v", err)
			}
			noLeftovers(t, filepath.Dir(path), ".env")
		})
	}
}

func TestImportConflicts(t *testing.T) {
	set, other := founder(t), founder(t)
	lines := export(t, set)
	for i, name := range keys.Names() {
		t.Run(name, func(t *testing.T) {
			content := "A=1\n" + export(t, other)[i] + "\n"
			path := write(t, content)
			check := func(err error, where string) {
				t.Helper()
				if conf.CodeOf(err) != conf.CodeConflict || conf.HintOf(err) == "" || !strings.Contains(err.Error(), name) {
					t.Fatalf("in %s: got %v", where, err)
				}
				for _, n := range keys.Names() {
					if n != name && strings.Contains(err.Error(), n) {
						t.Errorf("in %s: %v names %s", where, err, n)
					}
				}
			}
			check(keys.Import(noEnv, path, lines, keys.Options{}), "the file")
			if read(t, path) != content {
				t.Error("the file was changed")
			}
			vars, err := keys.ReadEnvFile(path)
			if err != nil {
				t.Fatal(err)
			}
			empty := filepath.Join(t.TempDir(), ".env")
			check(keys.Import(envOf(vars), empty, lines, keys.Options{}), "the environment")
			noLeftovers(t, filepath.Dir(empty))
		})
	}
	path := write(t, "CONFIG_MASTER_KEY_BASE64=CHANGEME_base64_encoded_32_bytes\n")
	err := keys.Import(noEnv, path, lines, keys.Options{})
	if conf.CodeOf(err) != conf.CodeInvalid || !strings.Contains(err.Error(), "CHANGEME") {
		t.Errorf("a placeholder: %v", err)
	}
}

func TestImportAcceptsTheSameValueInAnotherForm(t *testing.T) {
	set := founder(t)
	lines := export(t, set)
	vars := map[string]string{}
	for _, l := range lines {
		path := write(t, l)
		one, err := keys.ReadEnvFile(path)
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(vars, one)
	}
	vars[keys.EnvMasterID] = " " + strings.ToUpper(set.MasterID)
	vars[keys.EnvPrivateKey] = `"` + strings.ReplaceAll(strings.TrimSpace(vars[keys.EnvPrivateKey]), "\n", `\n`) + `"`
	vars[keys.EnvAPITokens] = set.Tokens[1].Token + ":config.write, " + set.Tokens[0].Token + ":config.read"
	// Everything is in the environment: the file is not needed, nor is one.
	for _, path := range []string{"", filepath.Join(t.TempDir(), ".env")} {
		if err := keys.Import(envOf(vars), path, lines, keys.Options{}); err != nil {
			t.Fatal(err)
		}
		if path != "" {
			noLeftovers(t, filepath.Dir(path))
		}
	}
	// What is missing is added, and only that.
	delete(vars, keys.EnvHMACKey)
	path := filepath.Join(t.TempDir(), ".env")
	if err := keys.Import(envOf(vars), path, lines, keys.Options{}); err != nil {
		t.Fatal(err)
	}
	got, err := keys.ReadEnvFile(path)
	if err != nil || len(got) != 1 || got[keys.EnvHMACKey] != base64.StdEncoding.EncodeToString(set.HMAC) {
		t.Fatalf("the file has %d variables, %v", len(got), err)
	}
}

func TestImportRejectsBadLines(t *testing.T) {
	set := founder(t)
	good := export(t, set)
	without := func(name string) []string {
		return slices.DeleteFunc(slices.Clone(good), func(l string) bool { return nameOf(l) == name })
	}
	for name, c := range map[string]struct {
		lines []string
		says  string
	}{
		"nothing":           {nil, "no keys"},
		"no assignment":     {append(slices.Clone(good), "hush-hush"), "line 9"},
		"an open quote":     {append(slices.Clone(good), `A="hush-hush`), "line 9"},
		"two in a line":     {append(without(keys.EnvRebuildToken), "REBUILD_TOKEN=hush-hush\nPATH=/tmp"), "line 8"},
		"another variable":  {append(slices.Clone(good), "LD_PRELOAD=hush-hush"), "line 9"},
		"twice":             {append(slices.Clone(good), good[0]), "line 9"},
		"empty":             {append(without(keys.EnvRebuildToken), "REBUILD_TOKEN="), "line 8"},
		"one is missing":    {without(keys.EnvHMACKey), keys.EnvHMACKey},
		"no tokens":         {without(keys.EnvAPITokens), keys.EnvAPITokens},
		"a broken key":      {append(without(keys.EnvMasterKey), "CONFIG_MASTER_KEY_BASE64=hush-hush"), keys.EnvMasterKey},
		"a broken public":   {[]string{"CONFIG_SIGNATURE_PUBLIC_KEY=hush-hush"}, keys.EnvPublicKey},
		"no public":         {[]string{"REBUILD_TOKEN=hush-hush"}, keys.EnvPublicKey},
		"pair does not fit": {append(without(keys.EnvPublicKey), publicLines(t, founder(t))...), "belong"},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, "A=1\n")
			err := keys.Import(noEnv, path, c.lines, keys.Options{})
			if code := conf.CodeOf(err); (code != conf.CodeMalformed && code != conf.CodeInvalid) || conf.HintOf(err) == "" {
				t.Fatalf("got %v", err)
			}
			text := err.Error() + conf.HintOf(err)
			if !strings.Contains(text, c.says) || strings.Contains(text, "hush") {
				t.Errorf("says %q", text)
			}
			if read(t, path) != "A=1\n" {
				t.Error("the file was changed")
			}
		})
	}
}

func TestImportWhereNothingCanBeWritten(t *testing.T) {
	lines := export(t, founder(t))
	file := write(t, "")
	for name, path := range map[string]string{"no path": "", "below a file": filepath.Join(file, ".env")} {
		err := keys.Import(noEnv, path, lines, keys.Options{})
		if conf.CodeOf(err) != conf.CodeUsage || conf.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := write(t, "A=\"open\n")
	if err := keys.Import(noEnv, broken, lines, keys.Options{}); conf.CodeOf(err) != conf.CodeInvalid || read(t, broken) != "A=\"open\n" {
		t.Errorf("a broken file: %v", err)
	}
}

func TestConcurrentImports(t *testing.T) {
	set := founder(t)
	path := filepath.Join(t.TempDir(), ".env")
	lines := export(t, set)
	const agents = 8
	errs := make([]error, agents)
	var wg sync.WaitGroup
	for i := range agents {
		wg.Go(func() { errs[i] = keys.Import(noEnv, path, lines, keys.Options{}) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	content := read(t, path)
	if n := strings.Count(content, keys.EnvMasterKey+"="); n != 1 {
		t.Errorf("imported %d times", n)
	}
	noLeftovers(t, filepath.Dir(path), ".env")
}

func TestJoinedServerMakesNoKeys(t *testing.T) {
	set := founder(t)
	path := filepath.Join(t.TempDir(), ".env")
	for _, lines := range [][]string{nil, export(t, set)[:7]} {
		if lines != nil {
			path = write(t, strings.Join(lines, "\n"))
		}
		_, _, err := keys.Load(noEnv, path, keys.Options{Joined: true})
		if conf.CodeOf(err) != conf.CodeInvalid || conf.HintOf(err) == "" || !strings.Contains(err.Error(), keys.EnvAPITokens) {
			t.Fatalf("got %v", err)
		}
		if got, err := os.ReadFile(path); (lines == nil) != os.IsNotExist(err) || string(got) != strings.Join(lines, "\n") {
			t.Fatalf("the file was changed: %v", err)
		}
	}
}

func TestSidecar(t *testing.T) {
	set := founder(t)
	lines := publicLines(t, set)
	if len(lines) != 1 || nameOf(lines[0]) != keys.EnvPublicKey {
		t.Fatalf("a sidecar receives %q", lines)
	}
	path := filepath.Join(t.TempDir(), ".env")
	sidecar := keys.Options{Role: conf.MemberSidecar, Joined: true}
	_, _, err := keys.Load(noEnv, path, sidecar)
	if conf.CodeOf(err) != conf.CodeInvalid || conf.HintOf(err) == "" || !strings.Contains(err.Error(), keys.EnvPublicKey) {
		t.Fatalf("without the public key: %v", err)
	}
	noLeftovers(t, filepath.Dir(path))

	if err := keys.Import(noEnv, path, lines, keys.Options{}); err != nil {
		t.Fatal(err)
	}
	got, gen, err := keys.Load(noEnv, path, sidecar)
	if err != nil || !reflect.DeepEqual(gen, keys.Generated{Path: path, Names: []string{keys.EnvHMACKey, keys.EnvHMACID}}) {
		t.Fatalf("generated %+v, %v", gen, err)
	}
	if !got.Public.Equal(set.Public) || len(got.HMAC) != 32 || got.HMACID == "" || got.HMACID == set.HMACID {
		t.Fatalf("loaded %v", got)
	}
	if got.Master != nil || got.MasterID != "" || got.Private != nil || got.RebuildToken != "" || got.Tokens != nil || got.AllowsRebuild("") {
		t.Fatalf("a sidecar has keys of a server: %v", got)
	}
	again, gen, err := keys.Load(noEnv, path, sidecar)
	if err != nil || gen.Names != nil || !reflect.DeepEqual(again, got) {
		t.Fatalf("a second start differs: %v, %v", gen, err)
	}
	vars, err := keys.ReadEnvFile(path)
	if err != nil || len(vars) != 3 {
		t.Fatalf("%d variables in the file, %v", len(vars), err)
	}
	if _, _, err := keys.Load(noEnv, path, keys.Options{Role: "voter"}); conf.CodeOf(err) != conf.CodeInvalid {
		t.Errorf("an unknown role: %v", err)
	}
}

func TestSidecarDoesNotLoadWhatIsNotForIt(t *testing.T) {
	env := full(t)
	set, gen, err := keys.Load(envOf(env), "", keys.Options{Role: conf.MemberSidecar})
	if err != nil || gen.Names != nil {
		t.Fatalf("%v, %v", gen, err)
	}
	if set.Master != nil || set.Private != nil || set.RebuildToken != "" || len(set.Tokens) != 2 {
		t.Fatalf("loaded %v", set)
	}
	warned := strings.Join(gen.Warnings, "\n")
	for _, name := range []string{keys.EnvMasterKey, keys.EnvPrivateKey, keys.EnvRebuildToken} {
		if !strings.Contains(warned, name+" in the environment") {
			t.Errorf("%s is not warned of: %s", name, warned)
		}
	}
	// What it does not load may be the example's.
	env[keys.EnvMasterKey], env[keys.EnvRebuildToken] = "CHANGEME", "CHANGEME"
	delete(env, keys.EnvAPITokens)
	if set, _, err := keys.Load(envOf(env), "", keys.Options{Role: conf.MemberSidecar}); err != nil || set.Tokens != nil {
		t.Errorf("%v, %v", set, err)
	}
	for name, value := range map[string]string{
		keys.EnvPublicKey: "CHANGEME", keys.EnvHMACKey: "hush", keys.EnvAPITokens: "hush", keys.EnvHMACID: "hush",
	} {
		bad := full(t)
		bad[name] = value
		_, _, err := keys.Load(envOf(bad), "", keys.Options{Role: conf.MemberSidecar})
		if conf.CodeOf(err) != conf.CodeInvalid || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A token may hold any printable character but a space and a comma: what is
// exported must be what was set, for the agent and for a shell.
func TestTokensSurviveTheHandover(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const hard = "\"'\\$`#{}()!n=:~&;ABab"
	for range 400 {
		random := func() string {
			b := make([]byte, 1+rng.IntN(8))
			for i := range b {
				b[i] = hard[rng.IntN(len(hard))]
			}
			return string(b)
		}
		env := full(t)
		env[keys.EnvRebuildToken] = "a" + random()
		env[keys.EnvAPITokens] = random() + "1:config.read,2" + random() + ":config.write"
		set, _, err := keys.Load(envOf(env), "", keys.Options{})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), ".env")
		if err := keys.Import(noEnv, path, export(t, set), keys.Options{}); err != nil {
			t.Fatalf("%q %q: %v", env[keys.EnvRebuildToken], env[keys.EnvAPITokens], err)
		}
		got, _, err := keys.Load(noEnv, path, keys.Options{Joined: true})
		if err != nil || !reflect.DeepEqual(got, set) {
			t.Fatalf("%q %q: %v", env[keys.EnvRebuildToken], env[keys.EnvAPITokens], err)
		}
	}
	path := filepath.Join(t.TempDir(), ".env")
	env := full(t)
	env[keys.EnvRebuildToken] = `'"` // no way to write it
	set, _, err := keys.Load(envOf(env), "", keys.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if lines, err := set.Export(); conf.CodeOf(err) != conf.CodeInvalid || !strings.Contains(err.Error(), keys.EnvRebuildToken) || lines != nil {
		t.Errorf("%d lines, %v", len(lines), err)
	}
	env[keys.EnvRebuildToken] = "$HOME`id`\"\\x!#"
	set, _, err = keys.Load(envOf(env), "", keys.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Import(noEnv, path, export(t, set), keys.Options{}); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", `. "$1"; printf %s "$REBUILD_TOKEN"`, "sh", path).Output()
	if err != nil || string(out) != set.RebuildToken {
		t.Fatalf("sh reads %q, %v", out, err)
	}
}
