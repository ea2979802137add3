package client_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv/base"
)

// local is the local API of an agent as far as a watch sees it.
type local struct {
	mu      sync.Mutex
	version int // 0: there is no document
	epoch   string
	source  string
	status  int           // answered instead, when it is not 0
	changed chan struct{} // closed by set
	asked   int
	waiting chan struct{} // gets a value when a request begins to wait
}

func newLocal() *local {
	return &local{epoch: "e1", changed: make(chan struct{}), waiting: make(chan struct{}, 100)}
}

func (l *local) set(f func(*local)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l)
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *local) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	asked := r.Header.Get("If-None-Match")
	wait := r.URL.Query().Has("wait")
	for {
		l.mu.Lock()
		l.asked++
		version, epoch, status, changed := l.version, l.epoch, l.status, l.changed
		w.Header().Set("X-Config-Source", l.source)
		l.mu.Unlock()
		tag := fmt.Sprintf(`W/"%s-%d"`, epoch, version)
		fresh := version > 0 && asked != "" && asked != tag
		gone := version == 0
		switch {
		case status != 0:
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, `{"success":false,"error":"broken","code":%q}`, map[int]string{503: "stale", 401: "unauthenticated"}[status])
			return
		case wait && !fresh:
			// As the agent does it: also without a document, or without a tag.
			l.waiting <- struct{}{}
			select {
			case <-changed:
				if asked == "" {
					asked = tag
				}
				continue
			case <-r.Context().Done():
				return
			}
		case gone:
			w.WriteHeader(http.StatusNotFound)
			_, _ = fmt.Fprint(w, `{"success":false,"error":"gone","code":"not_found"}`)
			return
		case asked == tag:
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("ETag", tag)
		_, _ = fmt.Fprintf(w, `{"service":"router","config":{},"metadata":{"version":%d,"config_epoch":%q}}`, version, epoch)
		return
	}
}

// watching runs a watch and hands out what it yields.
type watching struct {
	t      *testing.T
	events chan string
	cancel context.CancelFunc
	done   chan struct{}
}

func startWatch(t *testing.T, url string) *watching {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &watching{t: t, events: make(chan string, 100), cancel: cancel, done: make(chan struct{})}
	c := newClient(t, client.Options{LocalURL: url})
	go func() {
		defer close(w.done)
		for e, err := range c.Watch(ctx, "router") {
			switch {
			case err != nil:
				w.events <- string(conf.CodeOf(err))
			case e.Gone:
				w.events <- "gone"
			default:
				w.events <- fmt.Sprintf("%s/%d", e.Document.Metadata.Epoch, e.Document.Metadata.Version)
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-w.done
	})
	return w
}

func (w *watching) want(events ...string) {
	w.t.Helper()
	for _, want := range events {
		select {
		case got := <-w.events:
			if got != want {
				w.t.Fatalf("got %q, want %q", got, want)
			}
		case <-time.After(base.Patience):
			w.t.Fatalf("no event, want %q", want)
		}
	}
}

func await(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(base.Patience):
		t.Fatal("nobody waits")
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	l := newLocal()
	l.version = 1
	srv := httptest.NewServer(l)
	t.Cleanup(srv.Close)
	w := startWatch(t, srv.URL)
	w.want("e1/1")
	await(t, l.waiting)
	l.set(func(l *local) { l.version = 2 })
	w.want("e1/2")
	l.set(func(l *local) { l.version = 3 })
	w.want("e1/3")
	await(t, l.waiting)
	l.set(func(l *local) { l.version, l.epoch = 1, "e2" })
	w.want("e2/1") // another epoch is news, whatever its version
	w.cancel()
	<-w.done
	if len(w.events) != 0 {
		t.Errorf("more events: %q", <-w.events)
	}
}

func TestWatchOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	l := newLocal()
	srv := httptest.NewServer(l)
	t.Cleanup(srv.Close)
	w := startWatch(t, srv.URL)
	w.want("gone")
	await(t, l.waiting)
	l.set(func(l *local) { l.version = 1 })
	w.want("e1/1")
}

// A document that appears between the answer "not there" and the next request
// must not be waited past.
func TestWatchMissesNothingInBetween(t *testing.T) {
	t.Parallel()
	l := newLocal()
	var once sync.Once
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("wait") {
			once.Do(func() { l.set(func(l *local) { l.version = 1 }) })
		}
		l.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	w := startWatch(t, srv.URL)
	w.want("gone", "e1/1")
}

func TestWatchSurvivesAnOutage(t *testing.T) {
	t.Parallel()
	l := newLocal()
	l.version = 3
	srv := httptest.NewServer(l)
	t.Cleanup(srv.Close)
	w := startWatch(t, srv.URL)
	w.want("e1/3")
	await(t, l.waiting)
	l.set(func(l *local) { l.status = 503 })
	w.want("stale") // once
	l.awaitRequests(t, 2)
	// The agent is back with an older state of its last-known-good file, then
	// catches up.
	l.set(func(l *local) { l.status, l.version, l.source = 0, 2, "lkg" })
	l.awaitRequests(t, 2)
	l.set(func(l *local) { l.version, l.source = 4, "replica" })
	w.want("e1/4")
	// An observer that lost its files counts again, and says that this is the truth.
	l.set(func(l *local) { l.version = 1 })
	w.want("e1/1")
	l.set(func(l *local) { l.version = 2 })
	w.want("e1/2")
}

// awaitRequests returns when n more requests have come.
func (l *local) awaitRequests(t *testing.T, n int) {
	t.Helper()
	want := l.requests() + n
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	over := time.After(base.Patience)
	for l.requests() < want {
		select {
		case <-tick.C:
		case <-over:
			t.Fatal("the watch does not ask again")
		}
	}
}

func (l *local) requests() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked
}

func TestWatchEndsOnWhatNoRepetitionCures(t *testing.T) {
	t.Parallel()
	l := newLocal()
	l.status = 401
	srv := httptest.NewServer(l)
	t.Cleanup(srv.Close)
	w := startWatch(t, srv.URL)
	w.want("unauthenticated")
	select {
	case <-w.done:
	case <-time.After(base.Patience):
		t.Fatal("the watch goes on")
	}
}

func TestWatchEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	l := newLocal()
	l.version = 1
	srv := httptest.NewServer(l)
	t.Cleanup(srv.Close)
	c := newClient(t, client.Options{LocalURL: srv.URL})
	n := 0
	for range c.Watch(t.Context(), "router") {
		n++
		break
	}
	if n != 1 {
		t.Errorf("%d events", n)
	}
}
