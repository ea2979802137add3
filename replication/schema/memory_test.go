package schema

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

func TestPatternMemoryIsNotUnderestimated(t *testing.T) {
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
			re, err := compilePattern(source)
			if err != nil {
				t.Fatal(source, err)
			}
			keep = append(keep, re)
			estimate = re.(*pattern).memory
		}
		measured := (int(heap()) - int(before)) / copies
		runtime.KeepAlive(keep)
		t.Logf("%s: measured %d, estimated %d", source, measured, estimate)
		if measured > estimate*5/4 {
			t.Errorf("%s takes %d bytes, estimated %d", source, measured, estimate)
		}
	}
}

// manyPatterns is a schema with n large patterns.
func manyPatterns(n int) []byte {
	var b strings.Builder
	b.WriteString(`{"type":"object","properties":{"s":{"type":"string"}`)
	for i := range n {
		fmt.Fprintf(&b, `,"p%d":{"type":"string","pattern":"^(?:[a-f]{1,98}%d){1,9}$"}`, i, i)
	}
	return []byte(b.String() + "}}")
}

func TestSchemaWithTooLargePatternsIsRefused(t *testing.T) {
	_, err := Compile("svc", manyPatterns(200))
	if err == nil || !strings.Contains(err.Error(), "MiB") {
		t.Fatalf("200 large patterns: %v", err)
	}
	t.Log(err)
	if _, err := Compile("svc", manyPatterns(100)); err != nil {
		t.Fatalf("100 large patterns: %v", err)
	}
	// Twenty bytes of text can take megabytes.
	if _, err := Compile("svc", []byte(`{"type":"object","properties":{"a":{"type":"object","patternProperties":{
		"^\\p{L}{1,400}$":true,"^\\p{L}{1,401}$":true,"^\\p{L}{1,402}$":true}}}}`)); err == nil {
		t.Fatal("classes of characters in repetitions are not counted")
	}
}

func TestPatternsOfAllSchemasAreLimited(t *testing.T) {
	c := NewCache()
	raw := manyPatterns(150)
	refused, admitted := "", 0
	for i := range 100 {
		if _, err := c.Admit(fmt.Sprintf("svc-%d", i), raw); err != nil {
			refused = err.Error()
			break
		}
		admitted++
	}
	if admitted < 5 || !strings.Contains(refused, "at most 256.0 MiB") {
		t.Fatalf("%d are admitted, then %q", admitted, refused)
	}
	if n := len(c.patterns); n != admitted {
		t.Errorf("%d schemas are counted, %d were admitted", n, admitted)
	}
	if c.compiled != 1 {
		t.Errorf("one text is compiled %d times", c.compiled)
	}
	if _, err := c.Admit("small", []byte(`{"type":"object","properties":{"s":{"type":"string","pattern":"^a+$"}}}`)); err != nil {
		t.Errorf("an ordinary schema is refused: %v", err)
	}
	if _, err := c.Get("stored", raw); err != nil {
		t.Errorf("a schema that is stored is refused: %v", err)
	}
}
