package rendertest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

const nginxYAML = `
groups:
  - name: nginx
    services: [stt-worker, router]
    targets:
      - path: conf/nginx.conf
        template: nginx.conf.tmpl
        check: [nginx, -t, -q, -p, DIR, -c, "{{.path}}"]
      - path: conf/part.conf
        template: part.conf.tmpl
    reload: {signal: HUP, pidfile: nginx.pid}
`

const nginxTemplate = `
{{- $stt := index . "stt-worker" -}}
# Written by Holdfast.
worker_processes 1;
pid DIR/nginx.pid;
error_log DIR/error.log;
events { worker_connections 64; }
http {
	access_log off;
	client_body_temp_path DIR/tmp1; proxy_temp_path DIR/tmp2; fastcgi_temp_path DIR/tmp3; uwsgi_temp_path DIR/tmp4; scgi_temp_path DIR/tmp5;
	server {
		listen 127.0.0.1:PORT;
		location / { return 200 "model {{$stt.whisper_model}} max {{key "router/router_stream_max_chars"}}"; }
	}
}
`

// TestNginx: an nginx that knows nothing of Holdfast follows three changes, keeps running
// with what it has when a value breaks its configuration, and starts in a total outage with
// files from the last-known-good file.
func TestNginx(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "nginx")
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "conf"), 0o700); err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(testenv.FreePorts(t, 1)[0])
	write(t, dir, map[string]string{
		"render.yaml": nginxYAML, "nginx.conf.tmpl": strings.ReplaceAll(nginxTemplate, "PORT", port), "part.conf.tmpl": `# {{(index . "stt-worker").whisper_model}}` + "\n",
	})
	a := testenv.StartProcess(t, "CONFIG_RENDER="+filepath.Join(dir, "render.yaml"))
	conf1 := filepath.Join(dir, "conf", "nginx.conf")
	start := func() *testenv.Process {
		return testenv.Spawn(t, dir, nil, "nginx", "-p", dir, "-c", conf1, "-g", "daemon off; master_process on;")
	}
	serves := func(want string) {
		t.Helper()
		testenv.Await(t, "nginx to serve "+want, func() bool { return string(testenv.Do("GET", "http://127.0.0.1:"+port+"/", "").Body) == want })
	}
	testenv.Await(t, "the files to be written", func() bool { return read(conf1) != "" && read(filepath.Join(dir, "conf", "part.conf")) != "" })
	nginx := start()
	serves("model base.en max 200")
	for i, change := range []struct{ service, patch, want string }{
		{"stt-worker", `{"whisper_model":"small.en"}`, "model small.en max 200"},
		{"router", `{"router_stream_max_chars":100}`, "model small.en max 100"},
		{"stt-worker", `{"whisper_model":"tiny.en"}`, "model tiny.en max 100"},
	} {
		version := a.Patch(change.service, change.patch)
		serves(change.want)
		testenv.Await(t, "the metrics of change "+strconv.Itoa(i+1), func() bool {
			return metric(a, fmt.Sprintf(`holdfast_render_version{group="nginx",service=%q}`, change.service)) == strconv.FormatUint(version, 10)
		})
	}
	if n := metric(a, `holdfast_render_reloads_total{group="nginx"}`); n != "3" {
		t.Errorf("%s reloads, want one for each change:\n%s", n, a.Log())
	}

	// A value that nginx refuses.
	before := read(conf1)
	a.Patch("stt-worker", `{"whisper_model":"a\"; no_such_directive b; #"}`)
	failing := func() string { return metric(a, `holdfast_render_failing{group="nginx"}`) }
	testenv.Await(t, "the check to fail", func() bool { return failing() == "1" })
	if read(conf1) != before || strings.Contains(read(filepath.Join(dir, "conf", "part.conf")), "no_such") {
		t.Error("a failed check has not kept the files")
	}
	serves("model tiny.en max 100")
	testenv.Await(t, "the log to say why", func() bool {
		return strings.Contains(a.Log(), "unknown directive") && strings.Contains(a.Log(), "no_such_directive")
	})
	if strings.Contains(a.Log(), ".nginx.conf.tmp-") {
		t.Error("the log names the temporary file")
	}
	a.AwaitHealth("the health to name the group", func(h conf.Health) bool {
		return h.OK && h.Err != nil && strings.Contains(*h.Err, "group nginx") && !strings.Contains(*h.Err, "no_such_directive")
	})
	a.Patch("stt-worker", `{"whisper_model":"medium.en"}`)
	serves("model medium.en max 100")
	testenv.Await(t, "the all-clear", func() bool { return failing() == "0" && strings.Contains(a.Log(), "render: it works again") })
	a.AwaitHealth("the all-clear", func(h conf.Health) bool { return h.OK && h.Err == nil })

	// A total outage: no database, no log, no other member; and the files are gone too.
	a.Kill()
	nginx.Kill()
	a.WreckReplica()
	for _, name := range []string{"nginx.conf", "part.conf", ".nginx.conf.holdfast"} {
		if err := os.Remove(filepath.Join(dir, "conf", name)); err != nil {
			t.Fatal(err)
		}
	}
	_ = os.Remove(filepath.Join(dir, "nginx.pid")) // nginx was killed
	a.Start()
	testenv.Await(t, "the files to be written from the last-known-good file", func() bool { return strings.Contains(read(conf1), "medium.en") })
	start()
	serves("model medium.en max 100")
}
