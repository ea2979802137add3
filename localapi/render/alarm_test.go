package render

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/trust"
)

// fixed is a Source that does not change.
type fixed struct{}

func (fixed) Read(context.Context, []string, bool) ([]Document, error) {
	return []Document{document("svc", "e", 1, `{"port":1}`)}, nil
}

func (fixed) Watch(context.Context, []string, bool, func()) {}

// A file that cannot be used, and a group that cannot be rendered, are alarms until they can.
func TestAlarmsOfRendering(t *testing.T) {
	dir := t.TempDir()
	var out strings.Builder
	j := NewJob(Options{Path: filepath.Join(dir, "render.yaml"), Source: fixed{}, Trusted: trust.Self, Logger: slog.New(slog.NewTextHandler(&out, nil))})
	count := func(text string) int { return strings.Count(out.String(), text) }
	read := func(text string) *File {
		f, err := load(t, dir, map[string]string{"render.yaml": text, "t": "{{.port}}"})
		j.loaded(f, err)
		return f
	}
	read("groups: 7")
	read("groups: 7")
	target := filepath.Join(dir, "missing", "out")
	f := read("groups: [{name: g, service: svc, targets: [{path: " + target + ", template: t}]}]")
	if count(alarm.RenderUnread.Text) != 1 || count(alarm.RenderUnread.End) != 1 {
		t.Fatalf("the file: %s", &out)
	}
	for range 2 {
		if j.apply(t.Context(), f.Groups[0]) == nil {
			t.Fatal("written")
		}
	}
	if err := os.Mkdir(filepath.Dir(target), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := j.apply(t.Context(), f.Groups[0]); err != nil {
			t.Fatal(err)
		}
	}
	if count(alarm.RenderFails.Text) != 1 || count(alarm.RenderFails.End) != 1 {
		t.Errorf("the group: %s", &out)
	}
}
