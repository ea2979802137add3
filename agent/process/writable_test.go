package process

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/alarm"
)

func TestAlarmOfADirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	var out strings.Builder
	w := NewWritable(dir, slog.New(slog.NewTextHandler(&out, nil)))
	w.check()
	if n := strings.Count(out.String(), alarm.DirNotWritable.Text); n != 1 || w.Err() == nil {
		t.Errorf("logged %d times, %v:\n%s", n, w.Err(), &out)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w.check()
	w.check()
	if n := strings.Count(out.String(), alarm.DirNotWritable.End); n != 1 || w.Err() != nil {
		t.Errorf("%d ends, %v:\n%s", n, w.Err(), &out)
	}
}
