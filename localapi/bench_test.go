package localapi

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// still is a Source that does not change; its Get costs what a view's does.
type still struct {
	docs  map[string]*Document
	state *State
	ch    chan struct{}
}

func (s *still) Get(service string) (*Document, <-chan struct{}, bool) {
	d, ok := s.docs[service]
	return d, s.ch, ok
}
func (s *still) Missing(string) <-chan struct{} { return s.ch }
func (s *still) Names() []string                { return nil }
func (s *still) State() *State                  { return s.state }

// discard is a ResponseWriter that is used again and again.
type discard struct {
	h      http.Header
	status int
	bytes  int
}

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { d.bytes += len(b); return len(b), nil }

func (d *discard) reset() {
	clear(d.h)
	d.status, d.bytes = 0, 0
}

// typical is a document of about 1.2 KB.
func typical() string {
	var b strings.Builder
	for i := range 24 {
		fmt.Fprintf(&b, `,"setting_%02d":"value of setting %d"`, i, i)
	}
	return "{" + b.String()[1:] + "}"
}

func benchServer(t testing.TB) (*Server, *Document) {
	doc := (&Renderer{}).Render(record("stt-worker", 7, typical()))
	src := &still{docs: map[string]*Document{"stt-worker": doc}, state: NewState(testEpoch, "replica", 1, 0)}
	return newServer(t, src), doc
}

// bare is what net/http costs at least: the same headers and bytes.
func bare(doc *Document, st *State, modified bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h["X-Config-Source"] = st.source
		h["X-Config-Age"] = st.age
		h["Etag"] = doc.plain.etag
		h["X-Config-Version"] = doc.versionHeader
		h["X-Config-Epoch"] = doc.epochHeader
		h["X-Content-Type-Options"] = noSniff
		h["Cache-Control"] = cacheRevalidate
		if !modified {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h["Content-Type"] = doc.plain.contentType
		h["Content-Length"] = doc.plain.length
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(doc.plain.body)
	}
}

func benchRequest(doc *Document, modified bool) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/v1/config/stt-worker", nil) //nolint:noctx // as net/http makes it
	r.Host = "127.0.0.1:2770"
	r.Header.Set("User-Agent", "bench")
	if !modified {
		r.Header.Set("If-None-Match", doc.plain.etag[0])
	}
	return r
}

func TestNoAllocationMoreThanBare(t *testing.T) {
	s, doc := benchServer(t)
	for name, modified := range map[string]bool{"document": true, "304": false} {
		r := benchRequest(doc, modified)
		w := &discard{h: http.Header{}}
		plain := bare(doc, s.source.State(), modified)
		base := testing.AllocsPerRun(1000, func() { w.reset(); plain(w, r) })
		status, bytes, headers := w.status, w.bytes, fmt.Sprint(w.h)
		ours := testing.AllocsPerRun(1000, func() { w.reset(); s.ServeHTTP(w, r) })
		if w.status != status || w.bytes != bytes || fmt.Sprint(w.h) != headers {
			t.Errorf("%s: not the same answer: %d %d %v, bare %d %d %s", name, w.status, w.bytes, w.h, status, bytes, headers)
		}
		if ours > base {
			t.Errorf("%s: %v allocations, bare has %v", name, ours, base)
		}
	}
}

func BenchmarkDocument(b *testing.B) {
	s, doc := benchServer(b)
	benchmark(b, s, doc, true)
}

func BenchmarkBare(b *testing.B) {
	s, doc := benchServer(b)
	benchmark(b, bare(doc, s.source.State(), true), doc, true)
}

func BenchmarkNotModified(b *testing.B) {
	s, doc := benchServer(b)
	benchmark(b, s, doc, false)
}

func BenchmarkBareNotModified(b *testing.B) {
	s, doc := benchServer(b)
	benchmark(b, bare(doc, s.source.State(), false), doc, false)
}

func benchmark(b *testing.B, h http.Handler, doc *Document, modified bool) {
	r := benchRequest(doc, modified)
	w := &discard{h: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		w.reset()
		h.ServeHTTP(w, r)
	}
}

func BenchmarkRender(b *testing.B) {
	rec := record("stt-worker", 7, typical())
	r := &Renderer{}
	b.ReportAllocs()
	for b.Loop() {
		r.Render(rec)
	}
}

func BenchmarkKeysAndEnv(b *testing.B) {
	rec := record("stt-worker", 7, typical())
	r := &Renderer{}
	b.ReportAllocs()
	for b.Loop() {
		r.Render(rec).plain.derived.get()
	}
}

func BenchmarkServeDocument(b *testing.B) {
	s, _ := benchServer(b)
	overTCP(b, listen(b, s))
}

// BenchmarkServeBare is a net/http server as it comes, without any deadline.
func BenchmarkServeBare(b *testing.B) {
	s, doc := benchServer(b)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: bare(doc, s.source.State(), true)} //nolint:gosec // bare is the point
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	b.Cleanup(func() { _ = srv.Close(); <-done })
	overTCP(b, l.Addr().String())
}

// overTCP asks on keep-alive connections, with a reader that costs next to
// nothing, so that the server is what is measured.
func overTCP(b *testing.B, addr string) {
	const request = "GET /v1/config/stt-worker HTTP/1.1\r\nHost: 127.0.0.1:2770\r\nUser-Agent: bench\r\n\r\n"
	first, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 8192)
	size := ask(b, first, request, buf, 0)
	if err := first.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(8)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close() //nolint:errcheck // done with it
		buf := make([]byte, 8192)
		for pb.Next() {
			ask(b, c, request, buf, size)
		}
	})
}

// ask reads size bytes of answer, or with 0 one answer, and tells its size.
func ask(b *testing.B, c net.Conn, request string, buf []byte, size int) int {
	if _, err := io.WriteString(c, request); err != nil {
		b.Error(err)
		return 0
	}
	n, err := io.ReadAtLeast(c, buf, max(size, 1))
	if err != nil || !bytes.HasPrefix(buf, []byte("HTTP/1.1 200 OK\r\n")) {
		b.Errorf("%v: %.100s", err, buf[:n])
	}
	return n
}

// BenchmarkSecrets reads a document with ten secrets, with proof, and the same
// document where they are plain, without any.
func BenchmarkSecrets(b *testing.B) {
	var plain strings.Builder
	secrets := map[string]any{}
	for i := range 34 {
		fmt.Fprintf(&plain, `,"setting_%02d":"value of setting %d"`, i, i)
		if i >= 24 {
			secrets[fmt.Sprintf("setting_%02d", i)] = fmt.Sprintf("value of setting %d", i)
		}
	}
	render := &Renderer{Secrets: func(service string, _ *conf.Record) map[string]any {
		if service == "with" {
			return secrets
		}
		return nil
	}}
	docs := map[string]*Document{
		"with": render.Render(record("with", 7, typical())), "without": render.Render(record("without", 7, "{"+plain.String()[1:]+"}")),
	}
	s := newServer(b, &still{docs: docs, state: NewState(testEpoch, "replica", 1, 0)}, withToken)
	for _, name := range []string{"with", "without"} {
		b.Run(name, func(b *testing.B) {
			r := benchRequest(docs[name], true)
			r.URL.Path = "/v1/config/" + name
			if name == "with" {
				r.Header.Set(tokenHeader, "right-token")
			}
			w := &discard{h: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				w.reset()
				s.ServeHTTP(w, r)
			}
			if w.status != http.StatusOK || name == "with" && w.h.Get("Cache-Control") != "no-store" {
				b.Fatalf("%d %v", w.status, w.h)
			}
			b.SetBytes(int64(w.bytes))
		})
	}
}
