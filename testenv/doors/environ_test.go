package doors

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-config/holdfast/testenv"
)

// TestEnvironmentProgram runs the program of docs/examples/exec, which reads os.environ when it
// starts and nothing else: it follows three changes, and starts in a total outage, when no
// server is left and the agent beside it was started again, too.
func TestEnvironmentProgram(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "python3")
	example := filepath.Join(testenv.Root(), "docs", "examples", "exec")
	c := testenv.StartCluster(t, 1, 1, "CONFIG_SCHEMA_DIR="+filepath.Join(example, "schemas"), "CONFIG_SERVICE_NAME=greeter")
	server := c.Leader()
	sidecar := c.Except(server)[0]
	start := func() *testenv.Process {
		return testenv.Spawn(t, t.TempDir(), sidecar.Env(), testenv.Binary(t, "./cmd/holdfast"),
			"exec", "greeter", "--", "python3", filepath.Join(example, "service.py"))
	}
	p := start()
	printed(t, p, "hello world\n")
	for _, change := range [][2]string{
		{`{"name":"moon"}`, "hello moon\n"}, {`{"rounds":2}`, "hello moon moon\n"}, {`{"name":"it's a\nsun"}`, "hello it's a\nsun it's a\nsun\n"},
	} {
		server.Patch("greeter", change[0])
		printed(t, p, change[1])
	}
	server.Kill()
	if strings.Count(p.Output(), "hello ") != 4 || !p.Running() {
		t.Errorf("it was not started once for each change:\n%s", p.Output())
	}
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(t, "exec to end"); code != 0 {
		t.Errorf("exit code %d, want the program's 0:\n%s", code, p.Output())
	}
	sidecar.Kill()
	sidecar.Start()
	p = start()
	printed(t, p, "hello it's a\nsun it's a\nsun\n")
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(t, "exec to end"); code != 0 {
		t.Errorf("exit code %d, want the program's 0:\n%s", code, p.Output())
	}
}
