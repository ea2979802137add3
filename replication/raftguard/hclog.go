package raftguard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/holdfast-config/holdfast/replication/alarm"
)

// NewLogger returns a logger for raft that writes to l. Raft's level info is detail
// to an operator: it becomes debug. What raft calls an error is an attempt that it makes
// again: it becomes a warning. What it means for the agent is an alarm of the agent's own.
func NewLogger(l *slog.Logger) hclog.Logger {
	hl := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Off})
	hl.RegisterSink(&sink{l: l, alarms: alarm.NewSet(l)})
	return hl
}

// debugMessages are logged at each attempt while a follower starts, catches up or cannot
// be reached. AwayMembers reports one that stays unreachable.
var debugMessages = map[string]bool{
	"failed to appendEntries to":                 true,
	"failed to heartbeat to":                     true,
	"appendEntries rejected, sending older logs": true,
	"failed to get previous log":                 true,
}

// The messages of snapshots.
const (
	snapshotFailed = "failed to take snapshot"
	snapshotDone   = "snapshot complete up to"
)

type sink struct {
	l      *slog.Logger
	alarms *alarm.Set
}

// Accept implements hclog.SinkAdapter.
func (s *sink) Accept(name string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case hclog.Error, hclog.Warn:
		to = slog.LevelWarn
	case hclog.Trace:
		return
	}
	if debugMessages[msg] || closedHere(args) {
		to = slog.LevelDebug
	}
	switch msg {
	case snapshotFailed:
		if err := errorIn(args); !errors.Is(err, raft.ErrNothingNewToSnapshot) {
			s.alarms.Raise(alarm.SnapshotFails, "", err)
		}
		to = slog.LevelDebug
	case snapshotDone:
		s.alarms.Clear("")
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

// errorIn returns the error among args.
func errorIn(args []any) error {
	for _, a := range args {
		if err, ok := a.(error); ok {
			return err
		}
	}
	return nil
}

// closedHere reports whether args have the error of a connection that this node
// closed: during a shutdown, or because the peer was removed.
func closedHere(args []any) bool {
	err := errorIn(args)
	return errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, raft.ErrPipelineShutdown)
}
