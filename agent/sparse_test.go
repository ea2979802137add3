package agent

import (
	"strconv"
	"testing"
	"time"
)

func TestSparse(t *testing.T) {
	t.Parallel()
	var s sparse
	now := time.Now()
	told := 0
	for range 10 { // 150 seconds, four times a second
		for range 60 {
			if s.due("a", now) {
				told++
			}
			now = now.Add(250 * time.Millisecond)
		}
	}
	if told != 3 || !s.due("b", now) {
		t.Errorf("told of a %d times in 150 seconds, want 3; and of b at once", told)
	}
	for i := range 2 * sparseMost {
		s.due("stranger "+strconv.Itoa(i), now)
	}
	if len(s.told) > sparseMost {
		t.Errorf("it remembers %d", len(s.told))
	}
	if now = now.Add(sparseEvery); !s.due("late", now) || len(s.told) != 1 {
		t.Errorf("a minute later it remembers %d", len(s.told))
	}
}
