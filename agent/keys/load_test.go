package keys_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func noEnv(string) (string, bool) { return "", false }

func envOf(m map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := m[name]; return v, ok }
}

func key(n byte) string {
	b := bytes.Repeat([]byte{n}, 32)
	b[0]++
	return base64.StdEncoding.EncodeToString(b)
}

const (
	id1 = "11111111-2222-4333-8444-555555555555"
	id2 = "21111111-2222-4333-8444-555555555555"
)

// pair makes a key pair in PEM form with real line ends.
func pair(t *testing.T, n byte) (private, public string) {
	t.Helper()
	k := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32))
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub}))
}

// full is a complete and valid environment.
func full(t *testing.T) map[string]string {
	private, public := pair(t, 7)
	return map[string]string{
		keys.EnvMasterKey: key(1), keys.EnvMasterID: id1, keys.EnvHMACKey: key(2), keys.EnvHMACID: id2,
		keys.EnvPrivateKey: private, keys.EnvPublicKey: public, keys.EnvRebuildToken: "rebuild-token-of-the-test",
		keys.EnvAPITokens: "readonly-token:config.read, admin-token:config.write",
	}
}

func TestFirstRunGeneratesEverything(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "data", ".env")
	set, gen, err := keys.Load(noEnv, path, keys.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(gen, keys.Generated{Path: path, Names: keys.Names()}) {
		t.Fatalf("generated %+v", gen)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if len(set.Master) != 32 || len(set.HMAC) != 32 || bytes.Equal(set.Master, set.HMAC) || set.MasterID == set.HMACID {
		t.Fatal("bad symmetric keys")
	}
	if !ed25519.Verify(set.Public, []byte("x"), ed25519.Sign(set.Private, []byte("x"))) {
		t.Fatal("the pair does not belong together")
	}
	if len(set.Tokens) != 2 || !strings.HasPrefix(set.Tokens[0].Token, "hf_read_") || set.Tokens[0].Principal.Role != conf.RoleRead ||
		!strings.HasPrefix(set.Tokens[1].Token, "hf_write_") || set.Tokens[1].Principal.Role != conf.RoleWrite {
		t.Fatalf("tokens %v", set.Tokens)
	}
	if !set.AllowsRebuild(set.RebuildToken) || set.AllowsRebuild("") || set.AllowsRebuild(set.RebuildToken+"x") {
		t.Fatal("rebuild token")
	}
	again, gen, err := keys.Load(noEnv, path, keys.Options{})
	if err != nil || gen.Names != nil || !reflect.DeepEqual(again, set) {
		t.Fatalf("a second run differs: generated %v, %v", gen.Names, err)
	}
	other, _, err := keys.Load(noEnv, filepath.Join(dir, "other.env"), keys.Options{})
	if err != nil || bytes.Equal(other.Master, set.Master) || other.RebuildToken == set.RebuildToken || other.Private.Equal(set.Private) {
		t.Fatalf("two agents share keys: %v", err)
	}
	noLeftovers(t, filepath.Dir(path), ".env")
}

func TestFileIsReadableByShellAndPython(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".env")
	set, _, err := keys.Load(noEnv, path, keys.Options{})
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", `. "$1"; printf %s "$CONFIG_MASTER_KEY_BASE64"`, "sh", path).Output()
	if err != nil || string(out) != base64.StdEncoding.EncodeToString(set.Master) {
		t.Fatalf("sh reads %d bytes, %v", len(out), err)
	}
}

func noLeftovers(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("the directory holds %q, want %q", got, want)
	}
}

func TestUsersLinesAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".env")
	user := "# my file\nexport CONFIG_MANAGER_PORT=8081   # the port\nCONFIG_MASTER_KEY_BASE64=" + key(1) + "\nREBUILD_TOKEN=\nOTHER='a \"b\" $c'"
	if err := os.WriteFile(path, []byte(user), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "..env.tmp-123"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	set, gen, err := keys.Load(noEnv, path, keys.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if base64.StdEncoding.EncodeToString(set.Master) != key(1) || gen.Names[0] != keys.EnvMasterID || len(gen.Names) != 7 {
		t.Fatalf("generated %v", gen.Names)
	}
	content, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(content), user+"\n\n# Generated") {
		t.Fatalf("file is\n%s", content)
	}
	vars, err := keys.ReadEnvFile(path)
	if err != nil || vars["CONFIG_MANAGER_PORT"] != "8081" || vars["OTHER"] != `a "b" $c` || vars["REBUILD_TOKEN"] != set.RebuildToken {
		t.Fatalf("variables do not read back: %v", err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v", info.Mode())
	}
	noLeftovers(t, filepath.Dir(path), ".env")
}

func TestEnvironmentWins(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".env")
	fromFile, _, err := keys.Load(noEnv, path, keys.Options{})
	if err != nil {
		t.Fatal(err)
	}
	set, gen, err := keys.Load(envOf(map[string]string{keys.EnvRebuildToken: "rebuild-from-environment", keys.EnvAPITokens: "  "}), path, keys.Options{})
	if err != nil || gen.Names != nil {
		t.Fatalf("%v, %v", gen, err)
	}
	if set.RebuildToken != "rebuild-from-environment" || !reflect.DeepEqual(set.Tokens, fromFile.Tokens) || !bytes.Equal(set.Master, fromFile.Master) {
		t.Fatal("not looked up variable by variable")
	}
}

func TestEnvironmentAlone(t *testing.T) {
	env := full(t)
	env[keys.EnvPrivateKey] = `"` + strings.ReplaceAll(strings.TrimSpace(env[keys.EnvPrivateKey]), "\n", `\n`) + `"` // as docker passes it on
	delete(env, keys.EnvPublicKey)                                                                                   // is derived
	for _, path := range []string{"", filepath.Join(t.TempDir(), ".env")} {
		set, gen, err := keys.Load(envOf(env), path, keys.Options{})
		if err != nil || gen.Names != nil {
			t.Fatalf("%v, %v", gen, err)
		}
		if !set.Public.Equal(set.Private.Public()) {
			t.Fatal("public key is not derived")
		}
		if len(gen.Warnings) != 2 { // the two short tokens of the documentation
			t.Fatalf("warnings %q", gen.Warnings)
		}
		if path != "" {
			noLeftovers(t, filepath.Dir(path))
		}
	}
}

func TestInvalidValues(t *testing.T) {
	_, otherPublic := pair(t, 8)
	rsa := "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VuBCIEIAAA\n-----END PRIVATE KEY-----"
	const zero = "00000000-0000-0000-0000-000000000000"
	for _, c := range []struct {
		name string
		edit map[string]string // "" deletes
		says []string
	}{
		{"placeholder master", map[string]string{keys.EnvMasterKey: "CHANGEME_base64_encoded_32_bytes", keys.EnvMasterID: zero}, []string{keys.EnvMasterKey, "CHANGEME"}},
		{"placeholder hmac", map[string]string{keys.EnvHMACKey: "CHANGEME_base64_encoded_32_bytes"}, []string{keys.EnvHMACKey, "CHANGEME"}},
		{"placeholder private", map[string]string{keys.EnvPrivateKey: "-----BEGIN PRIVATE KEY-----\\nCHANGEME\\n-----END PRIVATE KEY-----"}, []string{keys.EnvPrivateKey, "CHANGEME"}},
		{"placeholder public", map[string]string{keys.EnvPublicKey: "-----BEGIN PUBLIC KEY-----\\nCHANGEME\\n-----END PUBLIC KEY-----"}, []string{keys.EnvPublicKey, "CHANGEME"}},
		{"placeholder rebuild", map[string]string{keys.EnvRebuildToken: "changeme_secure_random_token"}, []string{keys.EnvRebuildToken, "CHANGEME"}},
		{"placeholder tokens", map[string]string{keys.EnvAPITokens: "CHANGEME:config.read"}, []string{keys.EnvAPITokens, "CHANGEME"}},
		{"several placeholders", map[string]string{keys.EnvMasterKey: "CHANGEME", keys.EnvHMACKey: "CHANGEME"}, []string{keys.EnvMasterKey, keys.EnvHMACKey}},
		{"zero id", map[string]string{keys.EnvMasterID: zero}, []string{keys.EnvMasterID, "all-zero", "uuidgen"}},
		{"zero hmac id", map[string]string{keys.EnvHMACID: zero}, []string{keys.EnvHMACID, "all-zero", "uuidgen"}},
		{"bad id", map[string]string{keys.EnvMasterID: "key-1"}, []string{keys.EnvMasterID, "UUID"}},
		{"id without key", map[string]string{keys.EnvMasterKey: ""}, []string{keys.EnvMasterKey, keys.EnvMasterID}},
		{"short key", map[string]string{keys.EnvMasterKey: "c2VjcmV0LXNob3J0"}, []string{keys.EnvMasterKey, "32 bytes"}},
		{"not base64", map[string]string{keys.EnvHMACKey: "%%%secret%%%"}, []string{keys.EnvHMACKey, "base64"}},
		{"zero key", map[string]string{keys.EnvHMACKey: base64.StdEncoding.EncodeToString(make([]byte, 32))}, []string{keys.EnvHMACKey, "one byte"}},
		{"same key twice", map[string]string{keys.EnvHMACKey: key(1)}, []string{keys.EnvHMACKey, keys.EnvMasterKey}},
		{"public of another", map[string]string{keys.EnvPublicKey: otherPublic}, []string{keys.EnvPublicKey, "belong"}},
		{"public without private", map[string]string{keys.EnvPrivateKey: ""}, []string{keys.EnvPrivateKey, keys.EnvPublicKey}},
		{"private is no key", map[string]string{keys.EnvPrivateKey: rsa}, []string{keys.EnvPrivateKey, "Ed25519"}},
		{"private is public", map[string]string{keys.EnvPrivateKey: otherPublic}, []string{keys.EnvPrivateKey, "Ed25519"}},
		{"public is no PEM", map[string]string{keys.EnvPublicKey: "secret"}, []string{keys.EnvPublicKey, "PEM"}},
		{"two PEM blocks", map[string]string{keys.EnvPublicKey: otherPublic + otherPublic}, []string{keys.EnvPublicKey}},
		{"rebuild token with a space", map[string]string{keys.EnvRebuildToken: "secret secret"}, []string{keys.EnvRebuildToken}},
		{"token without role", map[string]string{keys.EnvAPITokens: "secret"}, []string{keys.EnvAPITokens, "entry 1", "role"}},
		{"unknown role", map[string]string{keys.EnvAPITokens: "a:config.read,secret:admin"}, []string{"entry 2", "role"}},
		{"empty token", map[string]string{keys.EnvAPITokens: ":config.read"}, []string{"entry 1", "empty"}},
		{"empty entry", map[string]string{keys.EnvAPITokens: "a:config.read,"}, []string{"entry 2"}},
		{"token with a space", map[string]string{keys.EnvAPITokens: "secret secret:config.read"}, []string{"entry 1", "spaces"}},
		{"token twice", map[string]string{keys.EnvAPITokens: "secret:config.read,b:config.read,secret:config.write"}, []string{"entry 3", "entry 1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := full(t)
			for k, v := range c.edit {
				env[k] = v
			}
			path := filepath.Join(t.TempDir(), ".env")
			_, _, err := keys.Load(envOf(env), path, keys.Options{})
			if conf.CodeOf(err) != conf.CodeInvalid || conf.HintOf(err) == "" {
				t.Fatalf("got %v, hint %q", err, conf.HintOf(err))
			}
			text := err.Error() + " " + conf.HintOf(err)
			for _, want := range c.says {
				if !strings.Contains(text, want) {
					t.Errorf("%q does not say %q", text, want)
				}
			}
			if strings.Contains(text, "secret") {
				t.Errorf("%q quotes the value", text)
			}
			noLeftovers(t, filepath.Dir(path))
		})
	}
}

func TestUnwritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"no path": "", "below a file": filepath.Join(file, ".env")} {
		t.Run(name, func(t *testing.T) {
			_, _, err := keys.Load(noEnv, path, keys.Options{})
			u, ok := errors.AsType[*keys.Unwritable](err)
			if !ok || len(u.Lines()) != len(keys.Names()) || conf.HintOf(err) == "" {
				t.Fatalf("got %v", err)
			}
			for i, line := range u.Lines() {
				name, value, _ := strings.Cut(line, "=")
				if name != keys.Names()[i] || strings.Contains(line, "\n") {
					t.Fatalf("line %d is of %q", i, name)
				}
				if strings.Contains(err.Error()+conf.HintOf(err), strings.Trim(value, `"`)) {
					t.Fatalf("the error shows %s", name)
				}
			}
			// What was printed is a complete .env file.
			good := filepath.Join(t.TempDir(), ".env")
			if err := os.WriteFile(good, []byte(strings.Join(u.Lines(), "\n")), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, gen, err := keys.Load(noEnv, good, keys.Options{}); err != nil || gen.Names != nil {
				t.Fatalf("%v, %v", gen.Names, err)
			}
		})
	}
}

func TestBrokenFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, ".env")
	for _, c := range []struct{ name, content, says string }{
		{"open quote", "A=1\nB=2\nSECRET=\"hush-hush\nC=3\n", "line 3"},
		{"no assignment", "A=1\nhush-hush!\n", "line 2"},
	} {
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := keys.Load(noEnv, path, keys.Options{})
		if conf.CodeOf(err) != conf.CodeInvalid || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: got %v", c.name, err)
		}
		if got, _ := os.ReadFile(path); string(got) != c.content {
			t.Errorf("%s: the file was changed", c.name)
		}
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{dir, fifo, "/dev/zero"} {
		if _, _, err := keys.Load(noEnv, p, keys.Options{}); conf.CodeOf(err) != conf.CodeInvalid {
			t.Errorf("%s: got %v", p, err)
		}
	}
}

func TestConcurrentStarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".env")
	const agents = 16
	var wg sync.WaitGroup
	sets, names, errs := make([]keys.Set, agents), make([]int, agents), make([]error, agents)
	for i := range agents {
		wg.Go(func() {
			var gen keys.Generated
			sets[i], gen, errs[i] = keys.Load(noEnv, path, keys.Options{})
			names[i] = len(gen.Names)
		})
	}
	wg.Wait()
	made := 0
	for i := range agents {
		if errs[i] != nil || !reflect.DeepEqual(sets[i], sets[0]) {
			t.Fatalf("agent %d has another set, %v", i, errs[i])
		}
		made += names[i]
	}
	if made != len(keys.Names()) {
		t.Fatalf("%d variables were generated", made)
	}
	noLeftovers(t, filepath.Dir(path), ".env")
}

func TestLockIsNotWaitedForForever(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".env")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	_, _, err = keys.Load(noEnv, path, keys.Options{LockTimeout: time.Millisecond})
	if conf.CodeOf(err) != conf.CodeLocked {
		t.Fatalf("got %v", err)
	}
}

func TestSymbolicLinkIsKept(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := os.Symlink("target", link); err != nil { // dangling at first
		t.Fatal(err)
	}
	if _, _, err := keys.Load(noEnv, link, keys.Options{}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Fatalf("the link is gone: %v", err)
	}
	if vars, err := keys.ReadEnvFile(target); err != nil || len(vars) != len(keys.Names()) {
		t.Fatalf("%d variables, %v", len(vars), err)
	}
}

func TestReadableByOthersIsWarnedOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".env")
	if _, _, err := keys.Load(noEnv, path, keys.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	_, gen, err := keys.Load(noEnv, path, keys.Options{})
	if err != nil || len(gen.Warnings) != 1 || !strings.Contains(gen.Warnings[0], "0644") {
		t.Fatalf("%q, %v", gen.Warnings, err)
	}
}
