package agent

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/transport"
	"github.com/holdfast-config/holdfast/testenv"
)

// A joiner that is started before the agent that starts the cluster waits for the
// token file, until it is stopped.
func TestJoinTokenFileIsAwaited(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "join-token")
	var log bytes.Buffer
	c := &cluster{o: Options{JoinTokenFile: path}, log: slog.New(slog.NewTextHandler(&log, nil))}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.joinToken(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), path) {
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
		token, err := c.joinToken(t.Context())
		got <- result{token, err}
	}()
	if err := replaceLine(path, 0o600, "HF1token"); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-got:
		if r.token != "HF1token" || r.err != nil {
			t.Errorf("got %q, %v", r.token, r.err)
		}
	case <-time.After(testenv.Patience):
		t.Fatal("the file was not noticed")
	}
}

// What waiting does not mend is told at once.
func TestJoinTokenRefused(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{"nothing set": {}, "not a file": {JoinTokenFile: t.TempDir()}} {
		c := &cluster{o: o, log: slog.New(slog.DiscardHandler)}
		if _, err := c.joinToken(t.Context()); conf.CodeOf(err) != conf.CodeUsage {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The agent that starts a cluster keeps a token for each role where it is told to.
// What an earlier cluster left there lets nobody in, and is replaced.
func TestJoinTokensAreKept(t *testing.T) {
	dir := t.TempDir()
	kept, stale := filepath.Join(dir, "server"), "HF1"+strings.Repeat("0", 64)+"::0123456789abcdef:"+strings.Repeat("A", 43)
	if err := os.WriteFile(kept, []byte(stale), 0o644); err != nil {
		t.Fatal(err)
	}
	o := options(t, map[string]string{"CONFIG_SERVER_TOKEN_PATH": kept})
	r := start(t, o).ready()
	first := map[string]string{}
	for role, path := range map[string]string{"server": kept, "sidecar": o.SidecarTokenPath} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		tok, err := transport.ParseToken(strings.TrimSpace(string(data)))
		if err != nil || tok.String() == stale || tok.CAHash != transport.HashCA(r.cluster.port.Identity().CAs[0]) {
			t.Errorf("%s: the file holds no token of this cluster: %v", role, err)
		}
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", role, fi.Mode(), err)
		}
		list, err := r.cluster.Tokens(t.Context())
		if err != nil || !slices.ContainsFunc(list, func(i conf.JoinTokenInfo) bool { return i.ID == tok.ID && i.Role == role && i.Uses == 0 }) {
			t.Errorf("%s: the token is not in the list: %+v, %v", role, list, err)
		}
		first[path] = string(data)
	}
	if _, err := os.Stat(filepath.Join(o.DataDir, "join-token")); err == nil {
		t.Error("the token for servers is kept in the data directory, too")
	}
	r.halt()

	start(t, o).ready() // and stay the same
	for path, was := range first {
		if data, err := os.ReadFile(path); err != nil || string(data) != was {
			t.Errorf("%s changed with a restart: %v", path, err)
		}
	}

	o = options(t, map[string]string{"CONFIG_SERVER_TOKEN_PATH": "none", "CONFIG_SIDECAR_TOKEN_PATH": "none"})
	start(t, o).ready()
	if found, _ := filepath.Glob(filepath.Join(o.DataDir, "join-token*")); found != nil {
		t.Errorf("kept although it was turned off: %v", found)
	}
}
