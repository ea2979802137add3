package pattern_test

import (
	"os"
	"runtime"
	"testing"

	"github.com/holdfast-config/holdfast/replication/schema/pattern"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestMain(m *testing.M) { os.Exit(base.NoLeaks(m)) }

func TestMemoryIsNotUnderestimated(t *testing.T) {
	const copies = 50
	for _, source := range []string{
		`^[a-z]{1,63}$`, `^(a|b|c|d){1,500}$`, `^[\p{L}\p{N}]{1,900}$`, `(?i)^[\p{L}]{1,900}$`, `^([a-zA-Z0-9]{1,30}){1,30}$`, `^[a-z]+$`,
		`(?:a{0,1000}){0,1}b`, `^[\p{L}]{1,400}$`, `^\p{L}{400}$`, `[a-z]{1,1000}`, `^(?:x\p{L}|y\p{N}){300}$`, `^[^a-z]{1,490}$`,
	} {
		heap := func() uint64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		before := heap()
		keep := make([]any, 0, copies)
		estimate := 0
		for range copies {
			re, err := pattern.Compile(source)
			if err != nil {
				t.Fatal(source, err)
			}
			keep = append(keep, re)
			estimate = re.Memory()
		}
		measured := (int(heap()) - int(before)) / copies
		runtime.KeepAlive(keep)
		t.Logf("%s: measured %d, estimated %d", source, measured, estimate)
		if measured > estimate*5/4 {
			t.Errorf("%s takes %d bytes, estimated %d", source, measured, estimate)
		}
	}
}
