package conf

import (
	"strings"
	"testing"
)

func TestIncarnations(t *testing.T) {
	long := strings.Repeat("x", 63)
	for _, c := range []struct {
		of, id string
		want   bool
	}{
		{"n", "n-r2", true},
		{"n-r2", "n-r3", true},
		{"n", "n-r10", true},
		{"n-r3", "n-r2", false},
		{"n", "n", false},
		{"n", "m-r2", false},
		{"n", "n-r1", false},
		{"n", "n-r02", false},
		{"n-r", "n-r-r2", true},
		{long, IncarnationID(long, 2), true},
	} {
		if got := IsLaterIncarnation(c.of, c.id); got != c.want {
			t.Errorf("IsLaterIncarnation(%q, %q) = %v", c.of, c.id, got)
		}
	}
	if id := IncarnationID(long, 12); CheckNode(id) != nil {
		t.Error(id)
	}
}
