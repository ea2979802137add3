package render

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/template"

	"go.yaml.in/yaml/v3"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/trust"
)

// File is the content of render.yaml, checked and with its templates.
type File struct {
	Path   string
	Groups []*Group

	read []string // all files that it was read from
}

// maxFile is the largest render.yaml or template that is read.
const maxFile = 1 << 20

// fileText is render.yaml as it is written.
type fileText struct {
	Groups []groupText `yaml:"groups"`
}

type groupText struct {
	Name     string       `yaml:"name"`
	Service  string       `yaml:"service"`
	Services []string     `yaml:"services"`
	Secrets  bool         `yaml:"secrets"`
	Targets  []targetText `yaml:"targets"`
	Reload   reloadText   `yaml:"reload"`
}

type targetText struct {
	Path       string   `yaml:"path"`
	Template   string   `yaml:"template"`
	Format     string   `yaml:"format"`
	Service    string   `yaml:"service"`
	Key        string   `yaml:"key"`
	Prefix     string   `yaml:"prefix"`
	Section    *string  `yaml:"section"`
	Mode       string   `yaml:"mode"`
	AllowEmpty bool     `yaml:"allow_empty"`
	Check      []string `yaml:"check"`
}

type reloadText struct {
	line    int
	Signal  string   `yaml:"signal"`
	PID     int      `yaml:"pid"`
	PIDFile string   `yaml:"pidfile"`
	Command []string `yaml:"command"`
}

// UnmarshalYAML takes "none" too, and no other member than its own.
func (r *reloadText) UnmarshalYAML(n *yaml.Node) error {
	r.line = n.Line
	if n.Kind == yaml.ScalarNode {
		if n.Value == "none" || n.Tag == "!!null" {
			return nil
		}
		return fmt.Errorf("line %d: reload %q is not known", n.Line, n.Value)
	}
	known := []string{"signal", "pid", "pidfile", "command"}
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if !slices.Contains(known, n.Content[i].Value) {
			return fmt.Errorf("line %d: field %s not found in type render.reloadText", n.Content[i].Line, n.Content[i].Value)
		}
	}
	type plain reloadText
	return n.Decode((*plain)(r))
}

// fields are the members of each part of render.yaml, for hints.
var fields = map[string]string{
	"fileText":   "groups",
	"groupText":  "name, service or services, secrets, targets, reload",
	"targetText": "path, template or format, service, key, prefix, section, mode, allow_empty, check",
	"reloadText": "signal with pid or pidfile; or command",
}

const fileHint = "docs/doors.md has an example of each part"

// Load reads render.yaml and its templates. trusted says whose files may be believed, as
// for trust.ReadFile.
func Load(path string, trusted func(uid uint32) bool) (*File, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, conf.Errorf(conf.CodeUsage, "%s: %w", path, err)
	}
	data, err := readTrusted(path, trusted, "say which file with -f, or CONFIG_RENDER")
	if err != nil {
		return nil, err
	}
	var text fileText
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(&text); err != nil {
		return nil, badYAML(path, err)
	}
	f := &File{Path: path, read: []string{path}}
	if len(text.Groups) == 0 {
		return nil, conf.Errorf(conf.CodeUsage, "%s has no groups", path).WithHint("add one: %s", fileHint)
	}
	names, targets := map[string]bool{}, map[string]string{}
	for i := range text.Groups {
		g, err := f.group(&text.Groups[i], trusted)
		if err != nil {
			at := strconv.Itoa(i + 1)
			if text.Groups[i].Name != "" {
				at = text.Groups[i].Name
			}
			e := conf.Errorf(conf.CodeOf(err), "%s, group %s: %w", path, at, err)
			return nil, e.WithHint("%s", or(conf.HintOf(err), fileHint))
		}
		if names[g.Name] {
			return nil, conf.Errorf(conf.CodeUsage, "%s has two groups with the name %s", path, g.Name).WithHint("give each its own: it is the label of its metrics")
		}
		names[g.Name] = true
		for _, t := range g.targets {
			if other, taken := targets[t.path]; taken {
				return nil, conf.Errorf(conf.CodeUsage, "%s: %s is a target of %s and of %s", path, t.path, other, g.Name).WithHint("give a file to one target only")
			}
			targets[t.path] = g.Name
		}
		f.Groups = append(f.Groups, g)
	}
	return f, nil
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// readTrusted reads render.yaml or a template.
func readTrusted(path string, trusted func(uid uint32) bool, missing string) ([]byte, error) {
	data, err := trust.ReadFile(path, maxFile, trusted)
	switch {
	case err == nil:
		return data, nil
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		return nil, conf.Errorf(conf.CodeUsage, "there is no file %s", path).WithHint("%s", missing)
	case errors.Is(err, fs.ErrPermission):
		return nil, conf.Errorf(conf.CodeDenied, "cannot read %s", path).WithHint("let the user that renders read it")
	case conf.CodeOf(err) == conf.CodeInternal:
		return nil, conf.Errorf(conf.CodeUsage, "cannot read %s: %w", path, err)
	default:
		return nil, err
	}
}

var unknownField = regexp.MustCompile(`line (\d+): field (.+) not found in type render\.(\w+)`)

// badYAML says what is wrong with render.yaml, and what could stand there.
func badYAML(path string, err error) error {
	if m := unknownField.FindStringSubmatch(err.Error()); m != nil {
		return conf.Errorf(conf.CodeUsage, "%s: line %s: there is no %q here", path, m[1], m[2]).WithHint("there are: %s", fields[m[3]])
	}
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	text = strings.TrimPrefix(text, "unmarshal errors:\n  ")
	if text == "EOF" {
		text = "it is empty"
	}
	return conf.Errorf(conf.CodeUsage, "%s: %s", path, strings.ReplaceAll(text, "\n  ", "; ")).WithHint(fileHint)
}

var groupName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// group checks one group.
func (f *File) group(text *groupText, trusted func(uid uint32) bool) (*Group, error) {
	g := &Group{Name: text.Name, Secrets: text.Secrets, single: text.Service != ""}
	switch {
	case text.Name == "":
		return nil, usage("it has no name").WithHint("add name: NAME; logs and metrics show it")
	case !groupName.MatchString(text.Name):
		return nil, usage("%q is no name of a group", text.Name).WithHint("use letters, digits, _ . and -")
	case (text.Service != "") == (len(text.Services) > 0):
		return nil, usage("it needs service or services").WithHint("service: NAME for one, services: [NAME, NAME] for several")
	case len(text.Targets) == 0:
		return nil, usage("it has no targets").WithHint("add targets: with a path and a format or a template")
	}
	g.Services = text.Services
	if g.single {
		g.Services = []string{text.Service}
	}
	for i, s := range g.Services {
		if err := conf.CheckService(s); err != nil {
			return nil, err
		}
		if slices.Contains(g.Services[:i], s) {
			return nil, usage("%s is named twice", s).WithHint("name each service once")
		}
	}
	for i := range text.Targets {
		t, err := f.target(g, &text.Targets[i], trusted)
		if err != nil {
			return nil, err
		}
		g.targets = append(g.targets, t)
	}
	var err error
	g.reload, err = newReload(&text.Reload, filepath.Dir(f.Path))
	return g, err
}

func usage(format string, args ...any) *conf.Error {
	return conf.Errorf(conf.CodeUsage, format, args...)
}

// target checks one target.
func (f *File) target(g *Group, text *targetText, trusted func(uid uint32) bool) (*target, error) {
	if text.Path == "" {
		return nil, usage("a target has no path").WithHint("add path: FILE")
	}
	dir := filepath.Dir(f.Path)
	t := &target{
		path: within(dir, text.Path), dir: dir, format: text.Format, service: text.Service, key: text.Key, prefix: text.Prefix,
		allowEmpty: text.AllowEmpty, check: text.Check,
	}
	err := t.modeFrom(text.Mode, g.Secrets)
	switch {
	case err != nil:
	case (text.Template != "") == (text.Format != ""):
		err = usage("it needs a format or a template").WithHint("format: one of %s; or template: FILE", strings.Join(Formats(), ", "))
	case text.Template != "":
		err = f.template(t, within(dir, text.Template), trusted)
		if err == nil && (text.Service != "" || text.Key != "" || text.Prefix != "" || text.Section != nil) {
			err = usage("service, key, prefix and section are of a format").WithHint("choose in the template what it shows")
		}
	default:
		err = t.formatFrom(g, text)
	}
	if err == nil {
		err = checkArgs(t.check)
	}
	if err != nil {
		e := conf.Errorf(conf.CodeOf(err), "%s: %w", t.path, err)
		return nil, e.WithHint("%s", or(conf.HintOf(err), fileHint))
	}
	return t, nil
}

func within(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

func (f *File) template(t *target, path string, trusted func(uid uint32) bool) error {
	data, err := readTrusted(path, trusted, "a path is absolute, or begins where "+filepath.Base(f.Path)+" is")
	if err != nil {
		return err
	}
	f.read = append(f.read, path)
	// The functions are those of an empty reading: Execute has them of its own.
	t.template, err = template.New(filepath.Base(path)).Option("missingkey=error").Funcs(functions(nil)).Parse(string(data))
	if err != nil {
		return usage("%w", err).WithHint("the functions are those of the table in docs/doors.md, and those of text/template")
	}
	return nil
}

func (t *target) formatFrom(g *Group, text *targetText) error {
	if _, known := formats[text.Format]; !known {
		return usage("format %q is not known", text.Format).WithHint("one of %s; or a template", strings.Join(Formats(), ", "))
	}
	switch {
	case t.service == "" && len(g.Services) == 1:
		t.service = g.Services[0]
	case t.service == "":
		return usage("a format shows one service").WithHint("add service: NAME, one of %s; or use a template", strings.Join(g.Services, ", "))
	case !slices.Contains(g.Services, t.service):
		return usage("%s is not among the services of the group", t.service).WithHint("add it to services")
	}
	if text.Prefix != "" && text.Format != "env" && text.Format != "properties" {
		return usage("prefix is of env and properties").WithHint("remove it")
	}
	if text.Section != nil && text.Format != "ini" {
		return usage("section is of ini").WithHint("remove it")
	}
	t.section = t.service
	if text.Section != nil {
		t.section = *text.Section
	}
	return nil
}

// modeFrom reads the mode. Others may never read secrets.
func (t *target) modeFrom(text string, secrets bool) error {
	t.secret = secrets
	if text == "" {
		return nil
	}
	m, err := strconv.ParseUint(text, 8, 32)
	switch {
	case err != nil || m == 0 || m > 0o777:
		return usage("mode %q is not one", text).WithHint(`write it as "0640"`)
	case secrets && m&0o007 != 0:
		return usage("mode %q lets everybody at a file with secrets", text).WithHint(`use "0600" or "0640"`)
	case m&0o002 != 0:
		return usage("mode %q lets everybody write", text).WithHint(`use "0644"`)
	}
	t.mode, t.modeSet = fs.FileMode(m), true
	return nil
}

var pathArgument = regexp.MustCompile(`\{\{\s*\.path\s*\}\}`)

// checkArgs rejects arguments of a check with anything else than {{.path}} in braces.
func checkArgs(args []string) error {
	for i, a := range args {
		if strings.Contains(pathArgument.ReplaceAllString(a, ""), "{{") || i == 0 && (a == "" || strings.Contains(a, "{{")) {
			return usage("check: %q is not known", a).WithHint(`{{.path}} stands for the new file, in an argument: [nginx, -t, -c, "{{.path}}"]`)
		}
	}
	return nil
}
