package doors

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-config/holdfast/testenv"
)

// seedDir is a directory for programs of the user: the client library, and the models of
// the data model as the package that the quickstart has them in.
func seedDir(t *testing.T, a *testenv.Agent, pydantic string) string {
	t.Helper()
	dir := clientFile(t, a, "python", "holdfast.py")
	models := readFile(t, testdata(t, "seed_models.py"))
	if pydantic == "1" { // they are models of Pydantic 2, which says this in another way
		models = strings.ReplaceAll(models, `model_config = ConfigDict(extra="forbid")`, "class Config:\n        extra = 'forbid'")
		models = strings.ReplaceAll(models, ", ConfigDict", "")
	}
	if err := os.MkdirAll(filepath.Join(dir, "tars", "config"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "tars", "config", "models.py"), models)
	for _, name := range []string{"seed_service.py", "seed.py", "seed_follow.py"} {
		write(t, filepath.Join(dir, name), readFile(t, testdata(t, name)))
	}
	return dir
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// withPydantic are the interpreters that have Pydantic, by its version.
func withPydantic(t *testing.T) map[string]string {
	t.Helper()
	_, pydantic := pythons(t)
	if len(pydantic) == 0 {
		testenv.Missing(t, "Pydantic is not installed: make test-tools installs it when run as root")
	}
	return pydantic
}

// TestSeedPrograms: the program and the models under test are those of the seed, but for
// the line that imports the library.
func TestSeedPrograms(t *testing.T) {
	t.Parallel()
	blocks := func(name string) (out []string) {
		text, err := os.ReadFile(filepath.Join(testenv.Root(), "..", "shared", "seeds", name))
		if err != nil {
			testenv.Missing(t, "the seed is not at hand: %v", err)
		}
		for _, m := range regexp.MustCompile("(?s)```python\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
			out = append(out, m[1])
		}
		return out
	}
	models := readFile(t, testdata(t, "seed_models.py"))
	found := 0
	for _, block := range append(blocks("quickstart.md"), blocks("data-model.md")...) {
		if strings.Contains(block, "class MyService:") {
			found++
			if want := strings.Replace(block, "from tars.config.library import", "from holdfast import", 1); readFile(t, testdata(t, "seed_service.py")) != want {
				t.Error("seed_service.py is not the program of the quickstart")
			}
		}
		for _, name := range []string{"MyServiceConfig", "STTWorkerConfig", "TTSWorkerConfig", "RouterConfig"} {
			class := regexp.MustCompile(`(?m)^class ` + name + `\(.*\n((?:[ \t].*)?\n)+`).FindString(block)
			if class == "" {
				continue
			}
			found++
			if class = strings.TrimRight(class, " \n"); !strings.Contains(models+"\n", class+"\n") {
				t.Errorf("seed_models.py does not have this %s:\n%s", name, class)
			}
		}
	}
	if found != 5 {
		t.Errorf("%d of the program and its models are in the seed", found)
	}
}

// TestQuickstartProgram runs the program of the user's quickstart, with its model.
func TestQuickstartProgram(t *testing.T) {
	t.Parallel()
	pydantic := withPydantic(t)
	schemas := t.TempDir()
	write(t, filepath.Join(schemas, "my-service.json"), `{"type":"object","additionalProperties":false,"properties":{
		"some_setting":{"type":"string","default":"default_value"},
		"another_setting":{"type":"integer","default":100,"minimum":0,"maximum":1000},
		"enable_feature":{"type":"boolean","default":false}}}`)
	a := testenv.StartProcess(t, "CONFIG_SCHEMA_DIR="+schemas)
	for version, path := range pydantic {
		p := testenv.Spawn(t, seedDir(t, a, version), []string{"PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1", "HOLDFAST_URL=http://" + a.LocalAddr}, path, "seed.py")
		const loaded = "Loaded config: some_setting='default_value' another_setting="
		testenv.Await(t, "the program to print what it loaded, and again; it printed:\n"+p.Output(), func() bool {
			return strings.Count(p.Output(), loaded) == 2 || !p.Running()
		})
		a.Patch("my-service", `{"another_setting":1`+version+`}`)
		testenv.Await(t, "the program to print the update; it printed:\n"+p.Output(), func() bool {
			return p.Transcript().Has("Config updated: some_setting='default_value' another_setting=1"+version) || !p.Running()
		})
		p.Signal(syscall.SIGTERM)
		if code := p.Wait(t, "the program to end"); code != 0 {
			t.Errorf("with Pydantic %s it ended with %d:\n%s", version, code, p.Output())
		}
	}
}

// TestSeedModels follows the user's own services with the user's own models: as they are by
// default, through changes, and from a start in a total outage.
func TestSeedModels(t *testing.T) {
	t.Parallel()
	pydantic := withPydantic(t)
	a := testenv.StartProcess(t)
	spawn := func(version, path string) *testenv.Process {
		return testenv.Spawn(t, seedDir(t, a, version), []string{"PYTHONDONTWRITEBYTECODE=1", "HOLDFAST_URL=http://" + a.LocalAddr}, path, "seed_follow.py")
	}
	services := []string{"stt-worker", "tts-worker", "router"}
	running := map[string]*testenv.Process{}
	// all waits until each program has what the agent serves.
	all := func(what string) {
		t.Helper()
		for version, p := range running {
			for _, service := range services {
				var want map[string]any
				if err := json.Unmarshal(a.Document(service).Config, &want); err != nil {
					t.Fatal(err)
				}
				testenv.Await(t, fmt.Sprintf("Pydantic %s to have %s %s = %v", version, what, service, want), func() bool {
					return reflect.DeepEqual(lastPrinted(t, p, what, service), want) || !p.Running()
				})
				if !p.Running() {
					t.Fatalf("with Pydantic %s the program has ended:\n%s", version, p.Output())
				}
			}
		}
	}
	start := func() {
		t.Helper()
		for version, path := range pydantic {
			running[version] = spawn(version, path)
		}
	}
	stop := func() {
		t.Helper()
		for version, p := range running {
			p.Signal(syscall.SIGTERM)
			if code := p.Wait(t, "the program to end"); code != 0 {
				t.Errorf("with Pydantic %s it ended with %d:\n%s", version, code, p.Output())
			}
			if !p.Transcript().Has("pydantic " + version + ".") {
				t.Errorf("it is not Pydantic %s:\n%s", version, p.Output())
			}
		}
	}
	start()
	all("default")
	all("first")
	for service, change := range map[string]string{
		"stt-worker": `{"whisper_model":"small.en","ws_url":"ws://127.0.0.1:9002/stt","vad_threshold":1}`,
		"tts-worker": `{"volume_percent":20,"tts_aggregate_timeout_sec":0.25}`,
		"router":     `{"router_stream_boundary_regex":"[.!?…]\\s","router_stream_min_chars":1}`,
	} {
		a.Patch(service, change)
	}
	all("update")
	a.Stop()
	a.WreckReplica()
	a.Start()
	a.AwaitSource("stt-worker", "lkg")
	stop()
	start()
	all("first")
	stop()
}

// lastPrinted is the last configuration of a service that a program has printed.
func lastPrinted(t *testing.T, p *testenv.Process, what, service string) (out map[string]any) {
	t.Helper()
	for line := range strings.Lines(p.Output()) {
		text, ok := strings.CutPrefix(line, what+" "+service+" ")
		if !ok || !strings.HasSuffix(line, "\n") {
			continue
		}
		out = nil
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	}
	return out
}
