package peers

import (
	"strconv"
	"testing"
	"time"
)

func TestSparse(t *testing.T) {
	t.Parallel()
	var s logLimiter
	now := time.Now()
	told := 0
	for range 10 { // 150 seconds, four times a second
		for range 60 {
			if s.allow("a", now) {
				told++
			}
			now = now.Add(250 * time.Millisecond)
		}
	}
	if told != 3 || !s.allow("b", now) {
		t.Errorf("told of a %d times in 150 seconds, want 3; and of b at once", told)
	}
	for i := range 2 * maxLogKeys {
		s.allow("stranger "+strconv.Itoa(i), now)
	}
	if len(s.logged) > maxLogKeys {
		t.Errorf("it remembers %d", len(s.logged))
	}
	if now = now.Add(logInterval); !s.allow("late", now) || len(s.logged) != 1 {
		t.Errorf("a minute later it remembers %d", len(s.logged))
	}
}
