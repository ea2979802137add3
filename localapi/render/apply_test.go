package render

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/trust"
	"github.com/holdfast-config/holdfast/testenv/base"
)

// counted is a render.yaml with two targets whose reload counts.
const counted = `
groups:
  - name: g
    service: svc
    targets:
      - {path: a.json, format: json}
      - {path: b.conf, template: t, check: [sh, -c, 'grep -q good "$1"; code=$?; echo "looked at $1" >&2; exit $code', sh, "{{ .path }}"]}
    reload: {command: [sh, -c, 'echo told >> "$0"', DIR/told]}
`

// bench is a directory with a render.yaml of one group.
type bench struct {
	t   *testing.T
	dir string
	g   *Group
}

func newBench(t *testing.T, yaml string, files ...string) *bench {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{"render.yaml": strings.ReplaceAll(yaml, "DIR", dir), "t": "{{.x}} {{.y}}\n"}
	for i := 0; i+1 < len(files); i += 2 {
		all[files[i]] = files[i+1]
	}
	f, err := load(t, dir, all)
	if err != nil {
		t.Fatal(err, conf.HintOf(err))
	}
	return &bench{t, dir, f.Groups[0]}
}

func (b *bench) apply(version uint64, config string) (Outcome, error) {
	return b.g.Apply(context.Background(), []Document{document("svc", "e", version, config)}, false)
}

func (b *bench) applied(version uint64, config string) Outcome {
	b.t.Helper()
	out, err := b.apply(version, config)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// file returns the content of a file, "" when there is none.
func (b *bench) file(name string) string {
	data, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.t.Fatal(err)
	}
	return string(data)
}

func (b *bench) told() int { return strings.Count(b.file("told"), "told") }

// inodes returns what identifies the files: a rename makes another.
func (b *bench) inodes(names ...string) (out []uint64) {
	b.t.Helper()
	for _, name := range names {
		info, err := os.Stat(filepath.Join(b.dir, name))
		if err != nil {
			b.t.Fatal(err)
		}
		out = append(out, info.Sys().(*syscall.Stat_t).Ino)
	}
	return out
}

// TestApply: two targets change together and are told about once, equal bytes are left
// alone, and what fails its check keeps both files.
func TestApply(t *testing.T) {
	t.Parallel()
	b := newBench(t, counted)
	b.applied(1, `{"x":"good","y":1}`)
	if b.file("a.json") != "{\n  \"x\": \"good\",\n  \"y\": 1\n}\n" || b.file("b.conf") != "good 1\n" || b.told() != 1 {
		t.Fatalf("%q %q, told %d times", b.file("a.json"), b.file("b.conf"), b.told())
	}
	was := b.inodes("a.json", "b.conf")
	for version := range uint64(3) { // the same again, and under another version
		if out := b.applied(version+1, `{"x":"good","y":1}`); out.Reloaded || out.Targets[0].Written {
			t.Error("equal bytes are written, or told about")
		}
	}
	if is := b.inodes("a.json", "b.conf"); fmt.Sprint(is) != fmt.Sprint(was) || b.told() != 1 {
		t.Errorf("equal bytes: %v is %v, told %d times", was, is, b.told())
	}
	out, err := b.apply(4, `{"x":"bad","y":2}`)
	step, ok := errors.AsType[*StepError](err)
	if !ok || step.Step != StepCheck || !strings.Contains(err.Error(), "looked at "+b.dir+"/b.conf") || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("%v", err)
	}
	if is := b.inodes("a.json", "b.conf"); fmt.Sprint(is) != fmt.Sprint(was) || b.told() != 1 || out.Targets[0].Written {
		t.Error("a failed check has not kept the files")
	}
	b.applied(5, `{"x":"good","y":3}`)
	if b.file("b.conf") != "good 3\n" || b.told() != 2 {
		t.Errorf("%q, told %d times", b.file("b.conf"), b.told())
	}
	entries, err := os.ReadDir(b.dir)
	if err != nil || len(entries) != 7 { // the two, t, render.yaml, told, the state and its lock
		t.Errorf("left: %v, %v", entries, err)
	}
	// A dry run does all of it but the last.
	out, err = b.g.Apply(t.Context(), []Document{document("svc", "e", 6, `{"x":"good","y":4}`)}, true)
	if err != nil || !out.Targets[1].Changed || out.Targets[1].Written || b.file("b.conf") != "good 3\n" || b.told() != 2 {
		t.Errorf("a dry run: %+v, %v", out, err)
	}
	if _, err := b.g.Apply(t.Context(), []Document{document("svc", "e", 6, `{"x":"bad","y":4}`)}, true); err == nil {
		t.Error("a dry run does not check")
	}
}

// TestNeverOlder: what is older than the files leaves them, after a restart too; a reload
// that a kill has left over is done all the same.
func TestNeverOlder(t *testing.T) {
	t.Parallel()
	b := newBench(t, counted)
	b.applied(7, `{"x":"good","y":7}`)
	if out := b.applied(6, `{"x":"good","y":6}`); out.Held != "svc" || b.file("b.conf") != "good 7\n" {
		t.Errorf("%+v: %q", out, b.file("b.conf"))
	}
	st, err := b.g.readState()
	if err != nil {
		t.Fatal(err)
	}
	st.ReloadDue = true // killed between the rename and the reload
	if err := b.g.writeState(st); err != nil {
		t.Fatal(err)
	}
	if out := b.applied(6, `{"x":"good","y":6}`); out.Held != "svc" || !out.Reloaded || b.told() != 2 {
		t.Errorf("%+v, told %d times", out, b.told())
	}
	if out := b.applied(6, `{"x":"good","y":6}`); out.Reloaded {
		t.Errorf("%+v", out)
	}
	st.ReloadDue = true
	if err := b.g.writeState(st); err != nil {
		t.Fatal(err)
	}
	if out := b.applied(7, `{"x":"good","y":7}`); !out.Reloaded || out.Targets[0].Written || b.told() != 3 {
		t.Errorf("%+v, told %d times", out, b.told())
	}
	// A reload that fails is due until it works.
	b = newBench(t, `groups: [{name: g, service: svc, targets: [{path: a, format: json}], reload: {command: [sh, -c, 'rm "$0"', DIR/flag]}}]`)
	if _, err := b.apply(1, `{}`); err == nil || !strings.HasPrefix(err.Error(), StepReload) || b.file("a") == "" {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "flag"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := b.applied(1, `{}`); !out.Reloaded || out.Targets[0].Written {
		t.Errorf("%+v", out)
	}
}

// TestKeptModes: owner and mode are kept, a new file has 0640, secrets are never for others.
func TestKeptModes(t *testing.T) {
	t.Parallel()
	mode := func(b *bench, name string) string {
		info, err := os.Stat(filepath.Join(b.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		return fmt.Sprintf("%04o %d:%d", info.Mode().Perm(), st.Uid, st.Gid)
	}
	me := fmt.Sprintf("%d:%d", os.Geteuid(), os.Getegid())
	yaml := `groups: [{name: g, service: svc, secrets: SECRETS, targets: [{path: new, format: json}, {path: old, format: json}, {path: given, format: json, mode: "0600"}]}]`
	for secrets, want := range map[string][3]string{"false": {"0640", "0604", "0600"}, "true": {"0640", "0600", "0600"}} {
		b := newBench(t, strings.ReplaceAll(yaml, "SECRETS", secrets), "old", "x", "given", "x")
		owner := me
		for name, m := range map[string]fs.FileMode{"old": 0o604, "given": 0o644} {
			if err := os.Chmod(filepath.Join(b.dir, name), m); err != nil {
				t.Fatal(err)
			}
		}
		if os.Geteuid() == 0 {
			owner = "1234:5678"
			if err := os.Chown(filepath.Join(b.dir, "old"), 1234, 5678); err != nil {
				t.Fatal(err)
			}
		}
		b.applied(1, `{}`)
		if got := [3]string{mode(b, "new"), mode(b, "old"), mode(b, "given")}; got != [3]string{want[0] + " " + me, want[1] + " " + owner, want[2] + " " + me} {
			t.Errorf("secrets %s: %v", secrets, got)
		}
		// Somebody lets others at it: it is corrected, although the bytes are the same.
		if err := os.Chmod(filepath.Join(b.dir, "new"), 0o644); err != nil {
			t.Fatal(err)
		}
		if b.applied(1, `{}`); (mode(b, "new") == "0640 "+me) != (secrets == "true") {
			t.Errorf("secrets %s: %s", secrets, mode(b, "new"))
		}
	}
}

// TestRefusals: each with its hint, and nothing is written.
func TestRefusals(t *testing.T) {
	t.Parallel()
	group := func(s string) string { return "groups: [{name: g, service: svc, " + s + "}]" }
	target := func(s string) string { return group("targets: [{path: out, " + s + "}]") }
	for yaml, want := range map[string]string{
		"":                                      "it is empty",
		"groups: []":                            "has no groups",
		"grups: []":                             `there is no "grups" here`,
		"groups: [{name: g, sercive: x}]":       `line 1: there is no "sercive" here`,
		"groups: [{service: svc}]":              "it has no name",
		"groups: [{name: 'a b', service: svc}]": "is no name of a group",
		"groups: [{name: g, targets: [{path: x}]}]":                                      "it needs service or services",
		group("services: [a]"):                                                           "it needs service or services",
		"groups: [{name: g, service: Svc!, targets: [{path: x, format: json}]}]":         "Svc!",
		group("targets: []"):                                                             "it has no targets",
		target("format: xml"):                                                            `format "xml" is not known`,
		target("fromat: xml"):                                                            `there is no "fromat" here`,
		target("format: json, template: t"):                                              "it needs a format or a template",
		target("mode: '0640'"):                                                           "it needs a format or a template",
		target("template: none"):                                                         "there is no file",
		target("template: broken"):                                                       "function \"env\" not defined",
		target("template: t, key: x"):                                                    "are of a format",
		target("format: json, prefix: x"):                                                "prefix is of env and properties",
		target("format: json, section: x"):                                               "section is of ini",
		target("format: json, service: other"):                                           "other is not among the services",
		target("format: json, mode: '8'"):                                                `mode "8" is not one`,
		target("format: json, mode: '0666'"):                                             "lets everybody write",
		group("secrets: true, targets: [{path: x, format: json, mode: '0644'}]"):         "lets everybody at a file with secrets",
		target("format: json, check: ['{{.path}}']"):                                     "is not known",
		target("format: json, check: [a, '{{.paht}}']"):                                  "is not known",
		group("targets: [{path: x, format: json}], reload: maybe"):                       `reload "maybe" is not known`,
		group("targets: [{path: x, format: json}], reload: {singal: HUP}"):               `there is no "singal" here`,
		group("targets: [{path: x, format: json}], reload: {signal: HUP}"):               "needs one of pid and pidfile",
		group("targets: [{path: x, format: json}], reload: {signal: HOP, pid: 1}"):       `there is no signal "HOP"`,
		group("targets: [{path: x, format: json}], reload: {signal: HUP, pid: -1}"):      "is no process",
		group("targets: [{path: x, format: json}], reload: {command: [a], signal: HUP}"): "a command and a signal",
		group("targets: [{path: x, format: json}, {path: ./x, format: yaml}]"):           "is a target of g and of g",
		"groups: [{name: g, services: [a, b], targets: [{path: x, format: json}]}]":      "a format shows one service",
		"groups: [{name: g, service: a, targets: [{path: x, format: json}]}, {name: g, service: a, targets: [{path: y, format: json}]}]": "two groups with the name g",
	} {
		_, err := load(t, t.TempDir(), map[string]string{"render.yaml": yaml, "t": "x", "broken": `{{env "X"}}`})
		if err == nil || !strings.Contains(err.Error(), want) || conf.HintOf(err) == "" {
			t.Errorf("%s\n  %v (%s), want %s", yaml, err, conf.HintOf(err), want)
		}
	}
	for name, c := range map[string]struct{ yaml, config, want string }{
		"an empty result":           {target("template: t"), `{"x":"","y":""}`, "the result is empty"},
		"a missing key":             {target("template: t"), `{"x":""}`, `no entry for key "y"`},
		"a missing part":            {target("format: json, key: z"), `{}`, "svc has no key z"},
		"a directory":               {group("targets: [{path: ., format: json}]"), `{}`, "is not a regular file"},
		"no directory":              {group("targets: [{path: no/out, format: json}]"), `{}`, "there is no directory"},
		"a check that is not there": {target("format: json, check: [no-such-command]"), `{}`, "executable file not found"},
	} {
		b := newBench(t, c.yaml)
		if _, err := b.apply(1, c.config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if b.file("out") != "" {
			t.Errorf("%s is written", name)
		}
	}
	b := newBench(t, target("template: t, allow_empty: true"))
	b.applied(1, `{"x":"","y":""}`)
	b = newBench(t, target("format: json"), "real", "x")
	if err := os.Symlink("real", filepath.Join(b.dir, "out")); err != nil {
		t.Fatal(err)
	}
	if err := b.g.Place(); err == nil || !strings.Contains(err.Error(), "symbolic link") || !strings.Contains(conf.HintOf(err), "leads to") {
		t.Errorf("a link: %v", err)
	}
}

// TestMountPoint: a file that is mounted cannot be replaced, and the way out is said.
func TestMountPoint(t *testing.T) {
	t.Parallel()
	b := newBench(t, `groups: [{name: g, service: svc, targets: [{path: "out file", format: json}]}]`, "out file", "old", "source", "mounted")
	path := filepath.Join(b.dir, "out file")
	if err := syscall.Mount(filepath.Join(b.dir, "source"), path, "", syscall.MS_BIND, ""); err != nil {
		base.Missing(t, "a bind mount, which needs root: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(path, syscall.MNT_DETACH) })
	if err := b.g.Place(); err == nil || !strings.Contains(err.Error(), "mount point") || !strings.Contains(conf.HintOf(err), "mount the directory "+b.dir+" instead") {
		t.Errorf("%v (%s)", err, conf.HintOf(err))
	}
	if _, err := b.apply(1, `{}`); err == nil || b.file("out file") != "mounted" {
		t.Errorf("%v", err)
	}
	// It is found by the rename too.
	o := &output{target: b.g.targets[0], data: []byte("new")}
	if err := o.write(); err != nil {
		t.Fatal(err)
	}
	defer o.discard()
	if err := o.rename(); err == nil || !strings.Contains(err.Error(), "mount point") {
		t.Errorf("%v", err)
	}
}

// TestUntrusted: what others can write is not read, be it render.yaml, a template, or the
// directory of one.
func TestUntrusted(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	prepare := func(name string) string {
		dir := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Join(dir, "templates"), 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"render.yaml": "groups: [{name: g, service: svc, targets: [{path: out, template: templates/t}]}]", "templates/t": "x"} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	read := func(dir string) error { _, err := Load(filepath.Join(dir, "render.yaml"), trust.Self); return err }
	if err := read(prepare("good")); err != nil {
		t.Fatal(err)
	}
	for file, mode := range map[string]fs.FileMode{"render.yaml": 0o664, "templates/t": 0o646, "templates": 0o775, ".": 0o757} {
		dir := prepare("mode" + strings.ReplaceAll(file, "/", "-"))
		if err := os.Chmod(filepath.Join(dir, file), mode); err != nil {
			t.Fatal(err)
		}
		if err := read(dir); !errors.Is(err, trust.ErrUntrusted) || !strings.Contains(conf.HintOf(err), "chmod go-w") {
			t.Errorf("%s with mode %o: %v (%s)", file, mode, err, conf.HintOf(err))
		}
	}
	above := prepare("above/below")
	if err := os.Chmod(filepath.Dir(above), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := read(above); !errors.Is(err, trust.ErrUntrusted) {
		t.Errorf("a directory above: %v", err)
	}
	if err := os.Chmod(filepath.Dir(above), 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if err := read(above); err != nil {
		t.Errorf("a directory like /tmp above: %v", err)
	}
	sticky := prepare("sticky")
	if err := os.Chmod(sticky, 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if err := read(sticky); !errors.Is(err, trust.ErrUntrusted) {
		t.Errorf("a directory like /tmp: %v", err)
	}
	if os.Geteuid() != 0 {
		return
	}
	for _, file := range []string{"render.yaml", "templates/t", "templates", "."} {
		dir := prepare("owner" + strings.ReplaceAll(file, "/", "-"))
		if err := os.Chown(filepath.Join(dir, file), 1234, 0); err != nil {
			t.Fatal(err)
		}
		if err := read(dir); !errors.Is(err, trust.ErrUntrusted) || !strings.Contains(err.Error(), "1234") {
			t.Errorf("%s of another user: %v", file, err)
		}
	}
	link := prepare("link")
	if err := os.Symlink(filepath.Join(link, "render.yaml"), filepath.Join(root, "l.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(filepath.Join(root, "l.yaml"), 1234, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(filepath.Join(root, "l.yaml"), trust.Self); !errors.Is(err, trust.ErrUntrusted) {
		t.Errorf("a link of another user: %v", err)
	}
}

// TestPIDFile: who may write a pidfile chooses who gets the signal.
func TestPIDFile(t *testing.T) {
	t.Parallel()
	b := newBench(t, `groups: [{name: g, service: svc, targets: [{path: out, format: json}], reload: {signal: SIGURG, pidfile: pid}}]`)
	if out := b.applied(1, `{"x":1}`); !out.Nobody {
		t.Errorf("without a pidfile: %+v", out)
	}
	write := func(text string, mode fs.FileMode) {
		path := filepath.Join(b.dir, "pid")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range []struct {
		text string
		mode fs.FileMode
		want string
	}{
		{fmt.Sprint(os.Getppid()) + "\n", 0o666, "other users control it"},
		{"-1", 0o600, "no number of a process"},
		{"0", 0o600, "no number of a process"},
		{"x", 0o600, "no number of a process"},
		{fmt.Sprint(os.Getpid()), 0o600, "names this process"},
	} {
		write(c.text, c.mode)
		if _, err := b.apply(uint64(i)+2, fmt.Sprintf(`{"x":%d}`, i+2)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v", c.text, err)
		}
	}
	write("2147483646\n", 0o644)
	if out := b.applied(9, `{"x":9}`); !out.Nobody {
		t.Errorf("without the process: %+v", out)
	}
}

// TestCommands: a check that does not end is killed with all that it started, and commands
// have no keys in their environment.
func TestCommands(t *testing.T) {
	t.Setenv("CONFIG_MASTER_KEY", "s3cr3t")
	dir := t.TempDir()
	script := `echo $$ > "$0/pids"; sleep 300 & echo $! >> "$0/pids"; env > "$0/env"; wait`
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		c := command{argv: []string{"sh", "-c", script, dir}, timeout: time.Hour, check: true}
		ended <- c.run(ctx)
	}()
	var pids []string
	base.Await(t, "the command to be there", func() bool {
		data, _ := os.ReadFile(filepath.Join(dir, "pids"))
		env, _ := os.ReadFile(filepath.Join(dir, "env"))
		pids = strings.Fields(string(data))
		return len(pids) == 2 && len(env) > 0
	})
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for _, pid := range pids {
		base.Await(t, "what the command has started to end", func() bool { return !alive(pid) })
	}
	late := command{argv: []string{"sleep", "300"}, timeout: 50 * time.Millisecond, check: true}
	if err := late.run(t.Context()); err == nil || !strings.Contains(err.Error(), "it has not ended in 50ms") {
		t.Error(err)
	}
	if env, err := os.ReadFile(filepath.Join(dir, "env")); err != nil || strings.Contains(string(env), "s3cr3t") || !strings.Contains(string(env), "PATH=") {
		t.Errorf("%s, %v", env, err)
	}
	// What a command of a group with secrets prints is not shown.
	c := command{argv: []string{"sh", "-c", "echo hunter2; echo hunter2 >&2; exit 1"}, timeout: time.Minute, hidden: true}
	if err := c.run(t.Context()); err == nil || strings.Contains(err.Error()+conf.HintOf(err), "hunter2") {
		t.Error(err)
	}
	c.hidden = false
	if err := c.run(t.Context()); err == nil || !strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
}

// alive reports whether a process runs: one that has ended and was not waited for does not.
func alive(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}
