package raftguard

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestMain(m *testing.M) { os.Exit(base.NoLeaks(m)) }

const patience = base.Patience

var discard = slog.New(slog.DiscardHandler)

// testConfig is what replication.Options give raft by default.
func testConfig(id raft.ServerID) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = id
	c.LeaderLeaseTimeout = time.Second * 5 / 6
	c.CommitTimeout = 200 * time.Millisecond
	c.BatchApplyCh = true
	c.SnapshotInterval = 30 * time.Second
	c.TrailingLogs = 2048
	c.NoSnapshotRestoreOnStart = true
	c.Logger = NewLogger(discard)
	return c
}

func openLogs(tb testing.TB) (*ChecksumStore, *raftboltdb.BoltStore) {
	tb.Helper()
	b, err := OpenLogFile(tb.Context(), filepath.Join(tb.TempDir(), "raft.db"), time.Second)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { b.Close() })
	return NewChecksumStore(b), b
}

// eventually waits for cond, which must come true.
func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	base.AwaitWithin(tb, patience, what, cond)
}

func wantCode(tb testing.TB, err error, want conf.Code) {
	tb.Helper()
	if conf.CodeOf(err) != want {
		tb.Fatalf("code %q, want %q: %v", conf.CodeOf(err), want, err)
	}
}

// flip changes one bit of a file.
func flip(tb testing.TB, path string, at int64) {
	tb.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		tb.Fatal(err)
	}
	b[0] ^= 1 << (at % 8)
	if _, err := f.WriteAt(b, at); err != nil {
		tb.Fatal(err)
	}
}
