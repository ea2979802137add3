package testenv

import (
	"sync/atomic"
	"time"
)

// Clock is the wall clock of an agent in the test's process, as options.Options.Now. The
// zero Clock is right; Set makes it wrong, and right again. Like a wall clock it says
// nothing of the monotonic one.
type Clock struct{ ahead atomic.Int64 }

// Set puts the clock ahead of the right time, or behind it.
func (c *Clock) Set(ahead time.Duration) { c.ahead.Store(int64(ahead)) }

// Now is what the clock says.
func (c *Clock) Now() time.Time {
	return time.Now().Round(0).Add(time.Duration(c.ahead.Load()))
}
