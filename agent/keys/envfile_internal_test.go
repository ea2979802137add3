package keys

import (
	"os"
	"path/filepath"
	"testing"
)

// A single file that is mounted into a container cannot be renamed over, and its
// directory may not be writable. A missing directory has the same effect here.
func TestAppendInPlaceWhereReplaceIsImpossible(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, ".env")
	if err := os.WriteFile(path, []byte("A=1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	target := &envTarget{path: filepath.Join(dir, "no", "such", "directory"), file: f}
	if stored, err := target.write([]byte("A=1\nB=2\n"), []byte("A=1\n"), "B=2\n"); err != nil || !stored {
		t.Fatalf("%v, %v", stored, err)
	}
	content, err := os.ReadFile(path)
	if err != nil || string(content) != "A=1\nB=2\n" {
		t.Fatalf("%q, %v", content, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}

	readOnly, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = readOnly.Close() }()
	target.file = readOnly
	if stored, err := target.write([]byte("A=1\nB=2\nC=3\n"), content, "C=3\n"); err == nil || stored {
		t.Fatalf("a read-only file was written: %v, %v", stored, err)
	}
}

func TestReplaceLeavesNothingBehindWhenItFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, ".env")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	// A directory in the place of the file makes the rename fail.
	blocked := filepath.Join(dir, "blocked")
	if err := os.MkdirAll(filepath.Join(blocked, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	target := &envTarget{path: blocked, file: f}
	if stored, err := target.replace([]byte("A=1\n")); err == nil || stored {
		t.Fatalf("%v, %v", stored, err)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*tmp*"))
	if err != nil || len(left) > 0 {
		t.Fatalf("%q, %v", left, err)
	}
}
