package walstore

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/raftguard"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(moveDirEnv); dir != "" {
		mover(dir)
		return
	}
	os.Exit(base.NoLeaks(m))
}

var discard = slog.New(slog.DiscardHandler)

func options(dir string) Options {
	return Options{Dir: dir, LockTimeout: 5 * time.Second, SegmentSize: 16 << 10, Logger: discard}
}

// log is an open log with its checksums.
type log struct {
	*raftguard.ChecksumStore
	file raftguard.LogFile
}

func tryOpen(tb testing.TB, dir string) (log, error) {
	tb.Helper()
	f, err := Open(tb.Context(), options(dir))
	if err != nil {
		return log{}, err
	}
	tb.Cleanup(func() { f.Close() })
	return log{raftguard.NewChecksumStore(f), f}, nil
}

func open(tb testing.TB, dir string) log {
	tb.Helper()
	l, err := tryOpen(tb, dir)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func (l log) close(tb testing.TB) {
	tb.Helper()
	if err := l.Close(); err != nil {
		tb.Fatal(err)
	}
}

// inSegments is a new log in segments.
func inSegments(tb testing.TB, dir string) log {
	tb.Helper()
	return move(tb, dir, open(tb, dir), WAL)
}

func move(tb testing.TB, dir string, l log, kind string) log {
	tb.Helper()
	f, err := Move(tb.Context(), options(dir), l.file, kind)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	if KindOf(f) != kind {
		tb.Fatalf("the log is in %s", KindOf(f))
	}
	return log{raftguard.NewChecksumStore(f), f}
}

func entry(index uint64, size int) *raft.Log {
	data := bytes.Repeat([]byte{'a' + byte(index%26)}, size)
	return &raft.Log{Index: index, Term: 1 + index/50, Data: data, AppendedAt: time.Unix(int64(index), 0)}
}

func (l log) add(tb testing.TB, sizes ...int) {
	tb.Helper()
	last, err := l.LastIndex()
	if err != nil {
		tb.Fatal(err)
	}
	var entries []*raft.Log
	for i, n := range sizes {
		entries = append(entries, entry(last+1+uint64(i), n))
	}
	if err := l.StoreLogs(entries); err != nil {
		tb.Fatal(err)
	}
}

// holds requires entries first to last, and returns those that do not have their checksum.
func (l log) holds(tb testing.TB, first, last uint64) (damaged int) {
	tb.Helper()
	gotFirst, err := l.FirstIndex()
	gotLast, err2 := l.LastIndex()
	if err := errors.Join(err, err2); err != nil || gotFirst != first || gotLast != last {
		tb.Fatalf("the log has %d to %d, want %d to %d: %v", gotFirst, gotLast, first, last, err)
	}
	for i := first; i <= last && first > 0; i++ {
		var e raft.Log
		if err := l.GetLog(i, &e); conf.CodeOf(err) == conf.CodeCorrupt {
			damaged++
		} else if err != nil {
			tb.Fatalf("entry %d: %v", i, err)
		} else if want := entry(i, len(e.Data)); e.Index != i || e.Term != want.Term || !bytes.Equal(e.Data, want.Data) {
			tb.Fatalf("entry %d: %+v", i, e)
		}
	}
	return damaged
}

// newest is the newest segment of the log in dir.
func newest(tb testing.TB, dir string) string {
	tb.Helper()
	names, err := filepath.Glob(filepath.Join(dir, segmentsDir, "*.wal"))
	if err != nil || len(names) == 0 {
		tb.Fatalf("no segment: %v", err)
	}
	return names[len(names)-1]
}

func read(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func write(tb testing.TB, path string, b []byte) {
	tb.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		tb.Fatal(err)
	}
}

func wantCode(tb testing.TB, err error, want conf.Code) {
	tb.Helper()
	if conf.CodeOf(err) != want {
		tb.Fatalf("code %q, want %q: %v", conf.CodeOf(err), want, err)
	}
}
