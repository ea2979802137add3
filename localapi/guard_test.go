package localapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/httperror"
	"github.com/holdfast-config/holdfast/testenv/base"
)

// raw sends bytes and returns the answer that comes back.
func raw(t *testing.T, addr, request string) (int, string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // done with it
	if err := c.SetDeadline(time.Now().Add(base.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestForeignHostsOverRawTCP(t *testing.T) {
	s := newServer(t, newMemory(record("stt-worker", 7, sttConfig)), func(o *Options) { o.AllowedHosts = []string{"agent.internal"} })
	addr := listen(t, s)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	const path = "GET /v1/config/stt-worker HTTP/1.1\r\n"
	for host, want := range map[string]int{
		addr: 200, "localhost": 200, "LocalHost:" + port: 200, "127.0.0.1": 200, "127.9.8.7:80": 200, "[::1]": 200, "[::1]:" + port: 200,
		"[::ffff:127.0.0.1]": 200, "agent.internal": 200, "AGENT.internal:99": 200,
		"evil.example": 403, "evil.example:" + port: 403, "localhost.evil.example": 403, "127.0.0.1.evil.example": 403, "10.0.0.1": 403,
		"0.0.0.0": 403, "[::]": 403, "[fe80::1]": 403, "agent.internal.evil": 403, "": 403, "localhost:evil": 403, "127.1": 403, "2130706433": 403,
		"::1": 403,
	} {
		status, body := raw(t, addr, path+"Host: "+host+"\r\n\r\n")
		if status != want {
			t.Errorf("Host %q: %d, want %d: %s", host, status, want, body)
		}
		if status == 403 && (!strings.Contains(body, `"code":"denied"`) || strings.Contains(body, "whisper")) {
			t.Errorf("Host %q: %s", host, body)
		}
	}
	for name, request := range map[string]string{
		"absolute form": "GET http://evil.example/v1/config/stt-worker HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"no Host, 1.0":  "GET /v1/config/stt-worker HTTP/1.0\r\n\r\n",
		"health":        "GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n",
		"unknown path":  "GET /nowhere HTTP/1.1\r\nHost: evil.example\r\n\r\n",
	} {
		if status, body := raw(t, addr, request); status != 403 {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	for _, probe := range []string{"GET /healthz HTTP/1.0\r\n\r\n", "GET /readyz HTTP/1.0\r\n\r\n"} { // of old load balancers
		if status, body := raw(t, addr, probe); status == 403 {
			t.Errorf("%q: %d %s", probe, status, body)
		}
	}
	if status, _ := raw(t, addr, path+"Host: localhost\r\nHost: evil.example\r\n\r\n"); status != 400 {
		t.Errorf("two Host headers: %d", status)
	}
}

func TestTheAddressThatItListensOnIsItsName(t *testing.T) {
	s := newServer(t, newMemory(record("stt-worker", 7, sttConfig)))
	for host, want := range map[string]int{"192.0.2.7:2770": 200, "192.0.2.8:2770": 403} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/config/stt-worker", nil)
		r.Host = host
		local := &net.TCPAddr{IP: net.ParseIP("192.0.2.7"), Port: 2770}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local)))
		wantStatus(t, w, want)
	}
}

func TestProxiesOverRawTCP(t *testing.T) {
	s := newServer(t, newMemory(record("stt-worker", 7, sttConfig)))
	addr := listen(t, s)
	headers := []string{"X-Forwarded-For: 10.0.0.1", "x-forwarded-for: 127.0.0.1", "X-Forwarded-Host: localhost", "Forwarded: for=127.0.0.1", "X-Forwarded-For:", "X-Forwarded-Proto: https", "X-Forwarded-Anything: 1", "X-Real-IP: 10.0.0.1", "Via: 1.1 x"}
	for _, name := range []string{
		"True-Client-IP", "true-client-ip", "CF-Connecting-IP", "CF-Connecting-IPv6", "CF-Ray", "CF-Visitor", "CF-Worker", "CDN-Loop", "X-Client-IP", "Client-IP", "X-Cluster-Client-IP",
		"X-Envoy-External-Address", "X-Envoy-Original-Path", "Fastly-Client-IP", "Fastly-FF", "Fly-Client-IP", "Fly-Forwarded-Port", "X-Forwarded", "Forwarded-For", "X-Original-Forwarded-For",
		"X-Original-URL", "X-Original-Host", "X-Original-URI", "X-Rewrite-URL", "X-Remote-IP", "X-Remote-Addr", "X-ProxyUser-IP", "X-Azure-ClientIP", "X-Azure-SocketIP", "X-Appengine-User-IP",
		"X-Vercel-Forwarded-For", "X-NF-Client-Connection-IP", "Akamai-Origin-Hop", "X-Akamai-Edgescape", "X-Amz-Cf-Id", "X-ARR-ClientCert", "Do-Connecting-IP", "Ali-Cdn-Real-IP", "WL-Proxy-Client-IP", "Proxy-Client-IP",
		"X-Via", "X-Varnish", "X-Coming-From", "Max-Forwards", "X-Originating-IP", "X-Http-Forwarded-For", "X_Forwarded_For",
	} {
		headers = append(headers, name+": 127.0.0.1")
	}
	for _, h := range headers {
		for _, path := range []string{"/v1/config/stt-worker", "/healthz", "/v1/config/stt-worker/vad"} {
			status, body := raw(t, addr, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n"+h+"\r\n\r\n")
			if status != 403 || !strings.Contains(body, "proxy") {
				t.Errorf("%s with %s: %d %s", path, h, status, body)
			}
		}
	}
	if n := s.metrics.rejected[rejectedProxy].Load(); n != uint64(3*len(headers)) {
		t.Errorf("counted %d", n)
	}
	for _, h := range []string{"X-Request-Id: 1", "Traceparent: 00-1-1-01", "X-Holdfast: 1", "X-Amzn-Trace-Id: Root=1", "Viable: 1", "Flying: 1", "X-Clients: 3"} {
		if status, body := raw(t, addr, "GET /v1/config/stt-worker HTTP/1.1\r\nHost: localhost\r\n"+h+"\r\n\r\n"); status != 200 {
			t.Errorf("with %s: %d %s", h, status, body)
		}
	}
}

func TestBodiesAreRefusedWithoutReadingThem(t *testing.T) {
	s := newServer(t, newMemory(record("stt-worker", 7, sttConfig)))
	addr := listen(t, s)
	// The bodies never come: an answer proves that nobody waited for them.
	for _, h := range []string{"Content-Length: 1000000", "Content-Length: 5", "Transfer-Encoding: chunked", "Content-Length: 5\r\nExpect: 100-continue"} {
		status, body := raw(t, addr, "GET /v1/config/stt-worker HTTP/1.1\r\nHost: localhost\r\n"+h+"\r\n\r\n")
		if status != 400 || !strings.Contains(body, `"code":"malformed"`) {
			t.Errorf("%s: %d %s", h, status, body)
		}
	}
}

func TestHugeHeadersAreRefused(t *testing.T) {
	addr := listen(t, newServer(t, newMemory(record("stt-worker", 7, sttConfig))))
	status, _ := raw(t, addr, "GET /v1/config/stt-worker HTTP/1.1\r\nHost: localhost\r\nX-A: "+strings.Repeat("a", maxHeaderBytes+4096)+"\r\n\r\n")
	if status != 431 {
		t.Errorf("status %d", status)
	}
}

func TestToken(t *testing.T) {
	m := newMemory()
	m.render.Secrets = func(string, *conf.Record) map[string]any { return map[string]any{"api_key": "s3cret"} }
	m.set(record("stt-worker", 7, `{"vad":0.5}`))
	s := newServer(t, m, withToken)
	const right = "X-Holdfast-Token: right-token"
	for _, c := range []struct {
		path   string
		secret bool // what a proven caller gets holds a secret
	}{
		{"/v1/config/stt-worker", true},
		{"/v1/config", true},
		{"/v1/env/stt-worker", true},
		{"/v1/env/stt-worker?format=docker&prefix=A_", true},
		{"/v1/config/stt-worker/vad", false},
	} {
		plain := get(t, s, c.path)
		wantStatus(t, plain, 200)
		if strings.Contains(plain.Body.String(), "s3cret") || plain.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("%s without a token: %v %s", c.path, plain.Header(), plain.Body)
		}
		proven := get(t, s, c.path, right)
		wantStatus(t, proven, 200)
		cache := map[bool]string{true: "no-store", false: "no-cache"}[c.secret]
		if strings.Contains(proven.Body.String(), "s3cret") != c.secret || proven.Header().Get("Cache-Control") != cache {
			t.Errorf("%s with the token: %v %s", c.path, proven.Header(), proven.Body)
		}
		for _, wrong := range []string{"X-Holdfast-Token: wrong", "X-Holdfast-Token: ", "X-Holdfast-Token: right-token2", "X-Holdfast-Token: right-toke"} {
			w := get(t, s, c.path, wrong)
			wantFailure(t, w, 401, conf.CodeUnauthenticated)
			if strings.Contains(w.Body.String(), "right") {
				t.Errorf("the answer tells the token: %s", w.Body)
			}
		}
		wantFailure(t, get(t, s, c.path, right, "X-Holdfast-Token: wrong"), 401, conf.CodeUnauthenticated)
	}
	wantFailure(t, get(t, s, "/v1/config/stt-worker/api_key"), 401, conf.CodeUnauthenticated)
	wantFailure(t, get(t, s, "/v1/watch/stt-worker?key=api_key"), 401, conf.CodeUnauthenticated)
	wantFailure(t, get(t, s, "/v1/watch/stt-worker", "X-Holdfast-Token: wrong"), 401, conf.CodeUnauthenticated)
	w := get(t, s, "/v1/config/stt-worker/api_key?raw", right)
	if w.Code != 200 || w.Body.String() != "s3cret" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if n := s.metrics.rejected[rejectedToken].Load(); n != 26 {
		t.Errorf("counted %d wrong tokens", n)
	}
	for name, src := range map[string]func() string{"none": nil, "empty": func() string { return "" }} {
		s := newServer(t, m, func(o *Options) { o.Token = src })
		if w := get(t, s, "/v1/config/stt-worker", "X-Holdfast-Token: "); w.Code != 401 {
			t.Errorf("%s: an empty token opened it: %d %s", name, w.Code, w.Body)
		}
	}
}

func TestUnixSocketKnowsItsPeer(t *testing.T) {
	m := newMemory()
	m.render.Secrets = func(string, *conf.Record) map[string]any { return map[string]any{"api_key": "s3cret"} }
	m.set(record("stt-worker", 7, `{"vad":0.5}`))
	uid := uint32(os.Getuid())
	for _, c := range []struct {
		name    string
		uids    map[uint32]bool // nil: as New makes them
		headers []string
		status  int
		secret  bool
	}{
		{name: "own uid", status: 200, secret: true},
		{name: "another uid", uids: map[uint32]bool{uid + 1: true}, status: 200},
		{name: "listed uid", uids: map[uint32]bool{uid: true}, status: 200, secret: true},
		{name: "another uid with the token", uids: map[uint32]bool{}, headers: []string{"X-Holdfast-Token: right-token"}, status: 200, secret: true},
		{name: "own uid with a wrong token", headers: []string{"X-Holdfast-Token: wrong"}, status: 401},
		{name: "any Host", headers: []string{"X-A: b"}, status: 200, secret: true},
		{name: "through a proxy", headers: []string{"X-Forwarded-For: 10.0.0.1"}, status: 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t, m, withToken)
			if c.uids != nil {
				s.guard.uids = c.uids
			}
			path := filepath.Join(t.TempDir(), "sock")
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			serve(t, s, l)
			cl := client(t, "unix", path)
			for range 2 { // the second on the same connection
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://any.name.example/v1/config/stt-worker", nil)
				if err != nil {
					t.Fatal(err)
				}
				setHeaders(r, c.headers)
				res, err := cl.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(res.Body)
				if err != nil || res.Body.Close() != nil {
					t.Fatal(err)
				}
				if res.StatusCode != c.status || strings.Contains(string(body), "s3cret") != c.secret {
					t.Fatalf("%d %s", res.StatusCode, body)
				}
			}
		})
	}
	s := newServer(t, m, func(o *Options) { o.AllowedUIDs = []uint32{12345} })
	if !s.guard.uids[uid] || !s.guard.uids[0] || !s.guard.uids[12345] || s.guard.uids[12346] {
		t.Errorf("uids %v", s.guard.uids)
	}
}

func TestTooManyConnections(t *testing.T) {
	s := newServer(t, newMemory(record("stt-worker", 7, sttConfig)), func(o *Options) { o.MaxConnections = 2 })
	addr := listen(t, s)
	var held []net.Conn
	for range 2 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() //nolint:errcheck // closed again below
		// A stream is a request in progress: one without any would make room.
		if _, err := io.WriteString(c, "GET /v1/watch/stt-worker HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	await(t, "two connections are open", func() bool { return s.connections() == 2 })
	const request = "GET /v1/config/stt-worker HTTP/1.1\r\nHost: localhost\r\n\r\n"
	status, body := raw(t, addr, request)
	var f httperror.Body
	if err := conf.DecodeStrict([]byte(body), 1<<20, &f); err != nil || status != 429 || f.Code != conf.CodeRateLimited {
		t.Fatalf("%d %s %v", status, body, err)
	}
	if err := held[0].Close(); err != nil {
		t.Fatal(err)
	}
	await(t, "the closed connection is counted out", func() bool { return s.connections() == 1 })
	if status, body := raw(t, addr, request); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	if n := s.metrics.rejected[rejectedConnection].Load(); n != 1 {
		t.Errorf("counted %d", n)
	}
}

func TestTheLogIsNotFilledByRefusals(t *testing.T) {
	var log strings.Builder
	s := newServer(t, newMemory(), withToken, logTo(&log))
	began := time.Now()
	for range 1000 {
		get(t, s, "/v1/config/stt-worker", "X-Holdfast-Token: not-the-token")
	}
	lines := strings.Count(log.String(), "\n")
	if limit := int(time.Since(began)/time.Second) + 2; lines < 1 || lines > limit {
		t.Fatalf("%d lines, at most %d wanted: %s", lines, limit, fmt.Sprintf("%.300s", log.String()))
	}
	if strings.Contains(log.String(), "not-the-token") {
		t.Fatal("the log has the token")
	}
}
