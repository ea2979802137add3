package doors

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// pythons are the interpreters of this machine by what they have: each with the client,
// one that has Pydantic 1 and one that has Pydantic 2 also with models.
func pythons(t *testing.T) (all []string, pydantic map[string]string) {
	t.Helper()
	testenv.Need(t, "python3")
	pydantic = map[string]string{}
	seen := map[string]bool{}
	for _, name := range []string{"python3", "/usr/bin/python3", "python3.9", "python3.10", "python3.11", "python3.12", "python3.13"} {
		out, err := exec.Command(name, "-c", `
import os, sys
try:
    import pydantic
    has = pydantic.VERSION.split(".")[0]
except ImportError:
    has = "0"
print(sys.version_info >= (3, 9), os.path.realpath(sys.executable), has)`).Output()
		var recent, path, has string
		if _, serr := fmt.Sscan(string(out), &recent, &path, &has); err != nil || serr != nil || recent != "True" || seen[path] {
			continue
		}
		seen[path] = true
		all = append(all, path)
		if has != "0" && pydantic[has] == "" {
			pydantic[has] = path
		}
	}
	if len(all) == 0 {
		t.Fatal("no Python of 3.9 or later")
	}
	if len(pydantic) == 0 {
		testenv.MissingPart(t, "models of Pydantic: make test-tools installs it when run as root")
	}
	t.Logf("Python: %v, Pydantic: %v", all, pydantic)
	return all, pydantic
}

// clientFile writes the client of a language, as the command prints it, into a new directory.
func clientFile(t *testing.T, a *testenv.Agent, language, name string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	source, err := exec.Command(testenv.Binary(t, "./cmd/holdfast"), "client", language).Output()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, name), string(source))
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func testdata(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// programs are the sample service with each client, and each kind of model; only: one whose
// name begins so.
func programs(t *testing.T, a *testenv.Agent, only ...string) map[string]*testenv.Process {
	t.Helper()
	testenv.Need(t, "node")
	all, pydantic := pythons(t)
	python, node := clientFile(t, a, "python", "holdfast.py"), clientFile(t, a, "node", "holdfast.mjs")
	text, err := os.ReadFile(testdata(t, "service.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(node, "service.mjs"), string(text))
	commands := map[string][]string{"node": {"node", filepath.Join(node, "service.mjs")}}
	for i, path := range all {
		kind, shape := "async", "dict"
		if i%2 == 1 {
			kind, shape = "sync", "dataclass"
		}
		commands[kind+" "+shape+" "+path] = []string{path, testdata(t, "service.py"), kind, shape}
	}
	commands["sync dataclass"] = []string{all[0], testdata(t, "service.py"), "sync", "dataclass"}
	for version, path := range pydantic {
		commands["async pydantic "+version] = []string{path, testdata(t, "service.py"), "async", "pydantic"}
	}
	out := map[string]*testenv.Process{}
	for name, command := range commands {
		if len(only) > 0 && (!strings.HasPrefix(name, only[0]) || len(out) > 0) {
			continue
		}
		env := []string{"PYTHONPATH=" + python, "PYTHONDONTWRITEBYTECODE=1", "HOLDFAST_URL=http://" + a.LocalAddr, "http_proxy=http://127.0.0.1:9"}
		if strings.HasPrefix(name, "sync") { // the other way to the agent
			env[2] = "HOLDFAST_URL=unix://" + a.Path("local.sock")
		}
		out[name] = testenv.Spawn(t, t.TempDir(), env, command[0], command[1:]...)
	}
	return out
}

// TestClients runs programs with the client libraries beside a real agent. They follow
// changes, keep what they have through what they refuse and through the death of the agent,
// and end at once.
func TestClients(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t)
	running := programs(t, a)
	all := func(line string) {
		t.Helper()
		for name, p := range running {
			testenv.Await(t, fmt.Sprintf("%s to print %q; it printed:\n%s", name, line, p.Output()), func() bool { return p.Transcript().Has(line) || !p.Running() })
			if !p.Transcript().Has(line) {
				t.Fatalf("%s has ended; it printed:\n%s", name, p.Output())
			}
		}
	}
	all("first whisper_model=base.en vad=0.5\n")
	a.Patch("stt-worker", `{"vad_threshold":0.75}`)
	all("update whisper_model=base.en vad=0.75\n")

	// What the service's own model refuses, and what it cannot use, changes nothing for it.
	refused := a.Patch("stt-worker", `{"vad_threshold":0.95}`)
	for name, p := range running {
		if strings.Contains(name, " dict ") {
			testenv.Await(t, name+" to take over what no model refuses", func() bool { return p.Transcript().Has("update whisper_model=base.en vad=0.95\n") })
			continue
		}
		testenv.Await(t, name+" to refuse", func() bool { return p.Transcript().Has(fmt.Sprintf("version %d is not taken over", refused)) })
		if out := p.Output(); strings.Contains(out, "vad=0.95") || strings.Contains(out, "0.95") {
			t.Errorf("%s shows the refused value:\n%s", name, out)
		}
	}
	raised := a.Patch("stt-worker", `{"vad_threshold":0.5,"whisper_model":"raise"}`)
	all(fmt.Sprintf("version %d is not taken over", raised))
	a.Patch("stt-worker", `{"whisper_model":"small.en"}`)
	all("update whisper_model=small.en vad=0.5\n")

	a.Kill()
	all("; the configuration in force stays\n")
	a.Start()
	a.AwaitNormal()
	last := a.Patch("stt-worker", `{"whisper_model":"medium.en"}`)
	all("update whisper_model=medium.en vad=0.5\n")
	for _, p := range running {
		p.Signal(syscall.SIGTERM)
	}
	all(fmt.Sprintf("closed in force version=%d rejected=%d threads=[]\n", last, raised))
	for name, p := range running {
		if code := p.Wait(t, name+" to end"); code != 0 {
			t.Errorf("%s ended with %d:\n%s", name, code, p.Output())
		}
	}
}

// TestClientsAcknowledge: what a program with a client takes over or refuses is known at the
// agent, in the model's own words and without a value. Where the agent does not take it, the
// program goes on, and asks once only.
func TestClientsAcknowledge(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"node", "sync dataclass", "async pydantic"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			a := testenv.StartProcess(t, "CONFIG_SERVICE_NAME=stt-worker", "CONFIG_ACK_OPEN=1")
			p := program(t, a, kind)
			is := func() (in conf.Instance) {
				var all conf.Instances
				r := a.Admin("GET", "/api/config/services/stt-worker/instances", "")
				if err := json.Unmarshal(r.Body, &all); err == nil && len(all.Instances) == 1 {
					in = all.Instances[0]
				}
				return in
			}
			good := a.Patch("stt-worker", `{"vad_threshold":0.75}`)
			testenv.Await(t, "the program to apply", func() bool { i := is(); return i.Version == uint64(good) && i.Status == conf.InstanceApplied })
			bad := a.Patch("stt-worker", `{"whisper_model":"raise"}`)
			t.Cleanup(func() { t.Logf("the program printed:\n%s\nthe instance is %+v", p.Output(), is()) })
			testenv.Await(t, "the program to refuse", func() bool {
				i := is()
				return i.Version == uint64(bad) && i.Status == conf.InstanceRejected && strings.Contains(i.Reason, "the callback")
			})
		})
	}
	a := testenv.StartProcess(t, "CONFIG_SERVICE_NAME=stt-worker", "CONFIG_LOCAL_SOCKET=none")
	p := program(t, a, "async dict")
	for i := range 3 {
		a.Patch("stt-worker", fmt.Sprintf(`{"vad_threshold":0.%d}`, i+1))
		testenv.Await(t, "the program to go on", func() bool { return p.Transcript().Has(fmt.Sprintf("vad=0.%d\n", i+1)) })
	}
	refused := 0
	for line := range strings.Lines(string(a.Local("/metrics").Body)) {
		if strings.HasPrefix(line, "holdfast_local_requests_total{") && strings.Contains(line, `code="401"`) {
			_, count, _ := strings.Cut(line, "} ")
			n, _ := strconv.Atoi(strings.TrimSpace(count))
			refused += n
		}
	}
	if refused != 1 {
		t.Errorf("it was refused %d times, want once", refused)
	}
}

// program is one of programs, by what its name begins with.
func program(t *testing.T, a *testenv.Agent, name string) (p *testenv.Process) {
	t.Helper()
	for _, p = range programs(t, a, name) {
	}
	if p == nil {
		t.Fatalf("there is no program %q", name)
	}
	return p
}

// TestClientsNeverGoBack: an agent whose disk was set back serves an older version. The
// programs keep the newer one until there is a newer one again.
func TestClientsNeverGoBack(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t)
	a.Patch("stt-worker", `{"whisper_model":"old.en"}`)
	a.Stop()
	before := filepath.Join(t.TempDir(), "data")
	if out, err := exec.Command("cp", "-a", a.Dir, before).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	a.Start()
	a.AwaitNormal()
	running := programs(t, a)
	for range 3 {
		a.Patch("stt-worker", `{"vad_threshold":0.25}`)
		a.Patch("stt-worker", `{"vad_threshold":0.5}`)
	}
	newest := a.Patch("stt-worker", `{"whisper_model":"new.en"}`)
	for name, p := range running {
		testenv.Await(t, name+" to have the newest; it printed:\n"+p.Output(), func() bool { return p.Transcript().Has("whisper_model=new.en") })
	}
	a.Kill()
	if err := os.RemoveAll(a.Dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(before, a.Dir); err != nil {
		t.Fatal(err)
	}
	a.Start()
	a.AwaitNormal()
	asked := func() (n int) {
		for line := range strings.Lines(string(a.Local("/metrics").Body)) {
			if v, ok := strings.CutPrefix(line, `holdfast_local_requests_total{code="200",route="document"} `); ok {
				n, _ = strconv.Atoi(strings.TrimSpace(v))
			}
		}
		return n
	}
	testenv.Await(t, "each program to have seen the older version", func() bool { return asked() >= len(running) })
	for a.Document("stt-worker").Metadata.Version <= newest {
		a.Patch("stt-worker", fmt.Sprintf(`{"vad_threshold":0.%d}`, 100+a.Document("stt-worker").Metadata.Version))
	}
	a.Patch("stt-worker", `{"whisper_model":"newer.en"}`)
	for name, p := range running {
		testenv.Await(t, name+" to go on", func() bool { return p.Transcript().Has("whisper_model=newer.en") })
		_, after, _ := strings.Cut(p.Output(), "whisper_model=new.en")
		if strings.Contains(after, "vad=0.25") || strings.Count(after, "update") == 0 {
			t.Errorf("%s went back:\n%s", name, p.Output())
		}
	}
}
