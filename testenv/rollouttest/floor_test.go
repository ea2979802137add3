package rollouttest

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/testenv"
)

// TestNoFloorIsCaught: the schedules of agent/rollout fail with a build that gives the number
// of a reserved revert to the next edit.
func TestNoFloorIsCaught(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "test", "-trimpath", "-overlay", testenv.Overlay(t, "no-floor"), "./agent/rollout", "-run", "TestSchedules", "-schedules", "30")
	cmd.Dir = testenv.Root()
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "has two contents") {
		t.Errorf("the bad build is not caught: %v\n%s", err, out)
	}
}
