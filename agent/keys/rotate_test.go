package keys

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func none(string) (string, bool) { return "", false }

func TestRotate(t *testing.T) {
	for _, kind := range []string{conf.KeyMaster, conf.KeyHMAC, conf.KeySigning} {
		t.Run(kind, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), ".env")
			before := "# mine\nFOO=\"a b\"\nMULTI='one\ntwo'\n"
			if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
			first, _, err := Load(none, path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			was, _ := first.IDs(kind)
			m, err := NewMaterial(kind, "")
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time changes nothing
				set, err := Rotate(none, path, m, was, Options{})
				if err != nil {
					t.Fatal(err)
				}
				if main, old := set.IDs(kind); main != m.ID || old != was {
					t.Fatalf("ids %s, %s: want %s, %s", main, old, m.ID, was)
				}
			}
			again, _, err := Load(none, path, Options{Joined: true})
			if err != nil {
				t.Fatal(err)
			}
			got, ok := again.Material(kind, m.ID)
			if old, had := first.Material(kind, was); !ok || !had || got.Value != m.Value {
				t.Fatal("the new key is not in the file")
			} else if o, _ := again.Material(kind, was); o.Value != old.Value {
				t.Fatal("the old key is not in the file")
			}
			text, _ := os.ReadFile(path)
			if !strings.HasPrefix(string(text), before) {
				t.Fatalf("the user's lines are not kept:\n%s", text)
			}

			// One that was given up makes way for the next, and the key in use stays.
			next, _ := NewMaterial(kind, "")
			set, err := Rotate(none, path, next, was, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if main, old := set.IDs(kind); main != next.ID || old != was {
				t.Fatalf("ids %s, %s: want %s, %s", main, old, next.ID, was)
			}
			if set, err = Undo(none, path, kind, next.ID, Options{}); err != nil {
				t.Fatal(err)
			}
			if main, old := set.IDs(kind); main != was || old != "" {
				t.Fatalf("after Undo: ids %s, %s", main, old)
			}
			if _, err = Rotate(none, path, next, was, Options{}); err != nil {
				t.Fatal(err)
			}
			if set, err = Drop(none, path, kind, was, Options{}); err != nil {
				t.Fatal(err)
			}
			if main, old := set.IDs(kind); main != next.ID || old != "" {
				t.Fatalf("after Drop: ids %s, %s", main, old)
			}
			text, _ = os.ReadFile(path)
			if strings.Contains(string(text), "OLD") || !strings.HasPrefix(string(text), before) {
				t.Fatalf("after Drop:\n%s", text)
			}
			if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
				t.Fatalf("mode %v", info.Mode())
			}
		})
	}
}

// Keys of the environment are not the agent's to change.
func TestRotateEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".env")
	set, _, err := Load(none, path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	main, _ := set.IDs(conf.KeyMaster)
	value, _ := set.Material(conf.KeyMaster, main)
	env := func(name string) (string, bool) {
		v, ok := map[string]string{EnvMasterKey: value.Value, EnvMasterID: main}[name]
		return v, ok
	}
	if err := Rotatable(env, path, conf.KeyMaster, Options{}); conf.CodeOf(err) != conf.CodeImmutable || conf.HintOf(err) == "" {
		t.Fatalf("Rotatable: %v", err)
	}
	m, _ := NewMaterial(conf.KeyMaster, "")
	if _, err := Rotate(env, path, m, main, Options{}); conf.CodeOf(err) != conf.CodeImmutable {
		t.Fatalf("Rotate: %v", err)
	}
	if err := Rotatable(env, path, conf.KeyHMAC, Options{}); err != nil {
		t.Fatalf("Rotatable of another kind: %v", err)
	}
	// A file that cannot be made.
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Rotatable(none, filepath.Join(blocked, ".env"), conf.KeyMaster, Options{}); conf.CodeOf(err) != conf.CodeUsage || conf.HintOf(err) == "" {
		t.Fatalf("Rotatable of an unwritable file: %v", err)
	}
}

// Appending means the same as replacing, for a file that cannot be replaced.
func TestRewriteAppended(t *testing.T) {
	content := "export " + EnvHMACKey + "=old\n" + EnvHMACID + ": oldid # comment\n" + EnvMasterKey + "=\"a\nb\"\nX=1"
	file, err := parseEnv([]byte(content), "")
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{EnvHMACKey: "new", EnvHMACOldKey: "old", EnvHMACOldID: "oldid", EnvMasterKey: ""}
	next, added, err := rewrite([]byte(content), file, values, "")
	if err != nil {
		t.Fatal(err)
	}
	a, _ := parseEnv(next, "")
	b, _ := parseEnv([]byte(content+added), "")
	maps.DeleteFunc(b, func(_, v string) bool { return v == "" })
	if !maps.Equal(a, b) {
		t.Fatalf("replaced %q, appended %q", a, b)
	}
	want := EnvHMACKey + "=new\n" + EnvHMACID + ": oldid # comment\nX=1\n" + EnvHMACOldKey + "=old\n" + EnvHMACOldID + "=oldid\n"
	if string(next) != want {
		t.Fatalf("got\n%s\nwant\n%s", next, want)
	}
}
