package localapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/httperror"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestMain(m *testing.M) { os.Exit(base.NoLeaks(m)) }

var withFront = flag.Bool("front", true, "whether servers of the tests have a front")

const testEpoch = "5b0f8f0e-6f0a-4a52-9d7c-0c3f7f1f9a11"

// memory is a Source that a test changes by hand.
type memory struct {
	mu       sync.Mutex
	docs     map[string]*memoryEntry
	appeared chan struct{}
	state    atomic.Pointer[State]
	render   *Renderer
}

type memoryEntry struct {
	doc     *Document
	changed chan struct{}
}

func newMemory(recs ...*conf.Record) *memory {
	m := &memory{docs: map[string]*memoryEntry{}, appeared: make(chan struct{}), render: &Renderer{}}
	m.state.Store(NewState(testEpoch, "replica", 42, 3*time.Second))
	for _, r := range recs {
		m.set(r)
	}
	return m
}

func (m *memory) set(r *conf.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.docs[r.Service]
	m.docs[r.Service] = &memoryEntry{doc: m.render.Render(r), changed: make(chan struct{})}
	if old != nil {
		close(old.changed)
		return
	}
	close(m.appeared)
	m.appeared = make(chan struct{})
}

func (m *memory) remove(service string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.docs[service]
	delete(m.docs, service)
	close(old.changed)
}

func (m *memory) Get(service string) (*Document, <-chan struct{}, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.docs[service]
	if !ok {
		return nil, nil, false
	}
	return e.doc, e.changed, true
}

func (m *memory) Missing(string) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.appeared
}

func (m *memory) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return conf.SortedKeys(m.docs)
}

func (m *memory) State() *State { return m.state.Load() }

func record(service string, version uint64, config string) *conf.Record {
	return &conf.Record{
		Service: service, Version: version, Epoch: testEpoch, Values: json.RawMessage(config), Config: json.RawMessage(config),
		Checksum: "c0ffee", IssuedAt: "2026-01-02T03:04:05+00:00", Signature: "c2ln", KeyID: "0123456789abcdef",
		UpdatedAt: "2026-01-02T03:04:05+00:00", UpdatedBy: "ann",
	}
}

func tombstone(service string, version uint64) *conf.Record {
	r := record(service, version, `{}`)
	r.Deleted = true
	return r
}

const sttConfig = `{"channels":1,"limits":{"max":9007199254740991,"name":"a<b&c"},"list":[1,"two"],"mode":null,"streaming":false,"vad":0.5,"whisper_model":"base.en"}`

func newServer(t testing.TB, src Source, edit ...func(*Options)) *Server {
	t.Helper()
	o := Options{Service: "stt-worker", Source: src, Front: *withFront}
	for _, e := range edit {
		e(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func withToken(o *Options) { o.Token = func() string { return "right-token" } }

// get asks the handler without a network. headers are "Name: value".
func get(t testing.TB, s *Server, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	return do(t, s, http.MethodGet, path, headers...)
}

func do(t testing.TB, s *Server, method, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	r.Host = "localhost:2770"
	setHeaders(r, headers)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func setHeaders(r *http.Request, headers []string) {
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
}

func wantStatus(t testing.TB, w *httptest.ResponseRecorder, status int) {
	t.Helper()
	if w.Code != status {
		t.Fatalf("status %d, want %d; body %s", w.Code, status, w.Body)
	}
}

func wantFailure(t testing.TB, w *httptest.ResponseRecorder, status int, code conf.Code) httperror.Body {
	t.Helper()
	wantStatus(t, w, status)
	var f httperror.Body
	if err := conf.DecodeStrict(w.Body.Bytes(), 1<<20, &f); err != nil {
		t.Fatalf("body %q: %v", w.Body, err)
	}
	if f.Success || f.Code != code || f.Error == "" || f.Details != nil || f.Current != nil || f.Request != "" {
		t.Fatalf("got %+v, want code %s", f, code)
	}
	return f
}

// serve runs s on l until the test ends.
func serve(t testing.TB, s *Server, l net.Listener) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Errorf("stop: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

func listen(t testing.TB, s *Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, s, l)
	return l.Addr().String()
}

// await polls a condition that no channel tells of.
func await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(base.Patience)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never came true: %s", what)
		}
	}
}

// client is an HTTP client of one address, TCP or unix.
func client(t testing.TB, network, addr string) *http.Client {
	tr := &http.Transport{
		MaxIdleConnsPerHost: 1000,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func fetch(t testing.TB, c *http.Client, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	setHeaders(r, headers)
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// event is one server-sent event, or a comment.
type event struct{ id, name, data, comment string }

// events reads a stream; the channel closes at its end.
func events(body io.Reader) <-chan event {
	out := make(chan event, 1000)
	go func() {
		defer close(out)
		var e event
		lines := bufio.NewScanner(body)
		lines.Buffer(nil, 4<<20)
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ":")
			value = strings.TrimPrefix(value, " ")
			switch {
			case lines.Text() == "":
				out <- e
				e = event{}
			case name == "":
				e.comment = ":" + value
			case name == "id":
				e.id = value
			case name == "event":
				e.name = value
			case name == "data":
				e.data += value
			}
		}
	}()
	return out
}

// next is the next event that is no comment.
func next(t testing.TB, ch <-chan event) event {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for {
		select {
		case e, ok := <-ch:
			if !ok {
				t.Fatal("the stream ended")
			}
			if e.comment == "" {
				return e
			}
		case <-deadline.C:
			t.Fatal("no event came")
		}
	}
}

// pipes is a listener in memory, which synctest can see through.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (p *pipes) dial() (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case p.conns <- b:
		return a, nil
	case <-p.closed:
		return nil, errors.Join(a.Close(), net.ErrClosed)
	}
}

func (p *pipes) client(t testing.TB) *http.Client {
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return p.dial() }}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func has(list []string, s string) bool { return slices.Contains(list, s) }

func logTo(w io.Writer) func(*Options) {
	return func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(w, nil)) }
}
