package schema

import (
	"fmt"
	"strings"
	"testing"
)

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
