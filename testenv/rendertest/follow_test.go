package rendertest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

const followYAML = `
groups:
  - name: both
    services: [stt-worker, router]
    targets:
      - {path: both.txt, template: both.tmpl}
      - {path: stt.env, format: env, service: stt-worker}
    reload: {signal: USR1, pidfile: pid}
`

const bothTemplate = `{{key "stt-worker/whisper_model"}} {{.router.router_stream_max_chars}}` + "\n"

// render starts holdfast render in a directory, beside an agent.
func render(t *testing.T, a *testenv.Agent, dir string, args ...string) *testenv.Process {
	t.Helper()
	return testenv.Spawn(t, dir, a.Env(), testenv.Binary(t, "./cmd/holdfast"), append([]string{"render"}, args...)...)
}

// shows awaits the content of a file.
func shows(t *testing.T, path, want string) {
	t.Helper()
	testenv.Await(t, filepath.Base(path)+" to say "+strconv.Quote(want), func() bool { return strings.Contains(read(path), want) })
}

// TestFollow: two services in one template, one signal for two targets, other files of
// another render.yaml, and an agent that goes and comes.
func TestFollow(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "sh")
	a := testenv.StartProcess(t)
	dir := t.TempDir()
	write(t, dir, map[string]string{"render.yaml": followYAML, "both.tmpl": bothTemplate})
	program := testenv.Spawn(t, dir, nil, "sh", "-c", `n=0; trap 'n=$((n+1)); echo told $n' USR1; echo $$ >pid; echo up; while :; do sleep 0.05; done`)
	testenv.Await(t, "the program to be up", func() bool { return program.Transcript().Has("up") })
	p := render(t, a, dir)
	both := filepath.Join(dir, "both.txt")
	shows(t, both, "base.en 200\n")
	testenv.Await(t, "the program to be told", func() bool { return program.Transcript().Has("told 1") })
	a.Patch("router", `{"router_stream_max_chars":77}`)
	shows(t, both, "base.en 77\n")
	testenv.Await(t, "the program to be told again", func() bool { return program.Transcript().Has("told 2") })
	a.Patch("stt-worker", `{"sample_rate":8000}`) // in one of the two targets only
	shows(t, filepath.Join(dir, "stt.env"), "SAMPLE_RATE=8000\n")
	testenv.Await(t, "the program to be told a third time", func() bool { return program.Transcript().Has("told 3") })

	// The template, and then render.yaml, become others; a bad one leaves things as they are.
	write(t, dir, map[string]string{"both.tmpl": "new " + bothTemplate})
	shows(t, both, "new base.en 77\n")
	write(t, dir, map[string]string{"render.yaml": followYAML + "nonsense: 1\n"})
	testenv.Await(t, "the bad file to be named", func() bool { return p.Transcript().Has(`there is no \"nonsense\" here`) })
	a.Patch("router", `{"router_stream_max_chars":78}`)
	shows(t, both, "new base.en 78\n")
	write(t, dir, map[string]string{"render.yaml": strings.ReplaceAll(followYAML, "both.txt", "other.txt")})
	shows(t, filepath.Join(dir, "other.txt"), "new base.en 78\n")

	// While the agent is away the files stay, and what changes then comes afterwards.
	a.Kill()
	testenv.Await(t, "the renderer to go on", func() bool { return p.Running() && read(filepath.Join(dir, "other.txt")) != "" })
	a.Start()
	a.AwaitNormal()
	a.Patch("router", `{"router_stream_max_chars":79}`)
	shows(t, filepath.Join(dir, "other.txt"), "new base.en 79\n")
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(t, "the renderer to end"); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.Output())
	}
}

// TestOlderFile: the last-known-good file of an agent is behind the files. They stay, until
// it has something newer.
func TestOlderFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{"render.yaml": "groups: [{name: g, service: router, targets: [{path: out, format: json, key: router_stream_max_chars}]}]"})
	out := filepath.Join(dir, "out")
	a := testenv.StartProcess(t, "CONFIG_RENDER="+filepath.Join(dir, "render.yaml"))
	a.Patch("router", `{"router_stream_max_chars":1}`)
	shows(t, out, "1\n")
	older := map[string]string{} // the journal first, as docs/files.md has it
	for _, path := range []string{a.Path("config.lkg.journal"), a.LKG()} {
		older[path] = read(path)
	}
	a.Patch("router", `{"router_stream_max_chars":2}`)
	shows(t, out, "2\n")
	a.Kill()
	a.WreckReplica()
	for path, content := range older {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a.Start()
	testenv.Await(t, "the agent to find itself behind", func() bool { return strings.Contains(a.Log(), "render: the agent is behind the files") })
	if read(out) != "2\n" {
		t.Errorf("out is %q", read(out))
	}
}

// TestFaultHarmsNobody: an agent with a bad render.yaml serves as without one, and says what
// is wrong until it is right.
func TestFaultHarmsNobody(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "render.yaml")
	a := testenv.StartProcess(t, "CONFIG_RENDER="+path)
	refused := func(why string) {
		t.Helper()
		a.AwaitHealth("the health to name the file", func(h conf.Health) bool {
			return h.OK && h.Err != nil && strings.Contains(*h.Err, "CONFIG_RENDER")
		})
		testenv.Await(t, "the log to say "+why, func() bool { return strings.Contains(a.Log(), why) })
	}
	refused("there is no file " + path)
	if got := metric(a, "holdfast_render_file_ok"); got != "0" {
		t.Errorf("holdfast_render_file_ok %q", got)
	}
	a.Patch("router", `{"router_stream_max_chars":1}`)
	write(t, dir, map[string]string{"render.yaml": "groups: [{name: g, service: router, targets: [{path: out, format: json}]}]"})
	shows(t, filepath.Join(dir, "out"), `"router_stream_max_chars": 1`)
	a.AwaitHealth("the all-clear", func(h conf.Health) bool { return h.OK && h.Err == nil })
	if got := metric(a, "holdfast_render_file_ok"); got != "1" {
		t.Errorf("holdfast_render_file_ok %q", got)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	refused("other users control it")
	a.Patch("router", `{"router_stream_max_chars":2}`) // what was read before counts
	shows(t, filepath.Join(dir, "out"), `"router_stream_max_chars": 2`)
}

// TestCannotStart: an agent that cannot start renders from its last-known-good file.
func TestCannotStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{"render.yaml": "groups: [{name: g, service: router, targets: [{path: out, format: json}]}]"})
	out := filepath.Join(dir, "out")
	a := testenv.StartProcess(t, "CONFIG_RENDER="+filepath.Join(dir, "render.yaml"))
	a.Patch("router", `{"router_stream_max_chars":5}`)
	shows(t, out, ": 5,")
	a.Kill()
	for _, name := range []string{"out", ".out.holdfast"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	certificates, err := filepath.Glob(a.Path("tls", "*"))
	if err != nil || len(certificates) == 0 {
		t.Fatal(certificates, err)
	}
	for _, path := range certificates {
		if err := os.WriteFile(path, []byte("junk"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a.Start()
	shows(t, out, ": 5,")
	testenv.Await(t, "it to say that it cannot start", func() bool {
		return strings.Contains(a.Log(), "the agent cannot start: serving the last known good values")
	})
}

// TestSecretsInFiles: the agent writes secrets into files that others cannot read, and its
// log has none, nor what a check has printed about them.
func TestSecretsInFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	schemas := filepath.Join(dir, "schemas")
	if err := os.Mkdir(schemas, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, schemas, map[string]string{"vault.json": `{"type":"object","properties":{"user":{"type":"string","default":"u"},
		"password":{"type":"string","x-secret":true,"x-secret-source":"env","x-env":"VAULT_PASSWORD"}}}`})
	write(t, dir, map[string]string{
		"render.yaml": `
groups:
  - {name: open, service: vault, targets: [{path: open.json, format: json}]}
  - {name: closed, service: vault, secrets: true, targets: [{path: closed.json, format: json}]}
  - {name: refused, service: vault, secrets: true, targets: [{path: refused.json, format: json, check: [sh, -c, 'cat "$0" >&2; exit 1', "{{.path}}"]}]}
  - {name: fails, service: vault, secrets: true, targets: [{path: fails, template: fails.tmpl}]}
`, "fails.tmpl": "{{parseInt .password}}", "closed.json": "{}",
	})
	if err := os.Chmod(filepath.Join(dir, "closed.json"), 0o644); err != nil {
		t.Fatal(err)
	}
	const secret = "s3cr3t-of-the-vault"
	a := testenv.StartProcess(t, "CONFIG_RENDER="+filepath.Join(dir, "render.yaml"), "CONFIG_SCHEMA_DIR="+schemas, "VAULT_PASSWORD="+secret)
	shows(t, filepath.Join(dir, "closed.json"), secret)
	shows(t, filepath.Join(dir, "open.json"), `"user": "u"`)
	for _, group := range []string{"refused", "fails"} {
		testenv.Await(t, group+" to fail", func() bool { return metric(a, `holdfast_render_failing{group="`+group+`"}`) == "1" })
	}
	info, err := os.Stat(filepath.Join(dir, "closed.json"))
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	h, _ := a.Health()
	health := ""
	if h.Err != nil {
		health = *h.Err
	}
	testenv.Await(t, "the log to say what it keeps to itself", func() bool {
		return strings.Contains(a.Log(), "what it printed is not shown") && strings.Contains(a.Log(), "the reason is not shown")
	})
	if strings.Contains(read(filepath.Join(dir, "open.json"))+a.Log()+health+read(filepath.Join(dir, ".closed.json.holdfast")), secret) {
		t.Errorf("the secret is in an open file, the log or the health:\n%s", a.Log())
	}
	if !strings.Contains(health, "group fails") {
		t.Errorf("health %q", health)
	}
}

// TestObserver: an observer renders too, also after it has lost its directory.
func TestObserver(t *testing.T) {
	t.Parallel()
	broker := "127.0.0.1:" + strconv.Itoa(testenv.FreePorts(t, 1)[0])
	member := testenv.StartProcess(t, "CONFIG_MQTT_ADDR="+broker)
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"render.yaml": "groups: [{name: g, service: router, targets: [{path: out, format: json, key: router_stream_max_chars}]}]",
		"keys.json":   string(member.Local("/v1/keys").OK(t).Body),
	})
	for n := range 5 {
		member.Patch("router", `{"router_stream_max_chars":`+strconv.Itoa(n+1)+`}`)
	}
	o := testenv.NewAgent(t, "CONFIG_ROLE=observer", "CONFIG_TRUST="+filepath.Join(dir, "keys.json"), "CONFIG_SERVICE_NAME=router", "CONFIG_OBSERVE_URL=mqtt://"+broker,
		"CONFIG_SCHEMA_DIR=", "CONFIG_RENDER="+filepath.Join(dir, "render.yaml"))
	o.Start()
	shows(t, filepath.Join(dir, "out"), "5\n")
	o.Kill()
	if err := os.RemoveAll(o.Dir); err != nil {
		t.Fatal(err)
	}
	o.Start()
	member.Patch("router", `{"router_stream_max_chars":6}`)
	shows(t, filepath.Join(dir, "out"), "6\n")
}
