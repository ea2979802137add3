package process

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv/base"
)

// A disk that is full when the line is written leaves the file as it was: a node id or a
// token that is torn would be another one.
func TestReplaceLineOnFullDisk(t *testing.T) {
	dir := t.TempDir()
	err := errors.New("this is not root")
	if os.Getuid() == 0 {
		err = syscall.Mount("none", dir, "tmpfs", 0, "size=64k,mode=0700")
	}
	if err != nil {
		base.Missing(t, "a tmpfs of fixed size: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })

	path := filepath.Join(dir, "node-id")
	if err := ReplaceLine(path, 0o600, "node-1234"); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 128<<10), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	if err := ReplaceLine(path, 0o600, "node-5678"); conf.CodeOf(err) != conf.CodeStorageFull {
		t.Errorf("on a full disk: %v", err)
	}
	if got, err := os.ReadFile(path); string(got) != "node-1234\n" || err != nil {
		t.Errorf("the file holds %q, %v", got, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := ReplaceLine(path, 0o600, "node-5678"); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); string(got) != "node-5678\n" {
		t.Errorf("the file holds %q", got)
	}
}

// A service of the file's group reads the token, whatever umask the agent starts with.
func TestModeOfTheLocalToken(t *testing.T) {
	for _, mask := range []int{0, 0o022, 0o077, 0o777} {
		path := filepath.Join(t.TempDir(), "local-token")
		old := syscall.Umask(mask)
		_, err := LocalToken(path)
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("umask %03o: %v, %v", mask, info.Mode(), err)
		}
	}
}
