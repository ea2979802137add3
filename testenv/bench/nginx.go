package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// nginxServer is an nginx that serves one document as a file.
type nginxServer struct {
	*child
	addr string
	etag string // its own: it makes one of the time and the size
}

func nginxPath() string {
	for _, p := range []string{"nginx", "/usr/sbin/nginx"} {
		if path, err := exec.LookPath(p); err == nil {
			return path
		}
	}
	return ""
}

// nginx serves the body of ans at path, with the headers of the agent's besides its own. It
// is set as its manual advises for speed: a worker for each processor, descriptors kept
// open, no log. nil without nginx.
func (b *bench) nginx(ans answer, path string) (*nginxServer, error) {
	bin := nginxPath()
	if bin == "" {
		fmt.Fprintln(os.Stderr, "nginx is NOT installed (make test-tools): reads are not compared with it")
		return nil, nil //nolint:nilnil // said
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(b.dir, "nginx-"+ports[0])
	file := filepath.Join(dir, "root", path)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, ans.Body, 0o644); err != nil {
		return nil, err
	}
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) { // its workers are another user's when it starts as root
		_ = os.Chmod(d, 0o755)
	}
	var headers strings.Builder
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range ans.Header {
			if !yield(name) {
				return
			}
		}
	}) {
		switch name {
		case "Content-Length", "Content-Type", "Date", "Etag":
		default:
			fmt.Fprintf(&headers, "      add_header %s %q;\n", name, ans.Header.Get(name))
		}
	}
	conf := fmt.Sprintf(`daemon off;
worker_processes %[4]d;
pid %[1]s/pid;
error_log stderr error;
events { worker_connections 4096; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_requests 1000000000;
  open_file_cache max=100 inactive=1h;
  open_file_cache_valid 1h;
  default_type application/json;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
  server {
    listen 127.0.0.1:%[2]s;
    root %[1]s/root;
    location / {
%[3]s    }
  }
}
`, dir, ports[0], headers.String(), max(1, runtime.NumCPU()-1))
	file = filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	c, err := b.spawnOn(servers(), "nginx.log", nil, bin, "-c", file, "-p", dir)
	if err != nil {
		return nil, err
	}
	n := &nginxServer{child: c, addr: "127.0.0.1:" + ports[0]}
	return n, b.await("nginx", 10*time.Second, func() bool {
		r, err := request("GET", "http://"+n.addr+path, "")
		n.etag = r.Header.Get("Etag")
		return err == nil && r.Status == http.StatusOK && string(r.Body) == string(ans.Body)
	})
}

// pids are its master and its workers.
func (n *nginxServer) pids() []int {
	pids := []int{n.pid()}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", n.pid(), n.pid()))
	if err != nil {
		return pids
	}
	for f := range strings.FieldsSeq(string(text)) {
		var pid int
		if _, err := fmt.Sscan(f, &pid); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
