package replica

import (
	"testing"
	"time"
)

func TestSnapshotLoopIsFound(t *testing.T) {
	var i installs
	now := time.Now()
	steps := []struct {
		index uint64
		after time.Duration
		want  bool
	}{{5, 0, false}, {5, 1, false}, {6, 2, false}, {6, 3, false}, {6, 9, false}, {6, 10, false}, {6, 11, true}, {6, 11, false}}
	for n, s := range steps {
		if got := i.add(s.index, now.Add(s.after*time.Minute)); got != s.want {
			t.Errorf("step %d: %v", n, got)
		}
	}
}
