package localapi

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// open starts a watch; it ends with the test.
func open(t *testing.T, c *http.Client, path string, headers ...string) (*http.Response, <-chan event) {
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
	ch := events(res.Body)
	t.Cleanup(func() {
		_ = res.Body.Close()
		for range ch { //nolint:revive // until the reader has ended
		}
	})
	return res, ch
}

// bubble runs a server on pipes inside a synctest bubble.
func bubble(t *testing.T, m *memory, test func(t *testing.T, s *Server, c *http.Client), edit ...func(*Options)) {
	synctest.Test(t, func(t *testing.T) {
		m.appeared = make(chan struct{}) // channels belong to the bubble that made them
		for _, e := range m.docs {
			e.changed = make(chan struct{})
		}
		s := newServer(t, m, edit...)
		l := newPipes()
		serve(t, s, l)
		test(t, s, l.client(t))
	})
}

// stateID is the id of an event for the document of rec, as an untrusted caller sees it.
func stateID(rec *conf.Record) string {
	d := (&Renderer{}).Render(rec)
	tag := sentAbsent
	if d.exists {
		tag = d.plain.tag
	}
	return d.id + ":" + strings.Trim(tag, `"`)
}

func id(version int) string { return testEpoch + ":" + strconv.Itoa(version) }

// untagged is an event with the first two parts of its id only.
func untagged(e event) event {
	if i := strings.LastIndexByte(e.id, ':'); strings.Count(e.id, ":") == 2 {
		e.id = e.id[:i]
	}
	return e
}

// versionOf is the version in the id of an event.
func versionOf(t *testing.T, e event) int {
	t.Helper()
	parts := strings.Split(e.id, ":")
	v, err := strconv.Atoi(parts[min(1, len(parts)-1)])
	if err != nil || len(parts) != 3 || parts[0] != testEpoch {
		t.Fatalf("id %q", e.id)
	}
	return v
}

// quiet checks that no event came.
func quiet(t *testing.T, ch <-chan event, why string) {
	t.Helper()
	synctest.Wait()
	for {
		select {
		case e := <-ch:
			if e.comment == "" {
				t.Fatalf("got %+v, although %s", e, why)
			}
		default:
			return
		}
	}
}

func TestWatch(t *testing.T) {
	m := newMemory(record("stt-worker", 7, sttConfig))
	bubble(t, m, func(t *testing.T, s *Server, c *http.Client) {
		for _, path := range []string{"/v1/watch/stt-worker", "/v1/watch"} {
			res, ch := open(t, c, path)
			if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("Cache-Control") != "no-store" ||
				res.Header.Get("X-Config-Source") != "replica" {
				t.Fatalf("%d %v", res.StatusCode, res.Header)
			}
			body := get(t, s, "/v1/config/stt-worker").Body.String()
			first := next(t, ch)
			if first != (event{id: first.id, name: "config", data: body}) {
				t.Fatalf("got %+v", first)
			}
			version := versionOf(t, first)
			m.set(reissued(record("stt-worker", uint64(version), sttConfig)))
			quiet(t, ch, "only the signature changed")
			m.set(record("stt-worker", uint64(version)+1, `{"a":2}`))
			if e := next(t, ch); versionOf(t, e) != version+1 || e.name != "config" || !strings.Contains(e.data, `"config":{"a":2}`) {
				t.Fatalf("got %+v", e)
			}
			m.set(record("stt-worker", uint64(version)+2, sttConfig))
			next(t, ch)
		}
		if n := s.metrics.watches.Load(); n != 2 {
			t.Errorf("%d watches are counted", n)
		}
	})
}

func TestWatchGoesOnFromTheLastEvent(t *testing.T) {
	m := newMemory(record("stt-worker", 7, `{"a":1}`))
	bubble(t, m, func(t *testing.T, _ *Server, c *http.Client) {
		state := func(version uint64, config string) string { return stateID(record("stt-worker", version, config)) }
		for last, fresh := range map[string]bool{
			state(6, `{"a":1}`): true, state(7, `{"a":1}`): false, state(9, `{"a":1}`): false,
			state(7, `{"a":2}`): true,                          // with another secret of the environment
			testEpoch + ":7":    true, testEpoch + ":7:": true, // of an earlier build
			"another-epoch:7:x": true, "another-epoch:99:x": true, "": true, "7": true, "x:y": true, ":": true, "::": true, ":::": true,
		} {
			_, ch := open(t, c, "/v1/watch/stt-worker", "Last-Event-ID: "+last)
			if !fresh {
				quiet(t, ch, "the reader has it: "+last)
				continue
			}
			if e := next(t, ch); e.id != state(7, `{"a":1}`) {
				t.Errorf("after %q: %+v", last, e)
			}
		}
		_, ch := open(t, c, "/v1/watch/stt-worker", "Last-Event-ID: "+state(9, `{"a":3}`))
		m.set(record("stt-worker", 8, `{"a":2}`))
		m.set(record("stt-worker", 9, `{"a":3}`))
		quiet(t, ch, "this agent is only catching up")
		m.set(record("stt-worker", 10, `{"a":4}`))
		if e := next(t, ch); versionOf(t, e) != 10 {
			t.Fatalf("got %+v", e)
		}
		m.set(record("stt-worker", 10, `{"a":5}`)) // a secret of the environment
		if e := next(t, ch); versionOf(t, e) != 10 || !strings.Contains(e.data, `{"a":5}`) {
			t.Fatalf("got %+v", e)
		}
	})
}

// A state of the first connection that comes back is news.
func TestWatchSendsWhatComesBack(t *testing.T) {
	m := newMemory(record("stt-worker", 7, `{"a":2}`))
	bubble(t, m, func(t *testing.T, _ *Server, c *http.Client) {
		_, ch := open(t, c, "/v1/watch/stt-worker", "Last-Event-ID: "+stateID(record("stt-worker", 7, `{"a":1}`)))
		for _, config := range []string{`{"a":2}`, `{"a":1}`, `{"a":2}`} {
			m.set(record("stt-worker", 7, config))
			if e := next(t, ch); !strings.Contains(e.data, config) {
				t.Fatalf("got %+v, want %s", e, config)
			}
		}
	})
}

// An observer that lost its files counts versions again.
func TestWatchOfAnAgentThatCountsAnew(t *testing.T) {
	m := newMemory(record("stt-worker", 1, `{"a":1}`))
	bubble(t, m, func(t *testing.T, _ *Server, c *http.Client) {
		_, ch := open(t, c, "/v1/watch/stt-worker", "Last-Event-ID: "+stateID(record("stt-worker", 9, `{"a":0}`)))
		for v, config := range []string{`{"a":1}`, `{"a":2}`} {
			m.set(record("stt-worker", uint64(v+1), config))
			if e := next(t, ch); versionOf(t, e) != v+1 || !strings.Contains(e.data, config) {
				t.Fatalf("got %+v", e)
			}
		}
		_, again := open(t, c, "/v1/watch/stt-worker", "Last-Event-ID: "+stateID(record("stt-worker", 2, `{"a":2}`)))
		quiet(t, again, "the reader has it")
	}, func(o *Options) { o.OwnVersions = true })
}

func TestWatchTellsOfDeletionAndReturn(t *testing.T) {
	m := newMemory(record("stt-worker", 7, `{"a":1}`), tombstone("router", 4))
	bubble(t, m, func(t *testing.T, _ *Server, c *http.Client) {
		_, ch := open(t, c, "/v1/watch/stt-worker")
		next(t, ch)
		m.set(tombstone("stt-worker", 8))
		if e := untagged(next(t, ch)); e != (event{id: id(8), name: "deleted", data: `{"service":"stt-worker","version":8}`}) {
			t.Fatalf("got %+v", e)
		}
		m.set(tombstone("stt-worker", 9))
		quiet(t, ch, "it is as gone as before")
		m.set(record("stt-worker", 10, `{"a":1}`))
		if e := next(t, ch); versionOf(t, e) != 10 || e.name != "config" {
			t.Fatalf("got %+v", e)
		}
		m.remove("stt-worker")
		if e := next(t, ch); e != (event{name: "deleted", data: `{"service":"stt-worker"}`}) {
			t.Fatalf("got %+v", e)
		}
		_, ch = open(t, c, "/v1/watch/router")
		if e := next(t, ch); e.name != "deleted" || versionOf(t, e) != 4 {
			t.Fatalf("got %+v", e)
		}
	})
}

func TestWatchOfAServiceThatIsNotThereYet(t *testing.T) {
	bubble(t, newMemory(), func(t *testing.T, s *Server, c *http.Client) {
		m := s.source.(*memory)
		_, ch := open(t, c, "/v1/watch/tts-worker")
		m.set(record("router", 1, `{}`))
		quiet(t, ch, "it is not there yet")
		m.set(record("tts-worker", 1, `{"a":1}`))
		if e := next(t, ch); versionOf(t, e) != 1 {
			t.Fatalf("got %+v", e)
		}
		wantFailure(t, get(t, s, "/v1/watch/Bad_Name"), 404, conf.CodeNotFound)
	})
}

func TestWatchOfOneKey(t *testing.T) {
	m := newMemory(record("stt-worker", 7, `{"a":{"x":1},"b":1}`))
	bubble(t, m, func(t *testing.T, _ *Server, c *http.Client) {
		_, ch := open(t, c, "/v1/watch/stt-worker?key=a.x")
		if e := untagged(next(t, ch)); e != (event{id: id(7), name: "config", data: "1"}) {
			t.Fatalf("got %+v", e)
		}
		m.set(record("stt-worker", 8, `{"a":{"x":1,"y":2},"b":2}`))
		quiet(t, ch, "another key changed")
		m.set(record("stt-worker", 9, `{"a":{"x":"two"},"b":2}`))
		if e := untagged(next(t, ch)); e != (event{id: id(9), name: "config", data: `"two"`}) {
			t.Fatalf("got %+v", e)
		}
		m.set(record("stt-worker", 10, `{"b":2}`))
		if e := untagged(next(t, ch)); e != (event{id: id(10), name: "deleted", data: `{"service":"stt-worker","key":"a.x","version":10}`}) {
			t.Fatalf("got %+v", e)
		}
	})
}

func TestWatchWithSecrets(t *testing.T) {
	m := newMemory()
	m.render.Secrets = func(string, *conf.Record) map[string]any { return map[string]any{"api_key": "s3cret"} }
	m.set(record("stt-worker", 7, `{}`))
	bubble(t, m, func(t *testing.T, _ *Server, c *http.Client) {
		_, plain := open(t, c, "/v1/watch/stt-worker")
		_, proven := open(t, c, "/v1/watch/stt-worker", "X-Holdfast-Token: right-token")
		if e := next(t, plain); strings.Contains(e.data, "s3cret") {
			t.Fatalf("got %+v", e)
		}
		if e := next(t, proven); !strings.Contains(e.data, "s3cret") {
			t.Fatalf("got %+v", e)
		}
	}, withToken)
}

func TestHeartbeat(t *testing.T) {
	m := newMemory(record("stt-worker", 7, `{}`))
	bubble(t, m, func(t *testing.T, _ *Server, c *http.Client) {
		_, ch := open(t, c, "/v1/watch/stt-worker")
		next(t, ch)
		for range 5 {
			began := time.Now()
			e := <-ch
			if e.comment == "" || time.Since(began) != Heartbeat {
				t.Fatalf("got %+v after %s", e, time.Since(began))
			}
		}
		m.set(record("stt-worker", 8, `{}`))
		if e := next(t, ch); versionOf(t, e) != 8 {
			t.Fatalf("got %+v", e)
		}
	})
}

func TestASlowReaderHoldsUpNobody(t *testing.T) {
	m := newMemory(record("stt-worker", 1, `{"n":1}`))
	bubble(t, m, func(t *testing.T, s *Server, c *http.Client) {
		l := newPipes()
		serve(t, s, l)
		slow, err := l.dial()
		if err != nil {
			t.Fatal(err)
		}
		defer slow.Close() //nolint:errcheck // the server has cut it
		if _, err := io.WriteString(slow, "GET /v1/watch/stt-worker HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		_, fast := open(t, c, "/v1/watch/stt-worker")
		next(t, fast)
		began := time.Now()
		for v := 2; v < 100; v++ {
			m.set(record("stt-worker", uint64(v), `{"n":1}`))
			if e := next(t, fast); versionOf(t, e) != v {
				t.Fatalf("got %+v", e)
			}
		}
		if time.Since(began) != 0 || s.metrics.watches.Load() != 2 {
			t.Fatalf("after %s; %d watches", time.Since(began), s.metrics.watches.Load())
		}
		time.Sleep(writeTimeout + time.Second) // which a deadline may be late
		synctest.Wait()
		if n := s.metrics.watches.Load(); n != 1 {
			t.Fatalf("%d watches: the one that does not read was not cut off", n)
		}
	})
}

func TestAReaderThatFallsBehindGetsTheNewest(t *testing.T) {
	m := newMemory(record("stt-worker", 1, `{}`))
	bubble(t, m, func(t *testing.T, s *Server, _ *http.Client) {
		l := newPipes()
		serve(t, s, l)
		c, err := l.dial()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "GET /v1/watch/stt-worker HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for v := uint64(2); v <= 1000; v++ {
			m.set(record("stt-worker", v, `{}`))
		}
		ch := events(c)
		count, last := 0, ""
		for !strings.HasPrefix(last, id(1000)+":") {
			last = next(t, ch).id
			count++
		}
		if count > 3 {
			t.Errorf("%d events for a reader that slept through 999 changes", count)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		for range ch { //nolint:revive // until the reader has ended
		}
	})
}

func TestAPanicInAStreamCutsIt(t *testing.T) {
	m := newMemory(record("stt-worker", 1, `{}`))
	bubble(t, m, func(t *testing.T, s *Server, c *http.Client) {
		_, ch := open(t, c, "/v1/watch/stt-worker")
		next(t, ch)
		m.mu.Lock()
		e := m.docs["stt-worker"]
		m.docs["stt-worker"] = &memoryEntry{doc: &Document{exists: true}}
		close(e.changed)
		m.mu.Unlock()
		for range ch { //nolint:revive // until it ends
		}
		if s.metrics.panics.Load() != 1 {
			t.Error("the panic is not counted")
		}
	})
}
