package raftguard

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

// NewLogger returns a logger for raft that writes to l. Raft's level info is detail
// to an operator: it becomes debug.
func NewLogger(l *slog.Logger) hclog.Logger {
	hl := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Off})
	hl.RegisterSink(&sink{l: l, now: time.Now, lastLogged: map[string]time.Time{}})
	return hl
}

// debugMessages are logged at each attempt while a follower starts or catches up. A
// follower that stays unreachable is reported by unreachableMessage.
var debugMessages = map[string]bool{
	"failed to appendEntries to":                 true,
	"appendEntries rejected, sending older logs": true,
	"failed to get previous log":                 true,
}

// Raft logs an unreachable follower twice a second.
const (
	unreachableMessage  = "failed to heartbeat to"
	unreachableInterval = time.Minute
)

type sink struct {
	l   *slog.Logger
	now func() time.Time

	mu         sync.Mutex
	lastLogged map[string]time.Time // by unreachable peer
}

// suppressed reports whether the peer in args was logged less than
// unreachableInterval ago, and notes the time if not.
func (s *sink) suppressed(args []any) bool {
	peer := ""
	for i := 0; i+1 < len(args); i += 2 {
		if args[i] == "peer" {
			peer = fmt.Sprint(args[i+1])
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if at, ok := s.lastLogged[peer]; ok && now.Sub(at) < unreachableInterval {
		return true
	}
	for p, at := range s.lastLogged { // reachable again, or removed
		if now.Sub(at) >= unreachableInterval {
			delete(s.lastLogged, p)
		}
	}
	s.lastLogged[peer] = now
	return false
}

// Accept implements hclog.SinkAdapter.
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
	if debugMessages[msg] || closedHere(args) {
		to = slog.LevelDebug
	}
	if msg == unreachableMessage && to > slog.LevelDebug && s.suppressed(args) {
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

// closedHere reports whether args have the error of a connection that this node
// closed: during a shutdown, or because the peer was removed.
func closedHere(args []any) bool {
	for _, a := range args {
		if err, ok := a.(error); ok && (errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, raft.ErrPipelineShutdown)) {
			return true
		}
	}
	return false
}
