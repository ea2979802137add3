package replication

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

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
		"a follower starts":   {func(l hclog.Logger) { l.Error("failed to appendEntries to", "error", errors.New("refused")) }, "DEBUG"},
		"a follower is away":  {func(l hclog.Logger) { l.Error("failed to heartbeat to", "error", errors.New("refused")) }, "ERROR"},
		"warning":             {func(l hclog.Logger) { l.Warn("heartbeat timeout reached") }, "WARN"},
		"information":         {func(l hclog.Logger) { l.Info("entering follower state") }, "DEBUG"},
		"trace":               {func(l hclog.Logger) { l.Trace("x") }, ""},
	} {
		var out bytes.Buffer
		c.log(newHCLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))))
		if got := out.String(); (c.want == "") != (got == "") || !strings.Contains(got, "level="+c.want+" ") && c.want != "" {
			t.Errorf("%s: want level %q, got %q", name, c.want, got)
		}
	}
}
