package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/holdfast-config/holdfast/replication/durable"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func write(data string) func(*os.File) error {
	return func(f *os.File) error {
		_, err := f.WriteString(data)
		return err
	}
}

// holds checks that path has that content, and that no other file is beside it.
func holds(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s holds %q, %v; want %q", path, got, err, want)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v, %v", entries, err)
	}
}

func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, data := range []string{"first", "second", ""} {
		info, err := durable.Replace(path, 0o640, write(data))
		if err != nil {
			t.Fatal(err)
		}
		holds(t, path, data)
		now, err := os.Stat(path)
		if err != nil || !os.SameFile(info, now) || info.Size() != now.Size() || !info.ModTime().Equal(now.ModTime()) {
			t.Errorf("described as %+v, is %+v, %v", info, now, err)
		}
		if now.Mode().Perm()&^0o640 != 0 || now.Mode().Perm()&0o600 != 0o600 {
			t.Errorf("mode %v", now.Mode())
		}
	}
}

// TestFailedStep fails one step after the other: the file stays as it was.
func TestFailedStep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := durable.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	for name, fail := range map[string]func(*os.File) error{
		"write": func(f *os.File) error { return errors.Join(write("half")(f), broken) },
		"sync":  func(f *os.File) error { return errors.Join(write("all")(f), f.Close()) },
	} {
		if info, err := durable.Replace(path, 0o600, fail); err == nil || info != nil {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		holds(t, path, "old")
	}
	if err := durable.WriteFile(filepath.Join(path, "x"), nil, 0o600); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "d") // a rename cannot replace it
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(dir, []byte("x"), 0o600); err == nil {
		t.Error("a directory was replaced")
	}
	if entries, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v, %v", entries, err)
	}
}

// TestFullDisk fills a small disk. A write that does not fit fails, and leaves the
// old content and no temporary file.
func TestFullDisk(t *testing.T) {
	dir, page := t.TempDir(), os.Getpagesize()
	err := errors.New("this is not root")
	if os.Getuid() == 0 {
		err = syscall.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", 64*page))
	}
	if err != nil {
		base.Missing(t, "a tmpfs of fixed size: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })

	path := filepath.Join(dir, "node-id")
	old := bytes.Repeat([]byte("1234"), page/4+1)
	if err := durable.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 64*page), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	for _, free := range []int{0, page} { // with one page free the temporary file gets all but the last bytes
		info, err := os.Stat(ballast)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(ballast, info.Size()-int64(free)); err != nil {
			t.Fatal(err)
		}
		if err := durable.WriteFile(path, bytes.Repeat([]byte("5678"), page/4+1), 0o600); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("with %d bytes free: %v", free, err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, old) {
			t.Errorf("with %d bytes free the file holds %d bytes, %v", free, len(got), err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
			t.Errorf("the directory holds %v, %v", entries, err)
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(path, []byte("node-5678\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	holds(t, path, "node-5678\n")
}

func TestRemoveTemps(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, name := range []string{".f.tmp-1a", ".f.tmp-", ".g.tmp-1", "f.tmp-1"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := durable.RemoveTemps(path); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("left: %v, %v", entries, err)
	}
	if err := durable.RemoveTemps(filepath.Join(dir, "none", "f")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

func TestSyncDir(t *testing.T) {
	dir := t.TempDir()
	if err := durable.SyncDir(dir); err != nil {
		t.Error(err)
	}
	if err := durable.SyncDir(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}
