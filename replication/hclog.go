package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// newHCLog gives raft a logger that writes to l. What raft calls information is
// detail to an operator: it arrives one level lower.
func newHCLog(l *slog.Logger) hclog.Logger {
	hl := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Off})
	hl.RegisterSink(&sink{l: l, now: time.Now, said: map[string]time.Time{}})
	return hl
}

// chatter is what raft says at each try while a follower starts or catches up. A
// follower that stays away is told of by "failed to heartbeat to".
var chatter = map[string]bool{
	"failed to appendEntries to":                 true,
	"appendEntries rejected, sending older logs": true,
	"failed to get previous log":                 true,
}

// awayEvery is how often the log tells of one that stays away: raft tries it twice a second.
const (
	awayMessage = "failed to heartbeat to"
	awayEvery   = time.Minute
)

type sink struct {
	l   *slog.Logger
	now func() time.Time

	mu   sync.Mutex
	said map[string]time.Time // when a peer that is away was told of
}

// told says whether the log has it of that peer already, in the last minute.
func (s *sink) told(args []any) bool {
	peer := ""
	for i := 0; i+1 < len(args); i += 2 {
		if args[i] == "peer" {
			peer = fmt.Sprint(args[i+1])
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if at, ok := s.said[peer]; ok && now.Sub(at) < awayEvery {
		return true
	}
	for p, at := range s.said { // those that came back, or were removed
		if now.Sub(at) >= awayEvery {
			delete(s.said, p)
		}
	}
	s.said[peer] = now
	return false
}

func (s *sink) Accept(name string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case hclog.Error:
		to = slog.LevelError
	case hclog.Warn:
		to = slog.LevelWarn
	case hclog.Trace:
		return
	}
	if chatter[msg] || closedHere(args) {
		to = slog.LevelDebug
	}
	if msg == awayMessage && to > slog.LevelDebug && s.told(args) {
		to = slog.LevelDebug
	}
	ctx := context.Background()
	if !s.l.Enabled(ctx, to) {
		return
	}
	attrs := make([]any, 0, len(args)+2)
	if name != "" {
		attrs = append(attrs, "part", name)
	}
	for _, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			if layout, ok := f[0].(string); ok {
				a = fmt.Sprintf(layout, f[1:]...)
			}
		}
		attrs = append(attrs, a)
	}
	s.l.Log(ctx, to, "raft: "+msg, attrs...)
}

// closedHere says whether args tell of a connection that this side has closed: at
// a stop, or because the other side was removed. That is no error of anybody's.
func closedHere(args []any) bool {
	for _, a := range args {
		if err, ok := a.(error); ok && (errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, raft.ErrPipelineShutdown)) {
			return true
		}
	}
	return false
}
