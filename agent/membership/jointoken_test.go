package membership

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv/base"
)

// A joiner that is started before the agent that starts the cluster waits for the
// token file, until it is stopped.
func TestJoinTokenFileIsAwaited(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "join-token")
	var log bytes.Buffer
	m := New(Options{Options: &options.Options{Joining: options.Joining{JoinTokenFile: path}}, Logger: slog.New(slog.NewTextHandler(&log, nil))})

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.joinToken(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), path) {
		t.Errorf("stopped: %v", err)
	}
	if !strings.Contains(log.String(), "waiting for the file with the join token") || !strings.Contains(log.String(), path) {
		t.Errorf("the log does not say what it waits for: %q", log.String())
	}

	type result struct {
		token string
		err   error
	}
	got := make(chan result, 1)
	if err := os.WriteFile(path, []byte("\n"), 0o600); err != nil { // made, and not filled yet
		t.Fatal(err)
	}
	go func() {
		token, err := m.joinToken(t.Context())
		got <- result{token, err}
	}()
	if err := process.ReplaceLine(path, 0o600, "HF1token"); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-got:
		if r.token != "HF1token" || r.err != nil {
			t.Errorf("got %q, %v", r.token, r.err)
		}
	case <-time.After(base.Patience):
		t.Fatal("the file was not noticed")
	}
}

// What waiting does not mend is told at once.
func TestJoinTokenRefused(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]options.Options{"nothing set": {}, "not a file": {Joining: options.Joining{JoinTokenFile: t.TempDir()}}} {
		m := New(Options{Options: &o, Logger: slog.New(slog.DiscardHandler)})
		if _, err := m.joinToken(t.Context()); conf.CodeOf(err) != conf.CodeUsage {
			t.Errorf("%s: %v", name, err)
		}
	}
}
