package base

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Missing ends a test that needs what this machine does not have. A developer may go
// without: the test is skipped, aloud. Under CI it fails.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if ci() {
		t.Fatalf(format+"; under CI nothing may be left out", args...)
	}
	t.Skipf("SKIPPED: "+format, args...)
}

// MissingPart is Missing for a part of a test, which continues without it.
func MissingPart(t testing.TB, format string, args ...any) {
	t.Helper()
	if ci() {
		t.Errorf(format+"; under CI nothing may be left out", args...)
		return
	}
	t.Logf("SKIPPED: "+format, args...)
	fmt.Fprintf(os.Stderr, "%s: SKIPPED: %s\n", t.Name(), fmt.Sprintf(format, args...))
}

// Need is Missing for commands.
func Need(t testing.TB, commands ...string) {
	t.Helper()
	for _, c := range commands {
		if _, err := exec.LookPath(c); err != nil {
			Missing(t, "%s is not installed: make test-tools installs it when run as root", c)
		}
	}
}

func ci() bool { return os.Getenv("CI") != "" }
