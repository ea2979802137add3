package localapi

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// poll is a request in a synctest bubble that may take its time.
type poll struct {
	w    *httptest.ResponseRecorder
	done atomic.Bool
	took time.Duration
	stop context.CancelFunc
}

func startPoll(t *testing.T, s *Server, path string, headers ...string) *poll {
	ctx, cancel := context.WithCancel(t.Context())
	p := &poll{w: httptest.NewRecorder(), stop: cancel}
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	r.Host = "localhost"
	setHeaders(r, headers)
	began := time.Now()
	go func() {
		s.ServeHTTP(p.w, r)
		p.took = time.Since(began)
		p.done.Store(true)
	}()
	synctest.Wait()
	return p
}

func (p *poll) waiting(t *testing.T, why string) {
	t.Helper()
	synctest.Wait()
	if p.done.Load() {
		t.Fatalf("answered %d %s, although %s", p.w.Code, p.w.Body, why)
	}
}

func (p *poll) answered(t *testing.T, status int, words string) {
	t.Helper()
	synctest.Wait()
	if !p.done.Load() || p.w.Code != status || !strings.Contains(p.w.Body.String(), words) {
		t.Fatalf("done %v: %d %s; want %d with %q", p.done.Load(), p.w.Code, p.w.Body, status, words)
	}
}

func reissued(r *conf.Record) *conf.Record {
	c := *r
	c.IssuedAt, c.Signature = "2026-01-02T03:08:05+00:00", "bmV3"
	return &c
}

func TestWaitForAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(record("stt-worker", 7, `{"a":1,"b":1}`), record("router", 1, `{}`))
		s := newServer(t, m)
		etag := get(t, s, "/v1/config/stt-worker").Header().Get("Etag")
		with := startPoll(t, s, "/v1/config/stt-worker?wait=30s", "If-None-Match: "+etag)
		without := startPoll(t, s, "/v1/config/stt-worker?wait=30")
		star := startPoll(t, s, "/v1/config?wait=30s", "If-None-Match: *")
		old := startPoll(t, s, "/v1/config/stt-worker?wait=30s", `If-None-Match: W/"6-abc"`)
		old.answered(t, 200, `"version":7`)
		m.set(record("router", 2, `{}`))
		m.set(reissued(record("stt-worker", 7, `{"a":1,"b":1}`)))
		for _, p := range []*poll{with, without, star} {
			p.waiting(t, "only another service and the signature changed")
		}
		if n := s.metrics.polls.Load(); n != 3 {
			t.Errorf("%d polls are counted", n)
		}
		m.set(record("stt-worker", 8, `{"a":2,"b":1}`))
		with.answered(t, 200, `"version":8`)
		without.answered(t, 200, `"version":8`)
		star.waiting(t, `"*" stands for every version`)
		time.Sleep(30 * time.Second)
		star.answered(t, 304, "")
		if star.w.Header().Get("X-Config-Version") != "8" || s.metrics.polls.Load() != 0 {
			t.Error(star.w.Header(), s.metrics.polls.Load())
		}
	})
}

func TestWaitIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, newMemory(record("stt-worker", 7, `{"a":1}`)), func(o *Options) { o.MaxWait = time.Minute })
		etag := get(t, s, "/v1/config/stt-worker").Header().Get("Etag")
		for path, want := range map[string]time.Duration{
			"wait=30s": 30 * time.Second, "wait=500ms": 500 * time.Millisecond, "wait=7": 7 * time.Second, "wait=10h": time.Minute, "wait=0": 0,
		} {
			with := startPoll(t, s, "/v1/config/stt-worker?"+path, "If-None-Match: "+etag)
			without := startPoll(t, s, "/v1/config/stt-worker?"+path)
			absent := startPoll(t, s, "/v1/config/none?"+path)
			key := startPoll(t, s, "/v1/config/stt-worker/none?"+path)
			time.Sleep(want)
			with.answered(t, 304, "")
			without.answered(t, 200, `"version":7`)
			absent.answered(t, 404, `no service`)
			key.answered(t, 404, `has no key`)
			for _, p := range []*poll{with, without, absent, key} {
				if p.took != want {
					t.Errorf("%s took %s", path, p.took)
				}
			}
		}
	})
}

func TestWaitForWhatIsNotThereYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unconfigured := &conf.Record{Service: "camera-service", Epoch: testEpoch}
		m := newMemory(tombstone("router", 4), unconfigured, record("stt-worker", 1, `{"a":1}`))
		s := newServer(t, m)
		absent := startPoll(t, s, "/v1/config/tts-worker?wait=1m")
		env := startPoll(t, s, "/v1/env/tts-worker?wait=1m")
		deleted := startPoll(t, s, "/v1/config/router?wait=1m", `If-None-Match: W/"3-aa"`)
		unset := startPoll(t, s, "/v1/config/camera-service?wait=1m")
		key := startPoll(t, s, "/v1/config/stt-worker/b?wait=1m")
		m.set(record("llm-worker", 1, `{}`))
		m.set(tombstone("router", 5))
		for _, p := range []*poll{absent, env, deleted, unset, key} {
			p.waiting(t, "it is not there yet")
		}
		m.set(record("tts-worker", 1, `{"voice":"x"}`))
		absent.answered(t, 200, `"voice":"x"`)
		env.answered(t, 200, "VOICE=x\n")
		m.set(record("router", 6, `{}`))
		deleted.answered(t, 200, `"version":6`)
		m.set(record("camera-service", 1, `{}`))
		unset.answered(t, 200, `"version":1`)
		m.set(record("stt-worker", 2, `{"a":1,"b":2}`))
		key.answered(t, 200, `2`)
	})
}

func TestWaitEndsWithADeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(record("stt-worker", 7, `{"a":1}`), record("router", 1, `{}`))
		s := newServer(t, m)
		doc := startPoll(t, s, "/v1/config/stt-worker?wait=1m")
		key := startPoll(t, s, "/v1/config/stt-worker/a?wait=1m")
		gone := startPoll(t, s, "/v1/config/router?wait=1m")
		m.set(tombstone("stt-worker", 8))
		doc.answered(t, 404, `was deleted (version 8)`)
		key.answered(t, 404, `was deleted (version 8)`)
		if doc.w.Header().Get("X-Config-Version") != "8" {
			t.Error(doc.w.Header())
		}
		m.remove("router") // as after a rebuild
		gone.answered(t, 404, `no service`)
	})
}

func TestWaitForOneKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(record("stt-worker", 7, `{"a":1,"b":1}`))
		s := newServer(t, m)
		etag := get(t, s, "/v1/config/stt-worker/a").Header().Get("Etag")
		with := startPoll(t, s, "/v1/config/stt-worker/a?wait=1m", "If-None-Match: "+etag)
		without := startPoll(t, s, "/v1/config/stt-worker/a?raw&wait=1m")
		m.set(record("stt-worker", 8, `{"a":1,"b":2}`))
		with.waiting(t, "another key changed")
		without.waiting(t, "another key changed")
		m.set(record("stt-worker", 9, `{"a":5,"b":2}`))
		with.answered(t, 200, "5")
		without.answered(t, 200, "5")
		last := startPoll(t, s, "/v1/config/stt-worker/a?wait=1m")
		m.set(record("stt-worker", 10, `{"b":2}`))
		last.answered(t, 404, "has no key")
	})
}

func TestWaitEndsWhenTheCallerIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, newMemory(record("stt-worker", 7, `{}`)))
		p := startPoll(t, s, "/v1/config/stt-worker?wait=1m")
		p.stop()
		synctest.Wait()
		if !p.done.Load() || p.took != 0 || s.metrics.polls.Load() != 0 {
			t.Fatalf("done %v after %s", p.done.Load(), p.took)
		}
	})
}

func TestAWaitOutlivesTheWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, newMemory(record("stt-worker", 7, `{"a":1}`)))
		l := newPipes()
		serve(t, s, l)
		began := time.Now()
		res, body := fetch(t, l.client(t), "/v1/config/stt-worker?wait=4m")
		if took := time.Since(began); res.StatusCode != 200 || !strings.Contains(body, `"a":1`) || took != 4*time.Minute {
			t.Fatalf("%d %s after %s", res.StatusCode, body, took)
		}
	})
}

func TestFiveHundredPollsAreWokenByOneChange(t *testing.T) {
	m := newMemory(record("stt-worker", 7, `{"a":1}`))
	s := newServer(t, m)
	addr := listen(t, s)
	c := client(t, "tcp", addr)
	const polls = 500
	var wg sync.WaitGroup
	errs := make(chan error, polls)
	for i := range polls {
		path := []string{"/v1/config/stt-worker", "/v1/config/stt-worker/a", "/v1/env/stt-worker", "/v1/config/late"}[i%4]
		wg.Go(func() {
			res, err := c.Get("http://localhost" + path + "?wait=5m")
			for try := 1; err != nil && try < 5; try++ { // the machine had no time for its header within that of a header
				res, err = c.Get("http://localhost" + path + "?wait=5m")
			}
			if err == nil && (res.StatusCode != 200 || res.Header.Get("X-Config-Version") != "8") {
				err = fmt.Errorf("%s: %s, version %s", path, res.Status, res.Header.Get("X-Config-Version"))
			}
			if err == nil {
				err = res.Body.Close()
			}
			errs <- err
		})
	}
	await(t, "all polls wait", func() bool { return s.metrics.polls.Load() == polls })
	m.set(record("stt-worker", 8, `{"a":2}`))
	m.set(record("late", 8, `{"a":2}`))
	wg.Wait()
	for range polls {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	if n := s.metrics.polls.Load(); n != 0 {
		t.Errorf("%d polls are still counted", n)
	}
}

func TestStopWhilePollsAndStreamsWait(t *testing.T) {
	m := newMemory(record("stt-worker", 7, `{"a":1}`))
	s := newServer(t, m)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	c := client(t, "tcp", l.Addr().String())
	etag := get(t, s, "/v1/config/stt-worker").Header().Get("Etag")
	const each = 20
	answers := make(chan string, 3*each)
	for range each {
		go func() {
			res, _ := fetch(t, c, "/v1/config/stt-worker?wait=5m", "If-None-Match: "+etag)
			answers <- fmt.Sprint("poll ", res.StatusCode, res.Close)
		}()
		go func() {
			res, _ := fetch(t, c, "/v1/config/none?wait=5m")
			answers <- fmt.Sprint("absent ", res.StatusCode, res.Close)
		}()
		go func() {
			_, body := fetch(t, c, "/v1/watch/stt-worker")
			answers <- fmt.Sprint("watch ", strings.Count(body, "event: config"))
		}()
	}
	await(t, "all of them wait", func() bool {
		return s.metrics.polls.Load() == 2*each && s.metrics.watches.Load() == each
	})
	began := time.Now()
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > stopGrace {
		t.Errorf("stopping took %s", took)
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for range 3 * each {
		got[<-answers]++
	}
	if got["poll 304 true"] != each || got["absent 404 true"] != each || got["watch 1"] != each {
		t.Fatalf("answers %v", got)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("a second Stop: %v", err)
	}
	late, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(late); err != nil {
		t.Errorf("Serve after Stop: %v", err)
	}
	if _, err := late.Accept(); err == nil {
		t.Error("Serve after Stop left its listener open")
	}
}

func TestStopCutsAConnectionThatNeverAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, newMemory())
		l := newPipes()
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		c, err := l.dial()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() //nolint:errcheck // the server has cut it
		synctest.Wait()
		began := time.Now()
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > stopGrace {
			t.Errorf("stopping took %s", took)
		}
		if err := <-served; err != nil {
			t.Fatal(err)
		}
	})
}

func TestASlowHeaderIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		serve(t, newServer(t, newMemory()), l)
		c, err := l.dial()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() //nolint:errcheck // the server has cut it
		began := time.Now()
		if _, err := c.Write([]byte("GET / HTTP/1.1\r\n")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1)
		if _, err := c.Read(b); err == nil || time.Since(began) != headerTimeout {
			t.Fatalf("%v after %s", err, time.Since(began))
		}
	})
}
