package process

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// resident is the memory of this process that its program's file backs, in bytes.
func resident(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if n, ok := strings.CutPrefix(line, "RssFile:"); ok {
			kb, err := strconv.Atoi(strings.Fields(n)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatal("the kernel does not tell RssFile")
	return 0
}

// What the start has read of the program is given back, and is there when it is used.
func TestReleaseMemory(t *testing.T) {
	mappings := programMappings()
	if len(mappings) < 2 {
		t.Fatalf("the mappings of the program: %v", mappings)
	}
	touch := func() (sum int) {
		data, err := os.ReadFile("/proc/self/maps") // runs code, and reads constants
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range strings.Fields(string(data)) {
			sum += len(strconv.Quote(f))
		}
		return sum
	}
	if touch() == 0 {
		t.Fatal("nothing is mapped")
	}
	before := resident(t)
	ReleaseMemory()
	after := resident(t)
	t.Logf("%d KB of files are mapped, %d before", after>>10, before>>10)
	if after > before*3/4 {
		t.Errorf("%d KB of files are mapped, %d before", after>>10, before>>10)
	}
	if touch() == 0 {
		t.Error("the program cannot be read any more")
	}
}
