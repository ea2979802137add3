package replica

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestContactAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		var a contactAge
		want := func(what string, want time.Duration) {
			t.Helper()
			if got := a.age(); got != want {
				t.Errorf("%s: age %v, want %v", what, got, want)
			}
		}
		a.start(time.Time{}, now)
		want("nothing was ever heard", -1)
		a.start(now.Add(-time.Minute), now)
		want("a file of a minute ago", time.Minute)
		// The file is of the clock of yesterday's run; now it says a day less.
		a.start(now, now.Add(-24*time.Hour))
		want("a file from the future", 24*time.Hour)
		time.Sleep(time.Hour)
		want("and an hour later", 25*time.Hour)
		a.contact(time.Now())
		want("a leader is heard", 0)
		time.Sleep(3 * time.Second)
		a.contact(time.Now().Add(-2 * time.Second))
		want("heard two seconds ago", 2*time.Second)
		a.contact(time.Now().Add(-3 * time.Second))
		want("what was heard before that", 2*time.Second)
	})
}
