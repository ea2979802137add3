package admin

import (
	"context"
	"crypto/sha256"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/connlimit"
)

const (
	maxRunning     = 256 // requests that are worked on at a time
	maxRunningFrom = 128 // of one source: another one always finds room
	maxInLine      = 512 // requests of one source that wait for their turn
	linePatience   = 5 * time.Second
	lineRetry      = 1 // seconds after which a source that was refused may ask again
)

// Share divides an agent between those who ask it: so many requests are worked on at
// a time, half of them at most of one source, and those that wait have their turn
// source by source. What one source sends too much waits behind its own. The
// handlers of one agent have one Share, so that it makes no difference by which way
// a request came.
type Share struct {
	all, from, line int
	patience        time.Duration

	mu      sync.Mutex
	running int
	lanes   map[[sha256.Size]byte]*lane
	turn    []*lane // those in which somebody waits; the first one is next

	attempts, requests, connections atomic.Uint64
}

// lane is one source.
type lane struct {
	running int
	waiting []chan struct{} // closed when it is that one's turn
}

// NewShare makes one with the default limits.
func NewShare() *Share { return newShare(maxRunning, maxRunningFrom, maxInLine, linePatience) }

func newShare(all, from, line int, patience time.Duration) *Share {
	return &Share{all: all, from: from, line: line, patience: patience, lanes: map[[sha256.Size]byte]*lane{}}
}

// Refusals is how many were answered 429: attempts after too many that failed,
// requests of a source that has too many under way, and connections.
type Refusals struct {
	Attempts, Requests, Connections uint64
}

// Refused tells how many were turned away.
func (s *Share) Refused() Refusals {
	return Refusals{s.attempts.Load(), s.requests.Load(), s.connections.Load()}
}

// enter waits for a turn of this source. leave gives it back.
func (s *Share) enter(ctx context.Context, source [sha256.Size]byte) (leave func(), err error) {
	s.mu.Lock()
	l := s.lanes[source]
	if l == nil {
		l = &lane{}
		s.lanes[source] = l
	}
	leave = func() { s.leave(source, l) }
	if s.running < s.all && l.running < s.from { // then nobody waits who could go on
		s.running++
		l.running++
		s.mu.Unlock()
		return leave, nil
	}
	if len(l.waiting) >= s.line {
		s.mu.Unlock()
		return nil, s.refuse()
	}
	mine := make(chan struct{})
	if len(l.waiting) == 0 {
		s.turn = append(s.turn, l)
	}
	l.waiting = append(l.waiting, mine)
	s.mu.Unlock()

	t := time.NewTimer(s.patience)
	defer t.Stop()
	select {
	case <-mine:
		return leave, nil
	case <-t.C:
	case <-ctx.Done():
	}
	s.mu.Lock()
	i := slices.Index(l.waiting, mine)
	if i < 0 { // its turn came just now
		s.mu.Unlock()
		return leave, nil
	}
	l.waiting = slices.Delete(l.waiting, i, i+1)
	if len(l.waiting) == 0 {
		s.turn = slices.DeleteFunc(s.turn, func(o *lane) bool { return o == l })
		s.forget(source, l)
	}
	s.mu.Unlock()
	return nil, s.refuse()
}

func (s *Share) leave(source [sha256.Size]byte, l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	l.running--
	s.next()
	s.forget(source, l)
}

// next lets in who waits, one of each source after the other.
func (s *Share) next() {
	for i := 0; i < len(s.turn) && s.running < s.all; {
		l := s.turn[i]
		if l.running >= s.from {
			i++
			continue
		}
		close(l.waiting[0])
		l.waiting = l.waiting[1:]
		l.running++
		s.running++
		s.turn = slices.Delete(s.turn, i, i+1)
		if len(l.waiting) > 0 {
			s.turn = append(s.turn, l)
		}
	}
}

func (s *Share) forget(source [sha256.Size]byte, l *lane) {
	if l.running == 0 && len(l.waiting) == 0 && s.lanes[source] == l {
		delete(s.lanes, source)
	}
}

func (s *Share) refuse() error {
	s.requests.Add(1)
	return &edgeError{
		err: conf.Errorf(conf.CodeRateLimited, "too many requests at a time of one caller").
			WithHint("send fewer at a time, each after the answer to the one before; this one changed nothing, and may be sent again after %d s", lineRetry),
		header: map[string][]string{"Retry-After": {strconv.Itoa(lineRetry)}},
	}
}

// asker is the source of a request: the token that was taken, whatever address it
// came from, so that callers behind one proxy have each their own share; otherwise
// the address.
func (h *Handler) asker(c *call) [sha256.Size]byte {
	source := connlimit.Source(c.r.RemoteAddr)
	token := c.r.Header.Get(TokenHeader)
	if token != "" && (c.who.Name != "" || h.o.Relay && h.failures.knows(source, token)) {
		return sha256.Sum256([]byte("token " + token))
	}
	return sha256.Sum256([]byte("address " + source.String()))
}
