package doors

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/testenv"
)

// odd is a schema with names that no language takes, for the service odd.
const odd = `{"title": "OddConfig", "type": "object", "x-keys": "any", "additionalProperties": false, "required": ["class"], "properties": {
  "class": {"type": "string"}, "log-level": {"enum": ["info", "debug"], "default": "info"}, "1st": {"type": "number", "default": 3},
  "api_key": {"type": "string", "x-secret": true}, "absent": {"type": "integer"}, "nothing": {"type": ["string", "null"], "default": null},
  "Image": {"type": "object", "properties": {"pullPolicy": {"type": "string", "default": "Always"}}},
  "steps": {"type": "array", "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "size": {"type": "integer", "default": 4}}}}}}`

// loads prints what the client makes of the documents of all services, by the generated types.
const loads = `
import dataclasses, importlib, sys
from holdfast import ConfigClient

def plain(v):
    if dataclasses.is_dataclass(v):
        return {f.metadata.get("key", f.name): plain(getattr(v, f.name)) for f in dataclasses.fields(v)}
    if isinstance(v, list):
        return [plain(x) for x in v]
    return {k: plain(x) for k, x in v.items()} if isinstance(v, dict) else v

for service in sys.argv[1:]:
    module = importlib.import_module("types_" + service.replace("-", "_"))
    model = [c for c in vars(module).values() if dataclasses.is_dataclass(c)][-1]
    client = ConfigClient(service, token_file="token")
    raw, typed = client.get_config(), client.get_config(model)
    for k, v in plain(typed).items():
        if k in raw and service != "odd":
            assert v == raw[k], (service, k, v, raw[k])
        else:
            assert k in raw or v is None, (service, k, v)
    print(service, "loaded", repr(typed) if service == "odd" else "", flush=True)
    client.close()
`

// decodes reads the document of each service into the generated struct, and writes it again.
const decodes = `package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
%s)

func load[T any](service string, into *T) {
	data, err := os.ReadFile(service + ".json")
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err == nil {
		err = d.Decode(into)
	}
	if err != nil {
		panic(service + ": " + err.Error())
	}
	out, _ := json.Marshal(into)
	fmt.Println(service, string(out))
}

func main() {
%s}
`

// TestSchemaTypes: for every service of the test environment, and for one with odd names, the
// types of its schema load the document that the agent has: in Python through the client, in Go
// with encoding/json.
func TestSchemaTypes(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "python3", "go")
	a := testenv.StartProcess(t)
	dir := clientFile(t, a, "python", "holdfast.py")
	write(t, filepath.Join(dir, "odd.json"), odd)
	write(t, filepath.Join(dir, "odd.values.json"), `{"class": "first", "api_key": "hunter2", "steps": [{"name": "a"}]}`)
	holdfast := func(args ...string) string {
		cmd := exec.Command(testenv.Binary(t, "./cmd/holdfast"), args...)
		cmd.Env = append(os.Environ(), a.Env()...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("holdfast %v: %v", args, err)
		}
		return string(out)
	}
	holdfast("schema", "put", "odd", filepath.Join(dir, "odd.json"), "--with", filepath.Join(dir, "odd.values.json"))
	token, err := os.ReadFile(filepath.Join(a.Dir, "local-token"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "token"), string(token))

	services := []string{"odd"}
	paths, err := filepath.Glob(filepath.Join(testenv.Root(), "testenv", "schemas", "*.json"))
	if err != nil || len(paths) < 5 {
		t.Fatalf("the schemas of the services: %v, %v", paths, err)
	}
	for _, p := range paths {
		services = append(services, strings.TrimSuffix(filepath.Base(p), ".json"))
	}
	maker := regexp.MustCompile(`func New\w+\(\) \(c (\w+), err error\)`)
	var imports, calls strings.Builder
	for _, s := range services {
		name := strings.ReplaceAll(s, "-", "_")
		write(t, filepath.Join(dir, "types_"+name+".py"), holdfast("schema", "types", s, "--lang", "python"))
		text := holdfast("schema", "types", s, "--lang", "go")
		if err := os.MkdirAll(filepath.Join(dir, "go", name), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "go", name, "config.go"), text)
		write(t, filepath.Join(dir, "go", s+".json"), holdfast("get", s, "--raw", "--secrets"))
		fmt.Fprintf(&imports, "\t%s \"types/%s\"\n", name, name)
		fmt.Fprintf(&calls, "\tload(%q, &%s.%s{})\n", s, name, maker.FindStringSubmatch(text)[1])
		if ts := holdfast("schema", "types", s, "--lang", "ts"); !strings.Contains(ts, "export interface ") {
			t.Errorf("%s: no interface in %s", s, ts)
		}
	}
	p := testenv.Spawn(t, dir, []string{"PYTHONPATH=" + dir, "HOLDFAST_URL=http://" + a.LocalAddr}, "python3", append([]string{"-c", loads}, services...)...)
	if code := p.Wait(t, "the types to load"); code != 0 {
		t.Fatalf("the types do not load: %s", p.Output())
	}
	for _, s := range services {
		if !strings.Contains(p.Output(), s+" loaded") {
			t.Errorf("%s is not loaded:\n%s", s, p.Output())
		}
	}
	if out := p.Output(); !strings.Contains(out, "OddConfig(class_='first', Image=Image") && !strings.Contains(out, "class_='first'") || strings.Contains(out, "hunter2") {
		t.Errorf("the odd names, or a secret is shown:\n%s", out)
	}
	if !regexp.MustCompile(`size=4\b.*|name='a', size=4`).MatchString(p.Output()) {
		t.Errorf("a default within an array is not filled in:\n%s", p.Output())
	}

	write(t, filepath.Join(dir, "go", "go.mod"), "module types\n\ngo 1.22\n")
	write(t, filepath.Join(dir, "go", "main.go"), fmt.Sprintf(decodes, imports.String(), calls.String()))
	g := testenv.Spawn(t, filepath.Join(dir, "go"), append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off"), "go", "run", "-trimpath", ".")
	if code := g.Wait(t, "the structs to decode"); code != 0 {
		t.Fatalf("the structs do not decode: %s", g.Output())
	}
	if !strings.Contains(g.Output(), `"api_key":"hunter2"`) || !strings.Contains(g.Output(), `"class":"first"`) {
		t.Errorf("the struct lacks what the document has:\n%s", g.Output())
	}
}
