package agent

import (
	"os"
	"path/filepath"
	"testing"
)

// Callers wait for a database that is open in a moment, and for no other.
func TestAwaitedDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.db")
	if isAwaited(path) {
		t.Error("callers wait for a database that is not there")
	}
	for size, want := range map[int64]bool{0: true, 1 << 20: true, maxAwaited: true, maxAwaited + 1: false} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		if got := isAwaited(path); got != want {
			t.Errorf("a database of %d bytes is awaited: %t", size, got)
		}
	}
}
