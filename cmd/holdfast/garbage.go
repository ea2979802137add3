package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Go collects when the garbage is as much as what lives, and an agent has little
// that lives: under load it would collect many times a second. It may have room
// megabytes of garbage first, or three times what lives when that is less. With
// more that lives than that, Go's own rule stands.
const (
	room        = 48 << 20
	percent     = 100 // Go's own
	mostPercent = 300
)

// collectLate lets garbage be until there is some, unless the environment says
// how it is to be collected.
func (a *app) collectLate() {
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		if v, _ := a.lookupEnv(name); v != "" {
			return
		}
	}
	c := &collector{set: percent}
	c.adapt()
	c.watch()
}

// percentFor is how much garbage there may be beside live bytes, in percent of them.
func percentFor(live uint64) int {
	if live <= room/(mostPercent/100) {
		return mostPercent
	}
	return max(percent, int(room*100/live)) //nolint:gosec // below mostPercent
}

// collector follows what lives, from one collection to the next.
type collector struct{ set int }

func (c *collector) adapt() {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	// Setting it stops the world for a moment: not for a small difference.
	if p := percentFor(s[0].Value.Uint64()); p-c.set > 20 || c.set-p > 20 || p == percent && c.set != percent {
		debug.SetGCPercent(p)
		c.set = p
	}
}

// mark is an object that nothing refers to: its cleanup tells of a collection.
type mark struct{ _ *mark }

func (c *collector) watch() {
	runtime.AddCleanup(&mark{}, func(c *collector) {
		c.adapt()
		c.watch()
	}, c)
}
