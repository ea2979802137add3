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

	"github.com/holdfast-config/holdfast/replication/alarm"
)

// A member that the leader cannot reach is an alarm once, but not one that starts: for its
// first three seconds. It ends when the member is reached or removed, or another one leads.
func TestAlarmOfAMemberThatIsAway(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]any{
		"reached": raft.ResumedHeartbeatObservation{PeerID: "a"}, "another leader": raft.Follower,
		"removed": raft.PeerObservation{Removed: true, Peer: raft.Server{ID: "a"}},
	} {
		var out bytes.Buffer
		now := time.Now()
		a := NewAwayMembers(slog.New(slog.NewTextHandler(&out, nil)))
		a.now = func() time.Time { return now }
		fail := func(d time.Duration) { // as raft does, twice a second
			for to := now.Add(d); now.Before(to); now = now.Add(time.Second / 2) {
				a.observe(raft.FailedHeartbeatObservation{PeerID: "a"})
			}
		}
		fail(3 * time.Second)
		a.observe(raft.ResumedHeartbeatObservation{PeerID: "a"})
		fail(3 * time.Second)
		if out.Len() > 0 {
			t.Errorf("%s: logged while it starts: %s", name, &out)
		}
		fail(time.Minute)
		if n := strings.Count(out.String(), "level=ERROR"); n != 1 || !strings.Contains(out.String(), alarm.MemberAway.Text) || !strings.Contains(out.String(), "node=a") {
			t.Errorf("%s: logged %d times: %s", name, n, &out)
		}
		a.observe(end)
		a.observe(end)
		if n := strings.Count(out.String(), alarm.MemberAway.End); n != 1 {
			t.Errorf("%s: %d all-clears: %s", name, n, &out)
		}
	}
}

// A snapshot that cannot be made is an alarm until one is made.
func TestAlarmOfSnapshots(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := NewLogger(slog.New(slog.NewTextHandler(&out, nil)))
	l.Error("failed to take snapshot", "error", raft.ErrNothingNewToSnapshot)
	if out.Len() > 0 {
		t.Errorf("nothing new is no fault: %s", &out)
	}
	for range 2 {
		l.Error("failed to take snapshot", "error", errors.New("no space"))
	}
	l.Info("snapshot complete up to", "index", 7)
	if got := out.String(); strings.Count(got, alarm.SnapshotFails.Text) != 1 || strings.Count(got, alarm.SnapshotFails.End) != 1 {
		t.Errorf("log: %s", got)
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
		"error":               {func(l hclog.Logger) { l.Error(decode, "error", errors.New("msgpack: no")) }, "WARN"},
		"error of the peer":   {func(l hclog.Logger) { l.Error(decode, "error", io.ErrUnexpectedEOF) }, "WARN"},
		"connection closed":   {func(l hclog.Logger) { l.Error(decode, "error", cut) }, "DEBUG"},
		"closed, and wrapped": {func(l hclog.Logger) { l.Error("failed to flush response", "error", fmt.Errorf("x: %w", cut)) }, "DEBUG"},
		"pipe closed":         {func(l hclog.Logger) { l.Error(decode, "error", io.ErrClosedPipe) }, "DEBUG"},
		"pipeline ended":      {func(l hclog.Logger) { l.Error("failed to pipeline appendEntries", "error", raft.ErrPipelineShutdown) }, "DEBUG"},
		"a follower starts":   {func(l hclog.Logger) { l.Error("failed to appendEntries to", "error", errors.New("refused")) }, "DEBUG"},
		"a follower restarts": {func(l hclog.Logger) { l.Error("failed to heartbeat to", "error", errors.New("refused")) }, "DEBUG"},
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
