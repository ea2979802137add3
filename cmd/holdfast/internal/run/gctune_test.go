package run

import (
	"log/slog"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestGCPercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 300, 1 << 20: 300, 16 << 20: 300, 24 << 20: 200, 48 << 20: 100, 8 << 30: 100} {
		if got := gcPercent(live, garbageBudget); got != want {
			t.Errorf("%d bytes live: %d %%, want %d", live, got, want)
		}
	}
	if got := gcPercent(16<<20, 8<<20); got != 100 {
		t.Errorf("in a small cgroup: %d %%", got)
	}
}

// currentPercent reads the percentage, which can only be set.
func currentPercent() int {
	p := debug.SetGCPercent(100)
	debug.SetGCPercent(p)
	return p
}

func TestTuneGC(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		tuneGC(func(n string) (string, bool) { return "1GiB", n == name }, 0)
		if p := currentPercent(); p != 100 {
			t.Fatalf("with %s in the environment it is %d", name, p)
		}
	}
	tuneGC(func(string) (string, bool) { return "", false }, 0)
	if p := currentPercent(); p <= 200 {
		t.Fatalf("with little that lives it is %d", p)
	}
	await := func(what string, cond func(p int) bool) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); !cond(currentPercent()); runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("%s, and it is %d", what, currentPercent())
			}
			runtime.GC()
		}
	}
	ballast := make([]byte, 64<<20)
	await("much lives", func(p int) bool { return p == 100 })
	runtime.KeepAlive(ballast)
	await("little lives again", func(p int) bool { return p > 200 })
}

// Where nothing limits the memory, or the environment does, it is left alone.
func TestLimitMemory(t *testing.T) {
	was := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(was)
	if group := limitMemory(func(n string) (string, bool) { return "off", n == "GOMEMLIMIT" }, slog.New(slog.DiscardHandler)); group != 0 || debug.SetMemoryLimit(-1) != was {
		t.Errorf("GOMEMLIMIT is in the environment, and the limit is %d of %d", debug.SetMemoryLimit(-1), group)
	}
	for group, want := range map[uint64]uint64{32 << 20: 16 << 20, 64 << 20: 40 << 20, 96 << 20: 72 << 20, 1000 << 20: 900 << 20} {
		if got := goMemory(group); got>>20 != want>>20 {
			t.Errorf("%d MiB of %d, want %d", got>>20, group>>20, want>>20)
		}
	}
}
