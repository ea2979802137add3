package keys

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Whatever single byte of a .env file is damaged, the key of the last-known-good file is
// found unless it is the byte that was damaged, and so is what other lines hold.
func TestSalvageHMACKey(t *testing.T) {
	for _, role := range []string{"server", "sidecar"} {
		t.Run(role, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), ".env")
			env := func(name string) (string, bool) {
				if name != EnvPublicKey || role == "server" {
					return "", false
				}
				return encodePublic(make([]byte, 32)), true
			}
			set, _, err := Load(env, path, Options{Role: role})
			if err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			value := encode(set.HMAC)
			start := strings.Index(string(content), value)
			for i := range content {
				for _, bit := range []byte{1, 4, 0x20, 0x80} {
					damaged := bytes.Clone(content)
					damaged[i] ^= bit
					if err := os.WriteFile(path, damaged, 0o600); err != nil {
						t.Fatal(err)
					}
					_, found := Salvage(env, path)
					has := slices.ContainsFunc(found, func(k []byte) bool { return bytes.Equal(k, set.HMAC) })
					if key := i >= start && i < start+len(value); !has && !key {
						t.Errorf("byte %d (%q) with %#x: the key is not found", i, content[i], bit)
					}
				}
			}
		})
	}
}

// A key in a comment was taken out of use: it verifies nothing.
func TestSalvageNoKeyOfAComment(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(path, []byte("# "+EnvHMACKey+"="+encode(bytes.Repeat([]byte("ab"), 16))+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, found := Salvage(nil, path); len(found) != 0 {
		t.Errorf("%d keys of a comment", len(found))
	}
}
