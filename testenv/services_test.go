package testenv

import (
	"fmt"
	"path/filepath"
	"testing"
)

// TestServices runs the sample service of every language against a real agent:
// it prints its configuration, sees a change, lives through the agent's death,
// sees the next change, and ends.
func TestServices(t *testing.T) {
	t.Parallel()
	Need(t, "python3", "node", "sh", "curl")
	dir := filepath.Join(Root(), "testenv", "services")
	samples := map[string][]string{
		"python": {"python3", filepath.Join(dir, "python", "service.py")},
		"node":   {"node", filepath.Join(dir, "node", "service.js")},
		"go":     {Binary(t, "./testenv/services/go")},
		"shell":  {"sh", filepath.Join(dir, "shell", "service.sh")},
	}

	a := StartProcess(t)
	first := a.Document("stt-worker")
	running := map[string]*Process{}
	for name, command := range samples {
		running[name] = Spawn(t, t.TempDir(), []string{
			"CONFIG_AGENT_URL=http://" + a.LocalAddr,
			"CONFIG_SERVICE_NAME=stt-worker",
			"EXIT_AFTER_CHANGES=2",
			"no_proxy=*",
		}, command[0], command[1:]...)
	}
	printed := func(value any, version uint64) {
		t.Helper()
		line := fmt.Sprintf("config whisper_model=%v version=%d\n", value, version)
		for name, p := range running {
			if !poll(Patience, func() bool { return p.Transcript().Has(line) }) {
				t.Fatalf("the %s service did not print %q; it printed:\n%s", name, line, p.Output())
			}
		}
	}

	printed(first.Values["whisper_model"], first.Metadata.Version)
	second := a.Patch("stt-worker", `{"whisper_model":"small.en"}`)
	printed("small.en", second)

	a.Kill()
	for name, p := range running {
		Await(t, "the "+name+" service to notice that its agent is gone", func() bool { return p.Transcript().Has("agent: ") })
		if !p.Running() {
			t.Fatalf("the %s service ended with its agent:\n%s", name, p.Output())
		}
	}
	a.Start()
	a.AwaitNormal()
	third := a.Patch("stt-worker", `{"whisper_model":"medium.en"}`)
	printed("medium.en", third)
	for name, p := range running {
		if code := p.Wait(t, "the "+name+" service to end after two changes"); code != 0 {
			t.Errorf("the %s service ended with code %d:\n%s", name, code, p.Output())
		}
	}
}
