package peers

import (
	"strconv"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestQuotaIsOfEachMember(t *testing.T) {
	t.Parallel()
	q, now := NewQuota("things", 2, 10), time.Now()
	taken := 0
	for range 100 {
		if err := q.Take("a", 1, now); err == nil {
			taken++
		} else if conf.CodeOf(err) != conf.CodeRateLimited {
			t.Fatal(err)
		}
	}
	if taken != 10 || q.Take("b", 10, now) != nil || q.Take("b", 1, now) == nil || q.Take("a", 2, now.Add(time.Second)) != nil {
		t.Errorf("took %d", taken)
	}
	for i := range 2 * maxQuotas {
		_ = q.Take(strconv.Itoa(i), 1, now)
	}
	if len(q.members) > maxQuotas {
		t.Errorf("it remembers %d", len(q.members))
	}
	if now = now.Add(time.Hour); q.Take("late", 1, now) != nil || len(q.members) != 1 {
		t.Errorf("an hour later it remembers %d", len(q.members))
	}
}
