package schema

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// numbered is a schema with n fields of the kind number i.
func numbered(i, n int) []byte {
	var b strings.Builder
	b.WriteString(`{"additionalProperties":false,"properties":{`)
	for k := range n {
		if k > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"key_%02d":{"default":%d,"description":"What key %d does","maximum":1073741824,"minimum":0,"type":"integer"}`, k, i+k, k)
	}
	return []byte(b.String() + `},"type":"object"}`)
}

func heapInUse() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// What a cache keeps has a size, not a number, whatever it is asked for.
func TestCacheIsBounded(t *testing.T) {
	c := NewCache()
	c.limit = 8 << 20
	before := heapInUse()
	for i := range 500 {
		if _, err := c.Get(fmt.Sprintf("svc-%d", i), numbered(i, 50)); err != nil {
			t.Fatal(err)
		}
	}
	grown := heapInUse() - before
	t.Logf("%d schemas are kept: %.1f MiB, estimated %.1f MiB", len(c.entries), float64(grown)/(1<<20), float64(c.memory)/(1<<20))
	if c.memory > c.limit || grown > c.limit*5/4 || len(c.entries) < 20 || len(c.entries) > 200 {
		t.Errorf("%d schemas with an estimate of %d take %d bytes, at most %d", len(c.entries), c.memory, grown, c.limit)
	}
	if c.used.Len() != len(c.entries) || c.compiled != 500 {
		t.Errorf("%d in order, %d in all, %d compiled", c.used.Len(), len(c.entries), c.compiled)
	}
	// The newest uses are kept.
	for i := 499; i > 490; i-- {
		if _, err := c.Get("svc", numbered(i, 50)); err != nil || c.compiled != 500 {
			t.Fatalf("schema %d is compiled again (%v)", i, err)
		}
	}
	runtime.KeepAlive(c)
}

// The estimate by which a cache is bounded is not under what schemas of all kinds take.
func TestSchemaMemoryIsNotUnderestimated(t *testing.T) {
	repeat := func(n int, format string) []byte {
		var b strings.Builder
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, format, i)
		}
		return []byte(`{"type":"object","properties":{` + b.String() + `}}`)
	}
	for name, raw := range map[string][]byte{
		"integers":     numbered(1, 50),
		"one":          numbered(1, 1),
		"booleans":     repeat(200, `"b%d":{"type":"boolean"}`),
		"descriptions": repeat(100, `"d%d":{"type":"string","description":"`+strings.Repeat("word ", 200)+`"}`),
		"words":        repeat(50, `"w%d":{"enum":["one","two","three","four","five","six","seven","eight","nine","ten"],"type":"string"}`),
		"objects":      repeat(40, `"o%d":{"type":"object","properties":{"a":{"type":"string","default":"x"},"b":{"type":"array","items":{"type":"number"}}}}`),
		"alternatives": repeat(40, `"u%d":{"anyOf":[{"type":"string","pattern":"^[a-z]+$"},{"type":"null"},{"type":"array","items":{"type":"object","properties":{"x":{"type":"integer"}}}}]}`),
		"defaults":     repeat(40, `"l%d":{"type":"array","default":[1,2,3,4,5,6,7,8,9,10,"text",{"a":1,"b":[2,3]}]}`),
	} {
		const copies = 40
		before := heapInUse()
		keep := make([]*Schema, copies)
		for i := range keep {
			s, err := Compile("svc", raw)
			if err != nil {
				t.Fatal(name, err)
			}
			keep[i] = s
		}
		measured := (heapInUse() - before) / copies
		estimate := keep[0].memory
		runtime.KeepAlive(keep)
		t.Logf("%s: %d bytes of text, measured %d, estimated %d", name, len(raw), measured, estimate)
		if measured > estimate*5/4 || estimate > 4*measured {
			t.Errorf("%s takes %d bytes, estimated %d", name, measured, estimate)
		}
	}
}

// What nobody asks for is not kept.
func TestCacheForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCache()
		get := func(i int) {
			t.Helper()
			if _, err := c.Get("svc", numbered(i, 3)); err != nil {
				t.Fatal(err)
			}
		}
		count := func(want int, what string) {
			t.Helper()
			synctest.Wait()
			c.mu.Lock()
			defer c.mu.Unlock()
			if len(c.entries) != want || c.used.Len() != want {
				t.Errorf("%s: %d are kept, want %d", what, len(c.entries), want)
			}
		}
		get(1)
		get(2)
		time.Sleep(idleAfter + time.Second)
		count(2, "after a minute")
		get(2)
		time.Sleep(idleAfter)
		count(1, "one is used")
		time.Sleep(2 * idleAfter)
		count(0, "none is used")
		if c.sweeping || c.memory != 0 {
			t.Errorf("an empty cache is swept, or has %d bytes", c.memory)
		}
		get(3)
		c.Drop()
		count(0, "dropped")
		get(3)
		count(1, "asked for again")
		time.Sleep(3 * idleAfter)
	})
}

// A schema that is not cached is compiled at a write, so that has to stay cheap.
func TestCompilationIsCheap(t *testing.T) {
	raw := numbered(1, 50)
	got := testing.AllocsPerRun(5, func() {
		if _, err := Compile("svc", raw); err != nil {
			t.Fatal(err)
		}
	})
	if t.Logf("%.0f allocations", got); got > 13_000 {
		t.Errorf("a schema of 50 fields takes %.0f allocations", got)
	}
}
