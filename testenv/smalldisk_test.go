package testenv

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestBurstOnASmallVolume writes more than a volume has room for when nothing is moved or
// dropped on the way. The agent may refuse changes for some seconds; it takes them again by
// itself, and after a restart, with all that it acknowledged.
func TestBurstOnASmallVolume(t *testing.T) {
	t.Parallel()
	a := NewAgent(t, "CONFIG_MIN_FREE_MB=16")
	smallDisk(t, a, 96)
	a.Start()
	a.AwaitNormal()
	r := a.Admin("PUT", "/api/config/services/large", `{"service":"large","version":0,
		"config":{"text":"`+strings.Repeat("x", 250_000)+`","n":0},
		"schema":{"type":"object","properties":{"text":{"type":"string"},"n":{"type":"integer"}}}}`, "Content-Type: application/json")
	if r.Status != http.StatusOK {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
	taken := 0
	for i := range 160 { // each is logged and stored with all of the document, and its history is a number
		switch r := a.Admin("PATCH", "/api/config/services/large", fmt.Sprintf(`{"n":%d}`, i+1), "Content-Type: application/json"); r.Status {
		case http.StatusOK:
			taken++
		case http.StatusInsufficientStorage:
		default:
			t.Fatalf("change %d, after %d: %d %s", i, taken, r.Status, r.Body)
		}
	}
	if taken < 20 {
		t.Fatalf("only %d changes were taken", taken)
	}
	takes := func() {
		t.Helper()
		Await(t, "the agent to take changes again", func() bool {
			return a.Admin("PATCH", "/api/config/services/large", `{"n":1000}`, "Content-Type: application/json").Status == http.StatusOK
		})
	}
	takes()
	want := a.State()
	a.Kill()
	a.Start()
	a.AwaitNormal()
	want.Require(t, a, "replica", false)
	takes()
}
