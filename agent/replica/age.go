package replica

import (
	"sync"
	"time"
)

// contactAge is the time since this agent last heard from a leader. It is measured with
// the monotonic clock: the wall clock may be wrong, and may be set at any time. Only what
// was heard before this process is known by its date.
type contactAge struct {
	mu     sync.Mutex
	heard  time.Time     // monotonic; or the start of the process
	before time.Duration // what had passed at heard; negative: never heard
}

// start begins the count for a process that starts now, by the monotonic clock. saved
// is when the last-known-good file was written, the zero time for none, and wall what the
// wall clock says. A file that is dated later proves that the clock is wrong, by at least
// the distance, which then counts as age.
func (a *contactAge) start(saved, wall time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.heard, a.before = time.Now(), -1
	if !saved.IsZero() {
		a.before = wall.Round(0).Sub(saved.Round(0)).Abs()
	}
}

// contact records when a leader was heard, by the monotonic clock.
func (a *contactAge) contact(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.before != 0 || at.After(a.heard) {
		a.heard, a.before = at, 0
	}
}

// age is negative when no leader was ever heard.
func (a *contactAge) age() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.before < 0 {
		return -1
	}
	return a.before + max(0, time.Since(a.heard))
}
