package ui_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/testenv/base"
)

// TestModules runs the tests of the modules that have no DOM.
func TestModules(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		base.Missing(t, "node is not installed: make test-tools installs it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	files, err := os.ReadDir("assets_test")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--test"}
	for _, f := range files {
		args = append(args, "assets_test/"+f.Name())
	}
	if out, err := exec.CommandContext(ctx, node, args...).CombinedOutput(); err != nil {
		t.Fatalf("node %v: %v\n%s", args, err, out)
	}
}

// TestSizesOfThePage holds that all views together are small, and that each is short enough to be read.
// What the first load may be is held by TestFiles.
func TestSizesOfThePage(t *testing.T) {
	sent := 0
	err := filepath.WalkDir("assets", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) == "" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write(data) // a buffer takes everything
		_ = z.Close()
		sent += b.Len()
		if lines := bytes.Count(data, []byte("\n")); filepath.Dir(path) == filepath.Join("assets", "views") && lines >= 300 {
			t.Errorf("%s has %d lines; a view has less than 300", path, lines)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the page and its files: %d bytes gzipped", sent)
	if most := 200 * 1000; sent > most || sent < 10*1000 {
		t.Errorf("all files of the page are %d bytes gzipped; at most %d", sent, most)
	}
}
