package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// Root is the top directory of the repository. A test runs in the directory of its package;
// the path in a binary that was built with -trimpath is not one of this machine.
func Root() string {
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(file))
}

// built is what this test process has built; Main removes it.
var built struct {
	sync.Mutex
	dir  string
	made map[string]error
}

// Binary builds the command in the package directory pkg (such as
// "./cmd/holdfast", below Root) once in a test process and returns its path.
func Binary(t testing.TB, pkg string) string {
	t.Helper()
	return BinaryOf(t, Root(), "", pkg)
}

// BinaryOf builds the command pkg of the tree at root, with more flags. name tells this
// build from others of the same command.
func BinaryOf(t testing.TB, root, name, pkg string, flags ...string) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "holdfast-bin-")
		if err != nil {
			t.Fatal(err)
		}
		built.dir, built.made = dir, map[string]error{}
	}
	out := filepath.Join(built.dir, name, filepath.Base(pkg))
	if err, ok := built.made[out]; ok {
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	args := append([]string{"build", "-trimpath", "-o", out}, flags...)
	cmd := exec.Command("go", append(args, pkg)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var err error
	if text, fail := cmd.CombinedOutput(); fail != nil {
		err = fmt.Errorf("building %s: %w\n%s", strings.TrimSpace(name+" "+pkg), fail, strings.TrimSpace(string(text)))
	}
	built.made[out] = err
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Main runs the tests of a package and removes what Binary built. TestMain calls it.
func Main(m *testing.M) int {
	defer func() {
		if built.dir != "" {
			_ = os.RemoveAll(built.dir)
		}
	}()
	return m.Run()
}
