package raftguard

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// Each unreachable member is logged once a minute.
func TestLogOfUnreachableMembers(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	now := time.Now()
	s := &sink{l: slog.New(slog.NewTextHandler(&out, nil)), now: func() time.Time { return now }, lastLogged: map[string]time.Time{}}
	for range 10 {
		for _, peer := range []string{"a:1", "b:1"} {
			s.Accept("", hclog.Error, "failed to heartbeat to", "peer", peer, "error", errors.New("refused"))
		}
		now = now.Add(15 * time.Second)
	}
	if a, b := strings.Count(out.String(), "peer=a:1"), strings.Count(out.String(), "peer=b:1"); a != 3 || b != 3 {
		t.Errorf("logged %d and %d times in 150 seconds, want 3 each:\n%s", a, b, &out)
	}
}

func TestLevelsOfRaftsLog(t *testing.T) {
	t.Parallel()
	const decode = "failed to decode incoming command"
	cut := &net.OpError{Op: "read", Net: "tcp", Err: net.ErrClosed}
	for name, c := range map[string]struct {
		log  func(hclog.Logger)
		want string // "" is nothing at all
	}{
		"error":               {func(l hclog.Logger) { l.Error(decode, "error", errors.New("msgpack: no")) }, "ERROR"},
		"error of the peer":   {func(l hclog.Logger) { l.Error(decode, "error", io.ErrUnexpectedEOF) }, "ERROR"},
		"connection closed":   {func(l hclog.Logger) { l.Error(decode, "error", cut) }, "DEBUG"},
		"closed, and wrapped": {func(l hclog.Logger) { l.Error("failed to flush response", "error", fmt.Errorf("x: %w", cut)) }, "DEBUG"},
		"pipe closed":         {func(l hclog.Logger) { l.Error(decode, "error", io.ErrClosedPipe) }, "DEBUG"},
		"pipeline ended":      {func(l hclog.Logger) { l.Error("failed to pipeline appendEntries", "error", raft.ErrPipelineShutdown) }, "DEBUG"},
		"a follower starts":   {func(l hclog.Logger) { l.Error("failed to appendEntries to", "error", errors.New("refused")) }, "DEBUG"},
		"a follower is away":  {func(l hclog.Logger) { l.Error("failed to heartbeat to", "error", errors.New("refused")) }, "ERROR"},
		"warning":             {func(l hclog.Logger) { l.Warn("heartbeat timeout reached") }, "WARN"},
		"information":         {func(l hclog.Logger) { l.Info("entering follower state") }, "DEBUG"},
		"trace":               {func(l hclog.Logger) { l.Trace("x") }, ""},
	} {
		var out bytes.Buffer
		c.log(NewLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))))
		if got := out.String(); (c.want == "") != (got == "") || !strings.Contains(got, "level="+c.want+" ") && c.want != "" {
			t.Errorf("%s: want level %q, got %q", name, c.want, got)
		}
	}
}
