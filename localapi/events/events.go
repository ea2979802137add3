package events

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Max is how many streams an agent has at the same time.
const Max = 32

const (
	heartbeat  = 15 * time.Second       // a comment that shows that the connection works
	checkEvery = 2 * time.Second        // for what wakes nobody
	gather     = 100 * time.Millisecond // a burst of changes is one look
	writeLimit = 10 * time.Second       // for one event, to a reader that does not read
)

// Event is one event. Data is encoded as JSON.
type Event struct {
	Name string
	Data any
}

// A Follower looks at the state for one stream, from one goroutine.
type Follower interface {
	// Next returns what changed since the call before, nothing at the first one, and
	// channels of which one is closed when there may be more.
	Next() (changes []Event, woken [3]<-chan struct{})
}

// Hub has the streams of an agent.
type Hub struct {
	follow  func() Follower
	active  atomic.Int64
	stopped chan struct{}
	once    sync.Once
}

// NewHub makes one. follow is called for each stream.
func NewHub(follow func() Follower) *Hub { return &Hub{follow: follow, stopped: make(chan struct{})} }

// Stop ends all streams, and those that begin later.
func (h *Hub) Stop() { h.once.Do(func() { close(h.stopped) }) }

// Reserve takes a place for one stream, which Serve gives back. It fails when there is none.
func (h *Hub) Reserve() bool {
	if h.active.Add(1) > Max {
		h.active.Add(-1)
		return false
	}
	return true
}

// Active is how many streams there are.
func (h *Hub) Active() int { return int(h.active.Load()) }

// Serve writes the events of one reserved stream until ctx ends, the reader is gone, the
// agent stops, or allowed is false.
func (h *Hub) Serve(ctx context.Context, w http.ResponseWriter, allowed func() bool) {
	defer h.active.Add(-1)
	s := stream{w: w, control: http.NewResponseController(w)}
	_ = s.control.SetReadDeadline(time.Time{}) // that of a whole request would end the stream
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // for a proxy that collects responses
	w.WriteHeader(http.StatusOK)
	f := h.follow()
	_, woken := f.Next()
	if !s.send([]byte("retry: 2000\n: holdfast\n\n")) {
		return
	}
	check, beat := time.NewTicker(checkEvery), time.NewTicker(heartbeat)
	defer check.Stop()
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.stopped:
			return
		case <-beat.C:
			if !s.send([]byte(": \n\n")) {
				return
			}
			continue
		case <-check.C:
			if !allowed() {
				return
			}
		case <-woken[0]:
			pause(ctx, gather)
		case <-woken[1]:
			pause(ctx, gather)
		case <-woken[2]:
			pause(ctx, gather)
		}
		var changes []Event
		if changes, woken = f.Next(); !s.events(changes) {
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// events sends all in one write.
func (s *stream) events(all []Event) bool {
	if len(all) == 0 {
		return true
	}
	var b bytes.Buffer
	for _, e := range all {
		data, err := json.Marshal(e.Data) // one line
		if err != nil {
			continue // names and numbers
		}
		b.WriteString("event: " + e.Name + "\ndata: ")
		b.Write(data)
		b.WriteString("\n\n")
	}
	return s.send(b.Bytes())
}

func (s *stream) send(data []byte) bool {
	_ = s.control.SetWriteDeadline(time.Now().Add(writeLimit)) // a recorder in a test has none
	if _, err := s.w.Write(data); err != nil {
		return false
	}
	return s.control.Flush() == nil
}
