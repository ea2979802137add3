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

// Root is the top directory of the repository.
func Root() string {
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
	built.Lock()
	defer built.Unlock()
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "holdfast-bin-")
		if err != nil {
			t.Fatal(err)
		}
		built.dir, built.made = dir, map[string]error{}
	}
	out := filepath.Join(built.dir, filepath.Base(pkg))
	if err, ok := built.made[pkg]; ok {
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", out, pkg)
	cmd.Dir = Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var err error
	if text, fail := cmd.CombinedOutput(); fail != nil {
		err = fmt.Errorf("building %s: %w\n%s", pkg, fail, strings.TrimSpace(string(text)))
	}
	built.made[pkg] = err
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

// Need fails the test when a command that it needs is not on this machine. A
// developer who has not installed it may go without: the test is then skipped,
// aloud, but never under CI.
func Need(t testing.TB, commands ...string) {
	t.Helper()
	for _, c := range commands {
		if _, err := exec.LookPath(c); err == nil {
			continue
		}
		if os.Getenv("CI") == "" {
			t.Skipf("%s is not installed; make test installs it when run as root", c)
		}
		t.Fatalf("%s is not installed, and under CI nothing may be left out", c)
	}
}
