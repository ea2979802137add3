package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestLoad counts at both ends, with bodies of several sizes and with none.
func TestLoad(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "x", strings.Repeat("y", 1200), strings.Repeat("z", 200_000)} {
		var served atomic.Int64
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			served.Add(1)
			if r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			w.Header().Set("Content-Length", itoa(len(body)))
			_, _ = w.Write([]byte(body))
		}))
		defer srv.Close()
		addr := srv.Listener.Addr().(*net.TCPAddr).String()
		for _, etag := range []string{"", `"1"`} {
			var got turn
			d := 25 * time.Millisecond
			for got.perSecond == 0 && d < time.Minute { // a machine that stalls may do nothing for some time
				served.Store(0)
				d *= 2
				var err error
				if got, err = load(context.Background(), get("test", addr, "/", etag), 4, d); err != nil {
					t.Fatal(err)
				}
			}
			// The warm-up of each connection is served too, and not counted.
			counted := float64(served.Load() - 4)
			if max := counted / d.Seconds(); got.perSecond > max || got.perSecond <= 0 || got.p50 <= 0 || got.p99 < got.p50 {
				t.Errorf("%d bytes, etag %s: %+v of %v served", len(body), etag, got, counted)
			}
		}
		if _, err := load(context.Background(), target{name: "test", addr: addr, request: []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), status: "304"}, 1, time.Millisecond); err == nil {
			t.Error("an answer with the wrong status is taken")
		}
	}
}

func itoa(n int) string {
	b, _ := json.Marshal(n)
	return string(b)
}

func TestBare(t *testing.T) {
	t.Parallel()
	a := answer{
		ETag: `W/"7-aa"`, Body: []byte(`{"a":1}`),
		Header:    http.Header{"Etag": {`W/"7-aa"`}, "Content-Length": {"7"}, "X-Config-Version": {"7"}},
		Header304: http.Header{"Etag": {`W/"7-aa"`}},
	}
	spec := filepath.Join(t.TempDir(), "spec.json")
	data, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(spec, data, 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := bareHandler(spec)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != 200 || w.Body.String() != `{"a":1}` || w.Header().Get("X-Config-Version") != "7" {
		t.Error(w.Code, w.Body, w.Header())
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("If-None-Match", a.ETag)
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 304 || w.Body.Len() != 0 {
		t.Error(w.Code, w.Body)
	}
}
