package testenv

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/schema/dialect"
)

// publicSchema is one schema of a public repository; testdata/public-schemas has its text.
type publicSchema struct {
	Repository, Path, Commit, Licence, SHA256 string

	Accepted string // plain: as it is; any: with x-keys; no
	Why      string // part of the rejection
}

// TestPublicSchemas holds which schemas of other projects are accepted, and why the
// rest is not.
func TestPublicSchemas(t *testing.T) {
	raw, err := os.ReadFile("testdata/public-schemas.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []publicSchema
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, s := range list {
		counts[s.Accepted]++
		if s.Licence == "" || len(s.Commit) != 40 || len(s.SHA256) != 64 || (s.Accepted == "no") != (s.Why != "") {
			t.Errorf("%s of %s is not described", s.Path, s.Repository)
		}
	}
	if len(list) != 31 || counts["plain"] != 7 || counts["any"] != 18 || counts["no"] != 6 {
		t.Errorf("%d schemas, %v: docs/schemas.md has the numbers too", len(list), counts)
	}
	const dir = "testdata/public-schemas"
	files := readPublic(t, dir)
	for _, s := range list {
		text, ok := files[s.SHA256]
		if !ok {
			t.Errorf("%s of %s at %s is not in %s", s.Path, s.Repository, s.Commit, dir)
			continue
		}
		got := "no"
		err := compilePublic(text)
		if err == nil {
			got = "plain"
		} else if err = compilePublic(bytes.Replace(text, []byte("{"), []byte(`{"x-keys":"any",`), 1)); err == nil {
			got = "any"
		}
		if got != s.Accepted || err != nil && !strings.Contains(err.Error(), s.Why) {
			t.Errorf("%s of %s: %s (%v), want %s %s", s.Path, s.Repository, got, err, s.Accepted, s.Why)
		}
	}
}

// readPublic returns the compressed JSON files below a directory by their checksums.
func readPublic(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".json.gz") {
			return err
		}
		packed, err := os.Open(path)
		if err != nil {
			return err
		}
		defer packed.Close()
		plain, err := gzip.NewReader(packed)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(plain)
		sum := sha256.Sum256(text)
		files[hex.EncodeToString(sum[:])] = text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func compilePublic(text []byte) error {
	c, err := dialect.Canonical(text)
	if err != nil {
		return err
	}
	_, err = schema.NewCache().Admit("public", c)
	if err != nil {
		return err
	}
	_, err = conf.ParseSchema(c)
	return err
}
