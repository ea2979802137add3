package replication

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDirEnv); dir != "" {
		killedWriter(dir)
		return
	}
	if os.Getenv(shortBatchEnv) != "" {
		runShortBatch()
		return
	}
	os.Exit(base.NoLeaks(m))
}

// logEnv names the log of this run of the tests; see TestWithTheOtherLog.
const logEnv = "HOLDFAST_TEST_RAFT_LOG"

func logUnderTest() string { return cmp.Or(os.Getenv(logEnv), defaultLog) }

const (
	testEpoch = "2026-01-02T03-04-05-test"
	testTime  = "2026-01-02T03:04:05+00:00"
	patience  = base.Patience
)

// node is a Node with its store.
type node struct {
	*Node
	st   *store.Store
	dir  string
	opts Options

	mu      sync.Mutex
	applied []uint64 // indexes of OnApplied
	stopped bool
}

// Err, Addr, Blocked and Snapshot are for tests only.

func (m *Node) Err() error { return m.fault.Err() }

func (m *Node) Addr() string { return string(m.trans.LocalAddr()) }

func (m *Node) Blocked() error {
	if p := m.fsm.blocked.Load(); p != nil {
		return *p
	}
	return nil
}

// setAside moves the directory of log and snapshots away, as the agent does.
func setAside(tb testing.TB, dir string) {
	tb.Helper()
	if err := os.Rename(dir, filepath.Join(tb.TempDir(), "raft")); err != nil {
		tb.Fatal(err)
	}
}

var discard = slog.New(slog.DiscardHandler)

func storeOptions(dir string) store.Options {
	return store.Options{
		Path: filepath.Join(dir, "config.db"),
		Project: func(service string, _, _ json.RawMessage) ([]conf.Item, error) {
			return []conf.Item{{Service: service, Key: "version", ValueJSON: "1", Type: conf.TypeInteger, Complexity: conf.Simple}}, nil
		},
		ModelHash: func(iter.Seq2[string, []byte]) string { return "none" },
	}
}

func openStore(tb testing.TB, dir string) *store.Store {
	tb.Helper()
	st, err := store.Open(context.Background(), storeOptions(dir))
	if err != nil {
		tb.Fatalf("open the store: %v", err)
	}
	return st
}

// start opens a node in dir, which the end of the test stops. change may be nil.
func start(tb testing.TB, dir string, change func(*Options)) *node {
	tb.Helper()
	n, err := tryStart(tb, dir, change)
	if err != nil {
		tb.Fatalf("open: %v", err)
	}
	return n
}

func tryStart(tb testing.TB, dir string, change func(*Options)) (*node, error) {
	tb.Helper()
	n := &node{dir: dir, st: openStore(tb, dir)}
	n.opts = Options{
		Dir: filepath.Join(dir, "raft"), NodeID: "n1", FSM: n.st, LogStore: logUnderTest(),
		tuning: tuning{
			Heartbeat: 100 * time.Millisecond, Lease: 50 * time.Millisecond, Commit: 5 * time.Millisecond,
			LockTimeout: 100 * time.Millisecond, SnapshotInterval: time.Hour,
		},
		OnApplied: func(index uint64, _ []*conf.Record) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.applied = append(n.applied, index)
		},
	}
	if os.Getenv("RAFT_LOG") != "" {
		n.opts.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if change != nil {
		change(&n.opts)
	}
	if n.opts.Transport == nil {
		n.opts.Transport = transport(tb)
	}
	m, err := Open(tb.Context(), n.opts)
	if err != nil {
		n.st.Close()
		return nil, err
	}
	n.Node = m
	tb.Cleanup(func() { n.close(tb) })
	return n, nil
}

func (n *node) close(tb testing.TB) {
	tb.Helper()
	if n.stopped {
		return
	}
	n.stopped = true
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		tb.Errorf("stop: %v", err)
	}
	if err := n.st.Close(); err != nil {
		tb.Errorf("close the store: %v", err)
	}
}

// eventually waits for cond, which must come true.
func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			tb.Fatalf("did not happen: %s", what)
		}
	}
}

func (n *node) lead(tb testing.TB) *node {
	tb.Helper()
	eventually(tb, "leading", n.IsLeader)
	return n
}

// fresh starts a node that leads and has its genesis.
func fresh(tb testing.TB, dir string, change func(*Options)) *node {
	tb.Helper()
	n := start(tb, dir, change).lead(tb)
	n.must(tb, &command.Genesis{Epoch: testEpoch, At: testTime, NodeID: "n1", Reason: "test"})
	return n
}

func (n *node) must(tb testing.TB, c command.Command) command.Result {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	r, err := n.Propose(ctx, c)
	if err != nil {
		tb.Fatalf("propose: %v", err)
	}
	if r.Err != nil {
		tb.Fatalf("refused: %v", r.Err)
	}
	return r
}

// edit makes version of service, with a document that tells them.
func edit(service string, version uint64) *command.Edit {
	values := fmt.Appendf(nil, `{"name":%q,"padding":"0123456789012345678901234567890123456789","version":%d}`, service, version)
	return &command.Edit{
		ID: fmt.Sprintf("%s-%d", service, version), Epoch: testEpoch, At: testTime, By: "tester", Reason: "test", Action: command.ActionPut,
		Updates: []command.Update{{
			Service: service, Prev: version - 1, Version: version, Values: values, Config: values,
			Checksum: fmt.Sprintf("%x", sha256.Sum256(values)), IssuedAt: testTime, Signature: "c2ln", KeyID: "0123456789abcdef",
		}},
	}
}

// write makes versions from to to of service.
func (n *node) write(tb testing.TB, service string, from, to uint64) {
	tb.Helper()
	for v := from; v <= to; v++ {
		n.must(tb, edit(service, v))
	}
}

// version is what the store has of service, 0 when it has nothing.
func version(tb testing.TB, st *store.Store, service string) uint64 {
	tb.Helper()
	r, err := st.Queries.Record(context.Background(), service)
	if errors.Is(err, conf.ErrNotFound) || (err == nil && r == nil) {
		return 0
	}
	if err != nil {
		tb.Fatalf("record of %s: %v", service, err)
	}
	if want := edit(service, r.Version).Updates[0].Values; r.Version > 0 && string(r.Config) != string(want) {
		tb.Fatalf("%s at version %d is %s, want %s", service, r.Version, r.Config, want)
	}
	return r.Version
}

func wantVersion(tb testing.TB, n *node, service string, want uint64) {
	tb.Helper()
	eventually(tb, fmt.Sprintf("%s at version %d", service, want), func() bool { return version(tb, n.st, service) >= want })
	if got := version(tb, n.st, service); got != want {
		tb.Fatalf("%s is at version %d, want %d", service, got, want)
	}
}

func wantCode(tb testing.TB, err error, want conf.Code) {
	tb.Helper()
	if conf.CodeOf(err) != want {
		tb.Fatalf("code %q, want %q: %v", conf.CodeOf(err), want, err)
	}
}

// removeStore deletes the store's files.
func removeStore(tb testing.TB, dir string) {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "config.db*"))
	if err != nil || len(files) == 0 {
		tb.Fatalf("no store in %s: %v", dir, err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			tb.Fatal(err)
		}
	}
}

// copyDir copies the files under from.
func copyDir(tb testing.TB, from, to string) {
	tb.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, b, 0o600)
	})
	if err != nil {
		tb.Fatal(err)
	}
}

func snapshotNow(tb testing.TB, n *node) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	if err := n.Snapshot(ctx); err != nil {
		tb.Fatalf("snapshot: %v", err)
	}
}
