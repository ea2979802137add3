package rendertest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// write makes the files of a directory: DIR stands for it.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// read returns the content of a file, "" when there is none.
func read(path string) string {
	data, _ := os.ReadFile(path)
	return string(data)
}

// metric returns the line of a metric of an agent, without its name.
func metric(a *testenv.Agent, name string) string {
	for line := range strings.Lines(string(a.Local("/metrics").Body)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}
