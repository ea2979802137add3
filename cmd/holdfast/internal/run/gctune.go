package run

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Go collects when there is as much garbage as live memory, and an agent has
// little live memory: under load it would collect many times a second. tuneGC lets
// garbageBudget bytes accumulate first, or maxPercent of the live memory when that
// is less. With more live memory than the budget, Go's own rule stays.
const (
	garbageBudget  = 48 << 20
	defaultPercent = 100 // of Go
	maxPercent     = 300
	garbageOfGroup = 8 // the part of a cgroup's memory that garbage may take
)

// tuneGC sets how much garbage may accumulate, unless the environment sets it. group is
// the memory of the process's cgroup, 0 for no limit.
func tuneGC(lookupEnv func(string) (string, bool), group int64) {
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		if v, _ := lookupEnv(name); v != "" {
			return
		}
	}
	t := &gcTuner{set: defaultPercent, budget: garbageBudget}
	if group > 0 {
		t.budget = min(t.budget, uint64(group)/garbageOfGroup)
	}
	t.adapt()
	t.watch()
}

// gcPercent is how much garbage there may be beside live bytes, in percent of them.
func gcPercent(live, budget uint64) int {
	if live <= budget/(maxPercent/100) {
		return maxPercent
	}
	return max(defaultPercent, int(budget*100/live)) //nolint:gosec // below maxPercent
}

// gcTuner follows the live memory from one collection to the next.
type gcTuner struct {
	set    int
	budget uint64
}

func (t *gcTuner) adapt() {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	// Setting it stops the world for a moment: not for a small difference.
	if p := gcPercent(s[0].Value.Uint64(), t.budget); p-t.set > 20 || t.set-p > 20 || p == defaultPercent && t.set != defaultPercent {
		debug.SetGCPercent(p)
		t.set = p
	}
}

// gcProbe is an object that nothing refers to: its cleanup runs after a collection.
type gcProbe struct{ _ *gcProbe }

func (t *gcTuner) watch() {
	runtime.AddCleanup(&gcProbe{}, func(t *gcTuner) {
		t.adapt()
		t.watch()
	}, t)
}
