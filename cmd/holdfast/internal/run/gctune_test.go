package run

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestGCPercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 300, 1 << 20: 300, 16 << 20: 300, 24 << 20: 200, 48 << 20: 100, 8 << 30: 100} {
		if got := gcPercent(live); got != want {
			t.Errorf("%d bytes live: %d %%, want %d", live, got, want)
		}
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
		tuneGC(func(n string) (string, bool) { return "1GiB", n == name })
		if p := currentPercent(); p != 100 {
			t.Fatalf("with %s in the environment it is %d", name, p)
		}
	}
	tuneGC(func(string) (string, bool) { return "", false })
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
