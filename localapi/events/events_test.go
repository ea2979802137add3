package events

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// board is a state that a test changes; each follower looks at its newest version.
type board struct {
	mu      sync.Mutex
	version int
	changed chan struct{}
}

func newBoard() *board { return &board{changed: make(chan struct{})} }

func (b *board) advance() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.version++
	close(b.changed)
	b.changed = make(chan struct{})
}

type reader struct {
	b    *board
	seen int
}

func (r *reader) Next() (out []Event, woken [3]<-chan struct{}) {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	if r.b.version != r.seen {
		out = []Event{{"service", map[string]any{"service": "a", "version": r.b.version}}}
	}
	r.seen = r.b.version
	return out, [3]<-chan struct{}{r.b.changed, nil, nil}
}

// open reads a stream at a real server, whose lines arrive in a channel.
func open(t *testing.T, h *Hub, allowed func() bool) (lines <-chan string, stop func()) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !h.Reserve() {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		h.Serve(r.Context(), w, allowed)
	}))
	t.Cleanup(srv.Close)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	if got := res.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatalf("%d %s", res.StatusCode, got)
	}
	out := make(chan string)
	go func() {
		defer close(out)
		for s := bufio.NewScanner(res.Body); s.Scan(); {
			select {
			case out <- s.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, cancel
}

// until reads lines until one begins so.
func until(t *testing.T, lines <-chan string, prefix string) string {
	t.Helper()
	for end := time.After(time.Minute); ; {
		select {
		case l, ok := <-lines:
			if !ok {
				t.Fatalf("the stream ended before %q", prefix)
			}
			if strings.HasPrefix(l, prefix) {
				return l
			}
		case <-end:
			t.Fatalf("no line %q", prefix)
		}
	}
}

func untilClosed(t *testing.T, lines <-chan string) {
	t.Helper()
	for end := time.After(time.Minute); ; {
		select {
		case _, ok := <-lines:
			if !ok {
				return
			}
		case <-end:
			t.Fatal("the stream does not end")
		}
	}
}

func yes() bool { return true }

func TestStream(t *testing.T) {
	t.Parallel()
	b := newBoard()
	b.advance() // before the stream: not told
	h := NewHub(func() Follower { return &reader{b: b} })
	lines, _ := open(t, h, yes)
	until(t, lines, ": holdfast")
	b.advance()
	if got := until(t, lines, "data: "); got != `data: {"service":"a","version":2}` {
		t.Errorf("got %s", got)
	}
	for range 1000 { // nobody waits for the reader
		b.advance()
	}
	for n := 1; ; n++ {
		if until(t, lines, "data: ") == `data: {"service":"a","version":1002}` {
			if n > 100 {
				t.Errorf("%d events for one burst", n)
			}
			break
		}
	}
}

func TestStreamEnds(t *testing.T) {
	t.Parallel()
	h := NewHub(func() Follower { return &reader{b: newBoard()} })
	lines, _ := open(t, h, func() bool { return false }) // as when its token is revoked
	untilClosed(t, lines)
	lines, gone := open(t, h, yes)
	gone() // the reader
	untilClosed(t, lines)
	lines, _ = open(t, h, yes)
	h.Stop()
	untilClosed(t, lines)
	for end := time.Now().Add(time.Minute); h.Active() > 0; {
		if time.Now().After(end) {
			t.Fatalf("%d streams are left", h.Active())
		}
	}
}

func TestOneStreamTooMany(t *testing.T) {
	t.Parallel()
	h := NewHub(func() Follower { return &reader{b: newBoard()} })
	for range Max {
		if !h.Reserve() {
			t.Fatal("a place is refused too early")
		}
	}
	if h.Reserve() {
		t.Errorf("stream %d is accepted", Max+1)
	}
	w := httptest.NewRecorder()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h.Serve(ctx, w, yes)
	if !h.Reserve() {
		t.Error("a stream that ended keeps its place")
	}
}
