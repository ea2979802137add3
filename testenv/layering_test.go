package testenv

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/holdfast-config/holdfast"

// layers is the table of docs/design/architecture.md: which packages of ours a package
// imports, arrow by arrow. A package that is not in the table fails the test, and so does
// an arrow of the table that the code does not have: put it there, in the open, or take it
// out.
var layers = map[string][]string{
	"replication/durable":        {},
	"replication/logspace":       {},
	"replication/jsonscan":       {},
	"replication/trust":          {"replication/conf"},
	"replication/conf":           {"replication/jsonscan"},
	"replication/alarm":          {"replication/conf"},
	"replication/backup":         {"replication/alarm", "replication/conf", "replication/durable"},
	"replication/command":        {"replication/conf", "replication/jsonscan"},
	"replication/httperror":      {"replication/conf"},
	"replication/pki":            {"replication/conf", "replication/durable"},
	"replication/schema":         {"replication/conf", "replication/jsonscan", "replication/schema/dialect", "replication/schema/pattern"},
	"replication/schema/dialect": {"replication/conf", "replication/seal"},
	"replication/schema/pattern": {"replication/conf"},
	"replication/seal":           {"replication/conf", "replication/jsonscan"},
	"replication/view":           {"replication/conf"},
	"replication/connlimit":      {"replication/conf", "replication/httperror"},
	"replication/store/tables":   {"replication/command", "replication/conf"},
	"replication/store/query":    {"replication/command", "replication/conf", "replication/store/tables"},
	"replication/store/search":   {"replication/conf", "replication/store/tables"},
	"replication/store/stream":   {"replication/conf", "replication/store/tables"},
	"replication/transport":      {"replication/alarm", "replication/conf", "replication/connlimit", "replication/httperror", "replication/pki"},
	"replication/store/apply": {
		"replication/command", "replication/conf", "replication/jsonscan", "replication/store/search", "replication/store/tables",
	},
	"replication/store": {
		"replication/command", "replication/conf", "replication/durable", "replication/store/apply", "replication/store/query", "replication/store/search",
		"replication/store/stream", "replication/store/tables",
	},
	"replication/raftguard": {"replication/alarm", "replication/conf", "replication/durable", "replication/store"},
	"replication/walstore":  {"replication/conf", "replication/durable", "replication/raftguard"},
	"replication":           {"replication/command", "replication/alarm", "replication/conf", "replication/durable", "replication/logspace", "replication/raftguard", "replication/store", "replication/walstore"},
	"localapi/fairqueue":    {"replication/conf"},
	"localapi/clients":      {"replication/conf"},
	"localapi/client":       {"replication/conf", "replication/httperror", "replication/seal"},
	"localapi/front":        {"replication/connlimit"},
	"localapi":              {"replication/alarm", "replication/conf", "replication/connlimit", "replication/httperror", "localapi/front"},
	"localapi/ofrep":        {"replication/conf", "replication/httperror", "replication/schema", "localapi"},
	"localapi/render":       {"replication/alarm", "replication/conf", "replication/durable", "replication/trust", "localapi", "localapi/yamljson"},
	"localapi/ack":          {"replication/conf", "replication/httperror", "localapi"},
	"localapi/events":       {},
	"localapi/authlimit":    {},
	"localapi/session":      {},
	"localapi/ui":           {},
	"localapi/admin":        {"replication/alarm", "replication/conf", "replication/connlimit", "replication/httperror", "localapi/authlimit", "localapi/events", "localapi/fairqueue", "localapi/session"},
	"agent/broker":          {"replication/alarm", "replication/conf", "replication/seal"},
	"agent/certfile":        {"replication/alarm", "replication/conf"},
	"agent/edit":            {"replication/command", "replication/conf", "replication/schema", "replication/schema/dialect", "replication/seal"},
	"agent/instances":       {"replication/conf", "replication/pki", "localapi/events", "agent/peers"},
	"agent/reporter":        {"replication/conf", "replication/durable", "localapi"},
	"agent/keys":            {"replication/conf", "replication/durable", "replication/seal", "replication/trust"},
	"agent/renderjob":       {"replication/conf", "replication/trust", "replication/view", "localapi/render", "agent/documents"},
	"agent/lkg":             {"replication/alarm", "replication/conf", "replication/durable", "replication/jsonscan", "replication/seal"},
	"agent/updates":         {"replication/conf", "replication/seal"},
	"agent/scrape":          {"replication/conf", "replication/connlimit", "agent/process"},
	"agent/options":         {"replication/backup", "replication/conf", "agent/keys"},
	"agent/documents":       {"replication/alarm", "replication/conf", "replication/schema", "replication/seal", "replication/view", "localapi", "agent/edit", "agent/keys", "agent/lkg"},
	"agent/process":         {"replication/alarm", "replication/conf", "replication/durable", "agent/certfile", "agent/options"},
	"agent/schemas":         {"replication/alarm", "replication/conf", "replication/schema", "replication/schema/dialect", "replication/seal", "replication/store"},
	"agent/observer": {
		"replication/alarm", "replication/conf", "replication/schema", "replication/seal", "replication/view", "localapi", "localapi/ack", "localapi/client", "localapi/ofrep", "agent/broker",
		"agent/documents", "agent/keys", "agent/lkg", "agent/options", "agent/process", "agent/renderjob", "agent/reporter", "agent/schemas", "agent/scrape", "agent/updates",
	},
	"agent/served": {
		"replication/alarm", "replication/conf", "replication/durable", "replication/seal", "replication/view", "agent/documents", "agent/lkg",
	},
	"agent/fallback": {
		"replication/alarm", "replication/conf", "replication/httperror", "replication/schema", "replication/seal", "replication/view", "localapi", "localapi/ofrep",
		"localapi/ui", "agent/documents", "agent/keys", "agent/lkg", "agent/options", "agent/process", "agent/renderjob", "agent/schemas", "agent/served",
	},
	"agent/peers": {
		"replication", "replication/command", "replication/conf", "replication/httperror", "replication/pki", "replication/transport",
		"localapi/admin", "agent/lkg",
	},
	"agent/recovery": {
		"replication", "replication/backup", "replication/command", "replication/alarm", "replication/conf", "replication/durable", "replication/pki",
		"replication/schema", "replication/seal", "replication/store", "replication/transport", "replication/view", "localapi/client",
		"agent/documents", "agent/edit", "agent/keys", "agent/lkg", "agent/options", "agent/peers", "agent/process", "agent/schemas",
	},
	"agent/replica": {
		"replication", "replication/backup", "replication/command", "replication/alarm", "replication/conf", "replication/schema", "replication/store",
		"replication/view", "agent/documents", "agent/lkg", "agent/options", "agent/peers", "agent/process", "agent/recovery", "agent/schemas", "agent/served",
	},
	"agent/audit": {"replication/command", "replication/alarm", "replication/conf", "replication/pki", "agent/peers", "agent/replica"},
	"agent/backupjob": {
		"replication/backup", "replication/conf", "replication/schema", "agent/documents", "agent/options", "agent/peers", "agent/recovery",
		"agent/replica",
	},
	"agent/membership": {
		"replication", "replication/command", "replication/conf", "replication/httperror", "replication/pki", "replication/store",
		"replication/transport", "agent/keys", "agent/options", "agent/peers", "agent/process", "agent/recovery", "agent/replica",
	},
	"agent/rollout": {"replication/conf", "agent/documents", "agent/instances", "agent/served"},
	"agent/rotation": {
		"replication/command", "replication/conf", "replication/httperror", "replication/pki", "replication/seal", "replication/store",
		"replication/transport", "replication/view", "localapi", "agent/documents", "agent/keys", "agent/lkg", "agent/options", "agent/peers",
		"agent/replica", "agent/served",
	},
	"agent/backend": {
		"replication/command", "replication/conf", "replication/connlimit", "replication/schema", "replication/seal", "replication/store", "replication/view", "localapi/admin",
		"localapi/events", "agent/backupjob", "agent/broker", "agent/documents", "agent/edit", "agent/keys", "agent/lkg", "agent/options", "agent/peers",
		"agent/process", "agent/replica", "agent/rotation",
	},
	"agent": {
		"replication/alarm", "replication/conf", "replication/connlimit", "replication/pki", "replication/schema", "replication/view", "localapi", "localapi/ack", "localapi/admin", "localapi/events", "localapi/ofrep", "localapi/session", "localapi/ui",
		"agent/audit",
		"agent/backend", "agent/backupjob", "agent/broker", "agent/certfile", "agent/documents", "agent/edit", "agent/keys", "agent/lkg", "agent/membership",
		"agent/instances", "agent/options", "agent/peers", "agent/process", "agent/recovery", "agent/renderjob", "agent/replica", "agent/reporter", "agent/rollout", "agent/rotation", "agent/scrape", "agent/served", "replication/store",
	},
	"localapi/yamljson":             {"replication/conf"},
	"cmd/holdfast/internal/foreign": {"replication/conf"},
	"cmd/holdfast/internal/migrate": {
		"replication/conf", "localapi/client", "cmd/holdfast/internal/cli", "cmd/holdfast/internal/foreign", "cmd/holdfast/internal/values",
	},
	"cmd/holdfast/internal/gitops": {
		"replication/conf", "localapi/client", "cmd/holdfast/internal/cli", "cmd/holdfast/internal/values", "localapi/yamljson",
	},
	"cmd/holdfast/internal/cli":       {"replication/conf", "replication/trust", "localapi/client", "agent/options"},
	"cmd/holdfast/internal/values":    {"replication/conf", "cmd/holdfast/internal/cli"},
	"cmd/holdfast/internal/change":    {"replication/conf", "localapi/client", "cmd/holdfast/internal/cli", "cmd/holdfast/internal/values"},
	"cmd/holdfast/internal/staged":    {"replication/conf", "localapi/client", "cmd/holdfast/internal/change", "cmd/holdfast/internal/cli"},
	"cmd/holdfast/internal/envfile":   {"replication/conf"},
	"cmd/holdfast/internal/supervise": {"replication/conf"},
	"cmd/holdfast/internal/doors": {
		"replication/conf", "localapi/client", "localapi/clients", "localapi/render", "cmd/holdfast/internal/cli", "cmd/holdfast/internal/envfile",
		"cmd/holdfast/internal/supervise",
	},
	"cmd/holdfast/internal/typegen": {"replication/conf"},
	"cmd/holdfast/internal/model": {
		"replication/conf", "localapi/client", "cmd/holdfast/internal/cli", "cmd/holdfast/internal/typegen", "cmd/holdfast/internal/values",
	},
	"cmd/holdfast/internal/read": {
		"replication/conf", "localapi/client", "cmd/holdfast/internal/cli", "cmd/holdfast/internal/envfile", "cmd/holdfast/internal/values",
	},
	"cmd/holdfast/internal/run": {
		"replication/conf", "localapi/client", "agent", "agent/backupjob", "agent/fallback", "agent/observer", "agent/options", "agent/process", "agent/recovery",
		"cmd/holdfast/internal/cli",
	},
	"cmd/holdfast/internal/cluster": {"replication/conf", "localapi/client", "cmd/holdfast/internal/cli", "cmd/holdfast/internal/run"},
	"cmd/holdfast/internal/ops": {
		"replication/conf", "localapi/client", "cmd/holdfast/internal/cli", "cmd/holdfast/internal/migrate", "cmd/holdfast/internal/run", "cmd/holdfast/internal/values", "localapi/yamljson",
	},
	"cmd/holdfast": {
		"cmd/holdfast/internal/change", "cmd/holdfast/internal/cli", "cmd/holdfast/internal/cluster", "cmd/holdfast/internal/doors",
		"cmd/holdfast/internal/gitops", "cmd/holdfast/internal/model", "cmd/holdfast/internal/ops", "cmd/holdfast/internal/read", "cmd/holdfast/internal/run", "cmd/holdfast/internal/staged",
	},
	"testenv/base":                     {},
	"testenv/browser":                  {"testenv/base"},
	"testenv/chaos":                    {},
	"testenv/mutate":                   {},
	"testenv/upgrade":                  {},
	"testenv/pagetest":                 {},
	"testenv/cogtest":                  {},
	"testenv/servicetest":              {},
	"testenv/ofrep":                    {},
	"testenv/services/go":              {},
	"testenv/services/openfeature":     {"testenv/ofrep"},
	"testenv/services/mqtt/subscriber": {},
	"testenv/doors":                    {},
	"testenv/packagetest":              {},
	"testenv/promtest":                 {},
	"testenv/rendertest":               {},
	"testenv/rollouttest":              {},
	"testenv/bench":                    {"replication/conf", "replication/seal", "localapi/client"},
	"testenv":                          {"replication/conf", "agent", "agent/observer", "agent/options", "testenv/base"},
}

// owners says which packages may import a library from outside. The standard
// library, golang.org/x and uuid are free to all.
var owners = map[string][]string{
	"github.com/gowebpki/jcs":               {"replication/seal"},
	"github.com/santhosh-tekuri/jsonschema": {"replication/schema"},
	"modernc.org/sqlite":                    {"replication/store"},
	"github.com/hashicorp/raft":             {"replication", "replication/logspace", "replication/raftguard", "replication/walstore"},
	"github.com/hashicorp/raft-boltdb":      {"replication/raftguard", "replication/walstore"},
	"github.com/hashicorp/raft-wal":         {"replication/walstore"},
	"github.com/hashicorp/raft-autopilot":   {"replication"},
	"github.com/hashicorp/go-hclog":         {"replication/raftguard"},
	"go.etcd.io/bbolt":                      {"replication/raftguard"},
	"github.com/benbjohnson/litestream":     {"replication/backup"},
	"github.com/superfly/ltx":               {"replication/backup"}, // its file format
	"github.com/aws/aws-sdk-go-v2":          {"replication/backup"}, // what its client of S3 cannot do
	"github.com/julienschmidt/httprouter":   {"localapi", "localapi/admin"},
	"github.com/mochi-mqtt/server":          {"agent/broker"},
	"github.com/eclipse/paho.golang":        {"testenv/services/mqtt/subscriber"},
	"github.com/eclipse/paho.mqtt.golang":   {}, // tests of agent/broker
	"github.com/KimMachineGun/automemlimit": {"cmd/holdfast/internal/run"},
	"github.com/joho/godotenv":              {"agent/keys", "cmd/holdfast/internal/foreign"},
	"github.com/magiconair/properties":      {"cmd/holdfast/internal/foreign"},
	"github.com/prometheus/client_golang": {
		"localapi", "agent", "agent/audit", "agent/backend", "agent/backupjob", "agent/broker", "agent/observer", "agent/rotation", "agent/scrape",
		"agent/renderjob", "agent/rollout", "agent/instances", "localapi/render",
	},
	"github.com/spf13/cobra": {
		"cmd/holdfast", "cmd/holdfast/internal/cli", "cmd/holdfast/internal/run", "cmd/holdfast/internal/read", "cmd/holdfast/internal/change",
		"cmd/holdfast/internal/model", "cmd/holdfast/internal/cluster", "cmd/holdfast/internal/ops", "cmd/holdfast/internal/doors", "cmd/holdfast/internal/migrate", "cmd/holdfast/internal/gitops", "cmd/holdfast/internal/staged",
	},
	"github.com/spf13/pflag":            {"cmd/holdfast/internal/run"},
	"go.yaml.in/yaml":                   {"localapi/yamljson", "localapi/render", "cmd/holdfast/internal/foreign"},
	"github.com/pelletier/go-toml":      {"localapi/render"},
	"github.com/rogpeppe/go-internal":   {"localapi/render"}, // a diff; and tests
	"github.com/anishathalye/porcupine": {"testenv"},
	"github.com/open-feature/go-sdk":    {"testenv/ofrep", "testenv/services/openfeature"},
	"go.uber.org/goleak":                {"testenv/base"},    // for the tests of all
	"github.com/chromedp/chromedp":      {"testenv/browser"}, // and tests of pages
	"github.com/chromedp/cdproto":       {"testenv/browser"},
	"github.com/google/uuid":            nil,
	"golang.org/x":                      nil,
}

// topLevel are the names that may stand at the top of the repository. Names that
// begin with a dot may too.
var topLevel = []string{
	"agent", "cmd", "localapi", "replication", "testenv", "docs", "go.mod", "go.sum", "Makefile", "Dockerfile",
	"docker-compose.yml", "README.md", "LICENSE", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md",
}

const maxLines = 500

// pkg is what go list tells of a package.
type pkg struct {
	Dir, ImportPath, Name string
	Doc                   string // the first sentence of the package comment
	GoFiles, Imports      []string
	IgnoredGoFiles        []string
	TestGoFiles           []string
	TestImports           []string
	XTestImports          []string
	XTestGoFiles          []string
}

func (p *pkg) ours() string { return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/") }

func listPackages(t *testing.T) []*pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json", "./...")
	cmd.Dir = Root()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []*pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(pkg)
		if err := dec.Decode(p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// allowed says whether list names path, itself or through a "/..." entry.
func allowed(list []string, path string) bool {
	return slices.ContainsFunc(list, func(e string) bool {
		prefix, tree := strings.CutSuffix(e, "/...")
		return path == prefix || tree && strings.HasPrefix(path, prefix+"/")
	})
}

// checkImports is the table held against one package's imports.
func checkImports(name string, imports []string) (bad []string) {
	mine, known := layers[name]
	if !known {
		return []string{name + " is not in the table of layers"}
	}
	for _, imp := range imports {
		if our, ok := strings.CutPrefix(imp, module+"/"); ok {
			if !allowed(mine, our) {
				bad = append(bad, name+" imports "+our)
			}
			continue
		}
		if first, _, _ := strings.Cut(imp, "/"); !strings.Contains(first, ".") {
			continue // standard library
		}
		lib := ""
		for o := range owners {
			if (imp == o || strings.HasPrefix(imp, o+"/")) && len(o) > len(lib) {
				lib = o
			}
		}
		who, known := owners[lib]
		switch {
		case !known:
			bad = append(bad, name+" imports "+imp+", which the table of owners does not name")
		case who != nil && !slices.Contains(who, name) && name != "testenv":
			bad = append(bad, name+" imports "+imp+", which belongs to "+strings.Join(who, ", "))
		}
	}
	return bad
}

func TestLayers(t *testing.T) {
	t.Parallel()
	all := listPackages(t)
	if len(all) < 10 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	imported := map[string][]string{}
	for _, p := range all {
		imported[p.ours()] = p.Imports
		for _, bad := range checkImports(p.ours(), p.Imports) {
			t.Error(bad)
		}
		for _, bad := range checkAgentTests(p) {
			t.Error(bad)
		}
	}
	for _, bad := range phantoms(imported) {
		t.Error(bad)
	}
	// The check itself can fail.
	for name, imports := range map[string][]string{
		"replication/conf":  {module + "/agent"},
		"localapi":          {module + "/testenv"},
		"cmd/holdfast":      {"modernc.org/sqlite"},
		"replication/store": {"github.com/hashicorp/raft"},
		"agent/edit":        {"github.com/nobody/knows"},
		"replication/new":   nil,
	} {
		if checkImports(name, imports) == nil {
			t.Errorf("the check lets %s import %v", name, imports)
		}
	}
	if phantoms(map[string][]string{"replication/seal": nil}) == nil {
		t.Error("the check lets the table have rows and arrows that the code does not have")
	}
	if checkAgentTests(&pkg{ImportPath: module + "/agent/edit", TestImports: []string{module + "/agent"}}) == nil {
		t.Error("the check lets a test below agent import it")
	}
	// No circle: each row names only rows that do not lead back.
	for name := range layers {
		if path := reaches(name, name, map[string]bool{}); path != "" {
			t.Errorf("the table of layers goes in a circle: %s", path)
		}
	}
}

// phantoms lists what the tables have and the code does not.
func phantoms(imported map[string][]string) (bad []string) {
	for _, name := range slices.Sorted(maps.Keys(layers)) {
		imports, ok := imported[name]
		if !ok {
			bad = append(bad, "the table of layers has "+name+", which is no package")
			continue
		}
		for _, our := range layers[name] {
			if !slices.Contains(imports, module+"/"+our) {
				bad = append(bad, name+" does not import "+our+", as the table of layers says")
			}
		}
	}
	for _, lib := range slices.Sorted(maps.Keys(owners)) {
		for _, name := range owners[lib] {
			if !slices.ContainsFunc(imported[name], func(i string) bool { return i == lib || strings.HasPrefix(i, lib+"/") }) {
				bad = append(bad, name+" does not import "+lib+", as the table of owners says")
			}
		}
	}
	return bad
}

// checkAgentTests keeps tests below agent from running whole agents: only testenv, cmd and
// agent's own do.
func checkAgentTests(p *pkg) (bad []string) {
	name := p.ours()
	if name == "agent" || strings.HasPrefix(name, "testenv") || strings.HasPrefix(name, "cmd/") {
		return nil
	}
	for _, imp := range slices.Concat(p.TestImports, p.XTestImports) {
		if imp == module+"/agent" {
			bad = append(bad, "a test of "+name+" imports agent")
		}
	}
	return bad
}

func reaches(from, to string, seen map[string]bool) string {
	for _, next := range slices.Sorted(maps.Keys(layers)) {
		if next == from || !allowed(layers[from], next) || seen[next] && next != to {
			continue
		}
		if next == to {
			return from + " -> " + to
		}
		seen[next] = true
		if rest := reaches(next, to, seen); rest != "" {
			return from + " -> " + rest
		}
	}
	return ""
}

// TestEveryPackageHasDoc wants a doc.go with a package comment in each package.
// A program of one file may have it there.
func TestEveryPackageHasDoc(t *testing.T) {
	t.Parallel()
	for _, p := range listPackages(t) {
		where := "doc.go"
		if p.Name == "main" && !slices.Contains(p.GoFiles, where) {
			where = "main.go"
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, where), nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Errorf("%s: %v", p.ours(), err)
			continue
		}
		if f.Doc == nil || len(f.Doc.Text()) < 60 {
			t.Errorf("%s: %s does not say what the package is for", p.ours(), where)
		}
	}
}

// TestSizeAndManners reads every Go file: its length, and the calls that have no
// place in it.
func TestSizeAndManners(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, p := range listPackages(t) {
		for _, name := range slices.Concat(p.GoFiles, p.IgnoredGoFiles, p.TestGoFiles, p.XTestGoFiles) {
			seen++
			path := filepath.Join(p.Dir, name)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, bad := range manners(p.ours(), name, data) {
				t.Errorf("%s: %s", filepath.Join(p.ours(), name), bad)
			}
		}
	}
	if seen < 50 {
		t.Errorf("looked at only %d files", seen)
	}
	for _, bad := range []struct{ pkg, file, text string }{
		{"agent", "x.go", "package agent\n" + strings.Repeat("\n", maxLines)},
		{"agent", "x.go", `package agent; import "os"; func f() { os.Exit(1) }`},
		{"agent", "x.go", `package agent; import l "log"; func f() { l.Fatalf("") }`},
		{"agent", "x_test.go", `package agent; import "time"; func f() { time.Sleep(1) }`},
		{"testenv", "x.go", `package testenv; import "time"; func f() { time.Sleep(1) }`},
		{"agent", "x_test.go", `package agent; import "time"; func f() { <-time.After(1) }`},
		{"agent", "x_test.go", `package agent; func f() { t.Skip() }`},
		{"agent", "x_test.go", `package agent; func f() { s.t.SkipNow() }`},
		{"testenv", "x.go", `package testenv; func f() { s.t.Skipf("") }`},
		{"testenv", "x.go", `package testenv; import "os"; func f() { os.Getenv("CI") }`},
	} {
		if manners(bad.pkg, bad.file, []byte(bad.text)) == nil {
			t.Errorf("nothing is found in %.60q", bad.text)
		}
	}
}

// maySkip has the test files that leave something out under CI too, and why.
var maySkip = map[string]string{
	"cmd/holdfast/internal/typegen/typegen_test.go": "tsc is not among the test tools; the golden files are compared in any case",
	"testenv/cogtest/pairs_test.go":                 "it makes pictures for a person, on request only",
	"testenv/compose_test.go":                       "no package installs a Docker engine in the container of a CI",
	"testenv/ofrep/feature_test.go":                 "the scenarios are not in the repository",
	"testenv/ofrep/spec_test.go":                    "the document is not in the repository",
	"testenv/packagetest/package_test.go":           "a container of a CI may not be allowed to mount a root and to boot systemd",
	"testenv/upgrade/oldbuild_test.go":              "a shallow clone of a CI has no older commit to build",
}

// maySleep has the files of tests in which time passes, and why. Files that import
// testing/synctest need not be here: the time of a bubble is not real.
var maySleep = map[string]string{
	"replication/diskmonitor_test.go":       "a disk that takes its time",
	"replication/raftguard/pipenet_test.go": "a network of a bubble, used by tests in bubbles only",
}

func isCI(e ast.Expr) bool {
	lit, ok := e.(*ast.BasicLit)
	return ok && lit.Value == `"CI"`
}

// manners says what is wrong with one file.
func manners(pkg, name string, data []byte) (bad []string) {
	test := strings.HasSuffix(name, "_test.go")
	if lines := bytes.Count(data, []byte("\n")); !test && lines > maxLines {
		bad = append(bad, fmt.Sprintf("%d lines, the limit is %d", lines, maxLines))
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, data, parser.SkipObjectResolution)
	if err != nil {
		return append(bad, err.Error())
	}
	imported := map[string]string{} // local name -> path
	for _, i := range f.Imports {
		path := strings.Trim(i.Path.Value, `"`)
		local := path[strings.LastIndex(path, "/")+1:]
		if i.Name != nil {
			local = i.Name.Name
		}
		imported[local] = path
	}
	program := strings.HasPrefix(pkg, "cmd/") || strings.HasPrefix(pkg, "testenv/bench") || strings.HasPrefix(pkg, "testenv/services/")
	sample := strings.HasPrefix(pkg, "testenv/services/")
	// What may end or leave out a test, other than base.Missing.
	skips := (test || strings.HasPrefix(pkg, "testenv")) && pkg != "testenv/base" && maySkip[pkg+"/"+name] == ""
	fakeTime := imported["synctest"] != "" // time.Sleep in a bubble waits for nothing real
	// A fuzz target skips inputs that mean nothing to it.
	var fuzz []ast.Expr
	ast.Inspect(f, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Fuzz" {
				fuzz = append(fuzz, call.Args...)
			}
		}
		return true
	})
	inFuzz := func(at token.Pos) bool {
		return slices.ContainsFunc(fuzz, func(e ast.Expr) bool { return e.Pos() <= at && at < e.End() })
	}
	sleeps := (test || strings.HasPrefix(pkg, "testenv") && !sample) && !fakeTime && maySleep[pkg+"/"+name] == ""
	// A channel of the clock in a select is a deadline; alone it is time.Sleep.
	inSelect := map[ast.Stmt]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		switch s := n.(type) {
		case *ast.CommClause:
			inSelect[s.Comm] = true
		case *ast.ExprStmt:
			if receive, ok := s.X.(*ast.UnaryExpr); ok && receive.Op == token.ARROW && sleeps && !inSelect[s] {
				if call, ok := receive.X.(*ast.CallExpr); ok && strings.HasPrefix(types.ExprString(call.Fun), "time.") {
					bad = append(bad, fmt.Sprintf("line %d sleeps: await a condition", fset.Position(s.Pos()).Line))
				}
			}
		}
		return true
	})
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		at := fset.Position(call.Pos()).Line
		x, ok := sel.X.(*ast.Ident)
		if skips && (!ok || imported[x.Name] == "") && regexp.MustCompile(`^Skip(f|Now)?$`).MatchString(sel.Sel.Name) && !inFuzz(call.Pos()) {
			bad = append(bad, fmt.Sprintf("line %d skips: base.Missing does, and fails under CI", at))
		}
		if !ok {
			return true
		}
		what := imported[x.Name] + "." + sel.Sel.Name
		switch {
		case !program && regexp.MustCompile(`^log\.(Fatal|Panic)`).MatchString(what),
			!program && !test && what == "os.Exit":
			bad = append(bad, fmt.Sprintf("line %d calls %s: return an error, only a command decides to end the process", at, what))
		case what == "time.Sleep" && sleeps:
			bad = append(bad, fmt.Sprintf("line %d sleeps: await a condition", at))
		case what == "os.Getenv" && len(call.Args) == 1 && skips && isCI(call.Args[0]):
			bad = append(bad, fmt.Sprintf("line %d looks at CI: call base.Missing or base.MissingPart", at))
		}
		return true
	})
	return bad
}

// TestTopLevel keeps the top of the repository as the list above has it, as far as git
// knows of it.
func TestTopLevel(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("git", "ls-files")
	cmd.Dir = Root()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), "/")
		if !seen[name] && !strings.HasPrefix(name, ".") && !slices.Contains(topLevel, name) {
			t.Errorf("%s stands at the top of the repository", name)
		}
		seen[name] = true
	}
	if len(seen) < 5 {
		t.Errorf("git knows only %v", slices.Sorted(maps.Keys(seen)))
	}
}
