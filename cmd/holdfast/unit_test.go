package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/agent"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestTypedValues(t *testing.T) {
	null := json.RawMessage("null")
	fs := newFieldSet(conf.SchemaInfo{Service: "s", Fields: []conf.Field{
		{Key: "name", Type: conf.TypeString},
		{Key: "count", Type: conf.TypeInteger, Default: json.RawMessage("3")},
		{Key: "share", Type: conf.TypeFloat},
		{Key: "on", Type: conf.TypeBoolean},
		{Key: "mode", Type: conf.TypeEnum, Allowed: []string{"a", "b"}},
		{Key: "rate", Type: conf.TypeEnum, Allowed: []string{"8000", "16000"}, JSONTypes: []string{"integer"}},
		{Key: "file", Type: conf.TypePath},
		{Key: "url", Type: conf.TypeString, JSONTypes: []string{"string", "null"}, Default: null},
		{Key: "list", Type: conf.TypeString, JSONTypes: []string{"array"}},
		{Key: "limits", Type: conf.TypeString, JSONTypes: []string{"object"}},
		{Key: "either", Type: conf.TypeString, JSONTypes: []string{"integer", "string"}},
		{Key: "nested.deep", Type: conf.TypeInteger},
	}})
	for _, tc := range []struct{ in, want, fails string }{
		{in: "name=12", want: `{"name":"12"}`},
		{in: "name=true", want: `{"name":"true"}`},
		{in: "name=", want: `{"name":""}`},
		{in: "name=a=b", want: `{"name":"a=b"}`},
		{in: "count=12", want: `{"count":12}`},
		{in: "count=many", fails: `"many" is not an integer`},
		{in: "count=1.5", fails: `"1.5" is not an integer`},
		{in: "count=9007199254740993", fails: "is not an integer"},
		{in: "share=1", want: `{"share":1}`},
		{in: "share=0.5", want: `{"share":0.5}`},
		{in: "share=", fails: "is not a number"},
		{in: "on=true", want: `{"on":true}`},
		{in: "on=yes", fails: `"yes" is not true or false`},
		{in: "mode=a", want: `{"mode":"a"}`},
		{in: "rate=8000", want: `{"rate":8000}`},
		{in: "file=/dev/null", want: `{"file":"/dev/null"}`},
		{in: "url=null", want: `{"url":null}`},
		{in: "url=ws://x", want: `{"url":"ws://x"}`},
		{in: `list=["a"]`, want: `{"list":["a"]}`},
		{in: "list=a", fails: `"a" is not an array`},
		{in: `limits={"x":1}`, want: `{"limits":{"x":1}}`},
		{in: "limits.x=1", want: `{"limits":{"x":1}}`},
		{in: "either=5", want: `{"either":5}`},
		{in: "either=five", want: `{"either":"five"}`},
		{in: "nested.deep=5", want: `{"nested":{"deep":5}}`},
		{in: "name:=12", want: `{"name":12}`},
		{in: "name:={", fails: "malformed JSON"},
		{in: `name:={"a":1,"a":2}`, fails: "duplicate key"},
		{in: "url:=null", want: `{"url":null}`},
		{in: "count:=null", fails: "unset"},
		{in: "cuont=3", fails: "did you mean count?"},
		{in: "something_else=3", want: `{"something_else":3}`},
	} {
		list, err := parseAssignments(&cobra.Command{}, []string{tc.in})
		if err != nil {
			t.Errorf("%s: %v", tc.in, err)
			continue
		}
		got, err := fs.patch(list)
		switch {
		case tc.fails == "" && err != nil:
			t.Errorf("%s: %v %v", tc.in, err, err.(*conf.Error).Details)
		case tc.fails == "" && string(got) != tc.want:
			t.Errorf("%s = %s, want %s", tc.in, got, tc.want)
		case tc.fails != "" && err == nil:
			t.Errorf("%s = %s, want an error", tc.in, got)
		case tc.fails != "":
			e := err.(*conf.Error)
			if e.Code != conf.CodeInvalid || len(e.Details) != 1 || !strings.Contains(e.Details[0].Message, tc.fails) {
				t.Errorf("%s: %v %v, want %q", tc.in, e, e.Details, tc.fails)
			}
		}
	}
}

func TestPatchTellsAllErrorsAndMergesKeys(t *testing.T) {
	fs := newFieldSet(conf.SchemaInfo{Fields: []conf.Field{{Key: "a.x", Type: conf.TypeInteger}, {Key: "a.y", Type: conf.TypeInteger}}})
	list, err := parseAssignments(&cobra.Command{}, []string{"a.x=1", "a.y=2"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := fs.patch(list)
	if err != nil || string(got) != `{"a":{"x":1,"y":2}}` {
		t.Errorf("patch = %s, %v", got, err)
	}
	list[0].text, list[1].text = "p", "q"
	_, err = fs.patch(list)
	if e, ok := err.(*conf.Error); !ok || len(e.Details) != 2 {
		t.Errorf("patch = %v, want two details", err)
	}
}

func TestAssignmentsRefused(t *testing.T) {
	for _, args := range [][]string{{"a"}, {"=1"}, {":=1"}, {"a=1", "a=2"}, {"a=1", "a:=2"}} {
		if _, err := parseAssignments(&cobra.Command{}, args); conf.CodeOf(err) != conf.CodeUsage {
			t.Errorf("%q: %v, want a usage error", args, err)
		}
	}
}

func TestDeltas(t *testing.T) {
	before := `{"a":1,"b":{"x":[1,2],"y":{}},"c":"<t>","same":{"k":null}}`
	after := `{"a":2,"b":{"x":[1,3],"z":0},"same":{"k":null},"n":null}`
	ds, err := deltas([]byte(before), []byte(after))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	writeDeltas(&b, ds, false)
	want := "- a = 1\n+ a = 2\n- b.x = [1,2]\n+ b.x = [1,3]\n- b.y = {}\n+ b.z = 0\n- c = \"<t>\"\n+ n = null\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	b.Reset()
	writeDeltas(&b, ds[:1], true)
	if want := red + "- a = 1" + plain + "\n" + green + "+ a = 2" + plain + "\n"; b.String() != want {
		t.Errorf("coloured %q, want %q", b.String(), want)
	}
	line, err := json.Marshal(ds[5:])
	if err != nil || string(line) != `[{"key":"n","new":null}]` {
		t.Errorf("an added null is %s, %v", line, err)
	}
	if ds, err := deltas(nil, []byte(" ")); err != nil || len(ds) != 0 {
		t.Errorf("nothing against nothing: %v, %v", ds, err)
	}
}

// What the user did not touch keeps being a default; what they changed, added or
// removed is in the stored values, or not in them any more.
func TestOverlay(t *testing.T) {
	obj := func(s string) map[string]any {
		m, err := conf.ParseObject([]byte(s), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, tc := range []struct{ name, stored, base, edited, want string }{
		{"untouched", `{"a":1}`, `{"a":1,"b":2}`, `{"a":1,"b":2}`, `{"a":1}`},
		{"changed default", `{"a":1}`, `{"a":1,"b":2}`, `{"a":1,"b":3}`, `{"a":1,"b":3}`},
		{"removed", `{"a":1}`, `{"a":1,"b":2}`, `{"b":2}`, `{}`},
		{"added", `{}`, `{}`, `{"c":null}`, `{"c":null}`},
		{"null over a value", `{"a":1}`, `{"a":1}`, `{"a":null}`, `{"a":null}`},
		{"nested", `{"n":{"x":1}}`, `{"n":{"x":1,"y":2}}`, `{"n":{"x":1,"y":5}}`, `{"n":{"x":1,"y":5}}`},
		{"nested default", `{}`, `{"n":{"x":1,"y":2}}`, `{"n":{"x":1,"y":5}}`, `{"n":{"y":5}}`},
		{"nested removed", `{"n":{"x":1,"y":5}}`, `{"n":{"x":1,"y":5}}`, `{"n":{"x":1}}`, `{"n":{"x":1}}`},
		{"object for a scalar", `{"a":1}`, `{"a":1}`, `{"a":{"b":1}}`, `{"a":{"b":1}}`},
		{"array whole", `{}`, `{"l":[1,2]}`, `{"l":[1]}`, `{"l":[1]}`},
	} {
		got, err := compact(overlay(obj(tc.stored), obj(tc.base), obj(tc.edited)))
		if err != nil || string(got) != tc.want {
			t.Errorf("%s: %s, %v, want %s", tc.name, got, err, tc.want)
		}
	}
}

// A shell is the judge of what the quoting of a .env file means.
func TestParseShellAgreesWithSh(t *testing.T) {
	text := "# a comment\nA=plain\nB='single $x \"quoted\" \\n'\nC=\"double \\\"q\\\" \\$x \\` \\\\ \\z it's\"\nD=back\\ slash\\\\\nE=''\nF='two\nlines'\nG=a\\'b'\n'c\n"
	got, err := parseShell(text)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range got {
		out, err := exec.Command("sh", "-c", text+`printf %s "$`+name+`"`).Output()
		if err != nil {
			t.Fatal(err)
		}
		if string(out) != value {
			t.Errorf("%s = %q, sh says %q", name, value, out)
		}
	}
	if len(got) != 7 {
		t.Errorf("%d variables, want 7: %q", len(got), got)
	}
	for _, bad := range []string{"no line", "A='open\n", "a b=1\n"} {
		if _, err := parseShell(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestParseWhen(t *testing.T) {
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]string{
		"":                     "",
		"2026-01-02T03:04:05Z": "2026-01-02T03:04:05+00:00",
		"90m":                  "2026-03-04T10:30:00+00:00",
		"7d":                   "2026-02-25T12:00:00+00:00",
		"2026-01-02":           conf.FormatTime(time.Date(2026, 1, 2, 0, 0, 0, 0, time.Local)),
	} {
		if got, err := parseWhen(&cobra.Command{}, in, now); err != nil || got != want {
			t.Errorf("%q = %q, %v, want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{"yesterday", "-1h", "-3d", "d"} {
		if got, err := parseWhen(&cobra.Command{}, bad, now); conf.CodeOf(err) != conf.CodeUsage {
			t.Errorf("%q = %q, %v, want a usage error", bad, got, err)
		}
	}
}

func TestPickToken(t *testing.T) {
	const list = "w1:config.write, r:1:config.read,w2:config.write,bad,:config.read"
	for _, tc := range []struct {
		list string
		need conf.Role
		want string
	}{
		{list, conf.RoleRead, "r:1"},
		{list, conf.RoleWrite, "w1"},
		{"w:config.write", conf.RoleRead, "w"},
		{"r:config.read", conf.RoleWrite, ""},
		{"", conf.RoleRead, ""},
	} {
		if got := pickToken(tc.list, tc.need); got != tc.want {
			t.Errorf("pickToken(%q, %s) = %q, want %q", tc.list, tc.need, got, tc.want)
		}
	}
}

func TestNearest(t *testing.T) {
	keys := []string{"vad_threshold", "whisper_model", "channels"}
	for in, want := range map[string]string{"vad_treshold": "vad_threshold", "chanels": "channels", "volume": "", "x": ""} {
		if got := nearest(in, keys); got != want {
			t.Errorf("nearest(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestClean(t *testing.T) {
	if got := clean("a\x1b[2Jb\x07c\u009bd\te"); strings.ContainsAny(got, "\x1b\x07\u009b") || !strings.Contains(got, "\t") {
		t.Errorf("clean = %q", got)
	}
}

// Each setting is a flag of agent and of dev, its usage names the variable, and
// what the flag says reaches Options.
func TestEverySettingIsAFlag(t *testing.T) {
	var o agent.Options
	for _, s := range agent.Settings(&o) {
		a := &app{lookupEnv: func(string) (string, bool) { return "", false }}
		for _, cmd := range []*cobra.Command{newAgent(a), newDev(a)} {
			f := cmd.Flags().Lookup(s.Flag)
			if f == nil {
				t.Errorf("%s has no --%s", cmd.Name(), s.Flag)
				continue
			}
			if !strings.Contains(f.Usage, s.Env) {
				t.Errorf("--%s does not name %s", s.Flag, s.Env)
			}
		}
	}
	opts := agent.Defaults()
	cmd := &cobra.Command{}
	flags := addSettings(cmd, &opts)
	if err := cmd.ParseFlags([]string{"--allow-auto-rebuild", "--manager-port", "9", "--data-dir", t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"CONFIG_MANAGER_PORT": "8", "CONFIG_LOG_FORMAT": "json"}
	lookup := func(n string) (string, bool) { v, ok := env[n]; return v, ok }
	if err := opts.Resolve(flags.given(cmd), lookup); err != nil {
		t.Fatal(err)
	}
	if got := []string{opts.ManagerPort, opts.LogFormat}; !cmp.Equal(got, []string{"9", "json"}) || !opts.AllowAutoRebuild {
		t.Errorf("flags and environment gave %v, rebuild %v", got, opts.AllowAutoRebuild)
	}
}

// Another user's .env file must not keep a reader from finding the agent.
func TestUnreadableEnvFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".env"), []byte("CONFIG_API_TOKENS=t:config.read\n"), 0); err != nil {
		t.Fatal(err)
	}
	a := &app{dataDir: dir, lookupEnv: func(string) (string, bool) { return "", false }}
	if _, err := a.options(); err != nil {
		t.Fatal(err)
	}
	token, err := a.apiToken(conf.RoleRead)
	if os.Getuid() == 0 { // who may read every file
		if err != nil || token != "t" {
			t.Errorf("root got %q, %v", token, err)
		}
		return
	}
	if conf.CodeOf(err) != conf.CodeUnauthenticated || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("%v, want to hear of the file", err)
	}
}
