package testenv

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// versitygw is a real S3 server over a directory. It is built apart from this
// module, which would need all that it needs.
const versitygw = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// S3 is an S3 service of the test: a real server, and a front that can fail.
type S3 struct {
	Endpoint  string // of the front; what the agents are told
	Direct    string // of the server itself
	Bucket    string
	AccessKey string
	SecretKey string
	Dir       string // the server's files; the bucket is a directory in it

	below string // what every path begins with, at a server that others use too
	t     testing.TB
	front *httptest.Server
	mu    sync.Mutex
	fault fault
	heal  chan struct{} // closed when the faults change
	seen  int           // requests that came
	hit   int           // requests that a fault met
}

type fault struct {
	down   bool          // connections are reset
	hold   bool          // requests wait, as on a network that swallows everything
	writes bool          // of those that hold, only what writes
	status int           // answered instead
	share  float64       // of the requests that the status, or a cut, meets
	cut    bool          // the connection ends in the middle
	slow   time.Duration // each request comes later
}

// litestream is the program whose library the leader uses.
const litestream = "github.com/benbjohnson/litestream/cmd/litestream@v0.5.18"

// installing is held while a program of another module is built. It is not the lock
// of Binary: the agents of tests beside do not wait for the minute that this takes.
var installing sync.Mutex

// installed builds a program of another module once on a machine and returns its path.
func installed(t testing.TB, program string) string {
	t.Helper()
	name, _, _ := strings.Cut(filepath.Base(program), "@")
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "holdfast-test", filepath.Base(program))
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	installing.Lock()
	defer installing.Unlock()
	if _, err := os.Stat(path); err == nil {
		return path
	}
	tmp, err := os.MkdirTemp("", name+"-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	cmd := exec.Command("go", "install", program)
	cmd.Dir = tmp // not in a module: its versions are its own
	cmd.Env = append(os.Environ(), "GOBIN="+tmp, "GOFLAGS=", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		Missing(t, "%s cannot be built: %v\n%s", program, err, out)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// Another test process may do the same: the rename is whole or not at all.
	data, err := os.ReadFile(filepath.Join(tmp, name))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.CreateTemp(dir, "new-*")
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Chmod(f.Name(), 0o755) //nolint:gosec // a program
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// NewS3 starts a server with an empty bucket, and its front.
func NewS3(t testing.TB) *S3 {
	t.Helper()
	s := &S3{t: t, heal: make(chan struct{})}
	if e := os.Getenv("LITESTREAM_S3_ENDPOINT"); strings.HasPrefix(e, "http") {
		// Another server, such as MinIO, that the person who runs the tests has.
		s.Direct, s.Bucket = strings.TrimSuffix(e, "/"), os.Getenv("LITESTREAM_S3_BUCKET")
		s.AccessKey, s.SecretKey = os.Getenv("LITESTREAM_ACCESS_KEY_ID"), os.Getenv("LITESTREAM_SECRET_ACCESS_KEY")
		s.below = fmt.Sprintf("holdfast-test-%d/", time.Now().UnixNano())
	} else {
		s.startServer()
	}
	target, err := url.Parse(s.Direct)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host }, // the host is signed
		ErrorLog: nil, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	s.front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(proxy, w, r) }))
	t.Cleanup(func() {
		s.Heal()
		s.front.CloseClientConnections()
		s.front.Close()
	})
	s.Endpoint = s.front.URL
	return s
}

func (s *S3) startServer() {
	t := s.t
	bin := installed(t, versitygw)
	s.Bucket, s.AccessKey, s.SecretKey, s.Dir = "backups", "AKIDTEST", "test-secret-key-of-s3", t.TempDir()
	if err := os.Mkdir(filepath.Join(s.Dir, s.Bucket), 0o755); err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", FreePorts(t, 1)[0])
	meta := t.TempDir() // not in extended attributes, which a tmpfs may lack
	p := Spawn(t, s.Dir, []string{"ROOT_ACCESS_KEY=" + s.AccessKey, "ROOT_SECRET_KEY=" + s.SecretKey},
		bin, "--quiet", "--port", addr, "posix", "--sidecar", meta, s.Dir)
	s.Direct = "http://" + addr
	if !poll(Patience, func() bool {
		res, err := http.Get(s.Direct + "/" + s.Bucket)
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return true
	}) {
		t.Fatalf("the S3 server does not answer:\n%s", p.out)
	}
}

func (s *S3) serve(proxy http.Handler, w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	f, heal := s.fault, s.heal
	f.hold = f.hold && (!f.writes || r.Method != http.MethodGet && r.Method != http.MethodHead)
	s.seen++
	met := f.down || f.hold || f.slow > 0 || ((f.cut || f.status > 0) && rand.Float64() < f.share)
	if met {
		s.hit++
	}
	s.mu.Unlock()
	switch {
	case f.hold:
		select {
		case <-heal:
		case <-r.Context().Done():
			return
		}
	case f.slow > 0:
		select {
		case <-time.After(f.slow):
		case <-heal:
		case <-r.Context().Done():
			return
		}
	case f.down:
		abort(w)
		return
	case met && f.status > 0:
		w.WriteHeader(f.status)
		return
	case met && f.cut:
		// Some of the body arrives, and no answer comes back.
		_, _ = io.CopyN(io.Discard, r.Body, 1000)
		abort(w)
		return
	}
	proxy.ServeHTTP(w, r)
}

func abort(w http.ResponseWriter) {
	if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = c.Close()
	}
}

func (s *S3) set(f fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
	close(s.heal)
	s.heal = make(chan struct{})
}

// Down resets every connection until Heal.
func (s *S3) Down() { s.set(fault{down: true}) }

// Hold lets every request wait until Heal.
func (s *S3) Hold() { s.set(fault{hold: true}) }

// HoldWrites lets every request that would change something wait until Heal.
func (s *S3) HoldWrites() { s.set(fault{hold: true, writes: true}) }

// Slow makes every request wait for d.
func (s *S3) Slow(d time.Duration) { s.set(fault{slow: d}) }

// Refuse answers that share of the requests with a status, such as 503.
func (s *S3) Refuse(status int, share float64) { s.set(fault{status: status, share: share}) }

// Cut ends that share of the requests in the middle.
func (s *S3) Cut(share float64) { s.set(fault{cut: true, share: share}) }

// Heal takes the fault away.
func (s *S3) Heal() { s.set(fault{}) }

// Met tells how many requests came since the start, and how many a fault met.
func (s *S3) Met() (requests, faults int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen, s.hit
}

// Env are the settings for an agent that backs up to path.
func (s *S3) Env(path string) []string {
	return []string{
		"LITESTREAM_S3_ENDPOINT=" + s.Endpoint, "LITESTREAM_S3_BUCKET=" + s.Bucket, "LITESTREAM_S3_PATH=" + s.below + path,
		"LITESTREAM_ACCESS_KEY_ID=" + s.AccessKey, "LITESTREAM_SECRET_ACCESS_KEY=" + s.SecretKey,
	}
}

// Wipe takes everything out of the bucket, each object and its neighbours at once:
// to delete them one by one would race with who writes the next.
func (s *S3) Wipe() {
	s.t.Helper()
	if s.Dir == "" {
		Missing(s.t, "the bucket of another server is not emptied")
	}
	dir := filepath.Join(s.Dir, s.Bucket)
	ents, err := os.ReadDir(dir)
	if err != nil {
		s.t.Fatal(err)
	}
	wiped, err := os.MkdirTemp(filepath.Dir(s.Dir), "wiped")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range ents {
		if err := os.Rename(filepath.Join(dir, e.Name()), filepath.Join(wiped, e.Name())); err != nil && !os.IsNotExist(err) {
			s.t.Fatal(err)
		}
	}
}

// Below is what every path in the bucket begins with: "", or a name with a slash.
func (s *S3) Below() string { return s.below }
