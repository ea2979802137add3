package testenv

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-config/holdfast/agent/lkg"
)

var burstKills = flag.Int("burst-kills", 6, "how often TestKillAfterABurst kills the agent")

// TestKillAfterABurst kills the agent right after the last of a burst of changes was
// acknowledged, on a service that was made a moment before. The next start serves that
// change at once, from the last-known-good file and its journal: the database is not there.
func TestKillAfterABurst(t *testing.T) {
	t.Parallel()
	a := NewAgent(t)
	a.Start()
	a.AwaitNormal()
	whole := filepath.Join(t.TempDir(), "whole")
	journaled := 0
	for n := range *burstKills {
		service := fmt.Sprintf("fresh-%d", n)
		r := a.Admin("PUT", "/api/config/services/"+service,
			`{"service":"`+service+`","schema":{"type":"object","properties":{"n":{"type":"integer"}}},"config":{"n":0},"version":0}`, "Content-Type: application/json")
		if r.Status != 200 && r.Status != 201 {
			t.Fatalf("%d %s", r.Status, r.Body)
		}
		for i := 1; i <= 5+n%10; i++ {
			a.Patch(service, fmt.Sprintf(`{"n":%d}`, i))
		}
		want := a.State()
		a.Kill()
		if _, err := os.Stat(lkg.JournalPath(a.LKG())); err == nil {
			journaled++
		}
		CopyDir(t, a.Dir, whole)
		a.WreckReplica()
		a.Start()
		for name := range want {
			d := a.AwaitServing(name)
			if err := want.Differs(d, false); err != nil || d.Source != "lkg" {
				t.Fatalf("kill %d: %s from %s: %v", n, name, d.Source, err)
			}
		}
		a.Kill()
		CopyDir(t, whole, a.Dir)
		a.Start()
		a.AwaitNormal()
	}
	if journaled == 0 {
		t.Error("no kill left a journal: the test shows nothing of it")
	}
}
