package raftguard

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

var someServers = raft.Configuration{Servers: []raft.Server{{ID: "n1", Address: "127.0.0.1:1"}, {Suffrage: raft.Nonvoter, ID: "n2", Address: "127.0.0.1:2"}}}

func newSnapshots(tb testing.TB) *SnapshotStore {
	tb.Helper()
	return reOpenSnapshots(tb, filepath.Join(tb.TempDir(), "snapshots"))
}

func reOpenSnapshots(tb testing.TB, dir string) *SnapshotStore {
	tb.Helper()
	s, err := OpenSnapshots(dir, discard)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func state(index uint64) []byte { return bytes.Repeat(fmt.Appendf(nil, "state at %d. ", index), 50) }

func take(tb testing.TB, s *SnapshotStore, index, term uint64) string {
	tb.Helper()
	k, err := s.Create(1, index, term, someServers, index-1, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := k.Write(state(index)); err != nil {
		tb.Fatal(err)
	}
	for range 2 { // as raft does
		if err := k.Close(); err != nil {
			tb.Fatal(err)
		}
	}
	return k.ID()
}

func indexes(tb testing.TB, s *SnapshotStore) (out []uint64) {
	tb.Helper()
	metas, err := s.List()
	if err != nil {
		tb.Fatal(err)
	}
	for _, m := range metas {
		out = append(out, m.Index)
	}
	return out
}

func TestSnapshotRoundTrip(t *testing.T) {
	s := newSnapshots(t)
	id := take(t, s, 10, 2)
	m, r, err := s.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, state(10)) || m.Size != int64(len(got)) {
		t.Fatalf("%d bytes of %d, %v", len(got), m.Size, err)
	}
	if m.Index != 10 || m.Term != 2 || m.ConfigurationIndex != 9 || m.Version != 1 || fmt.Sprint(m.Configuration) != fmt.Sprint(someServers) {
		t.Fatalf("meta data %+v", m)
	}
}

func TestTwoSnapshotsAreKept(t *testing.T) {
	s := newSnapshots(t)
	for i := uint64(1); i <= 5; i++ {
		take(t, s, i*10, 1)
	}
	take(t, s, 5, 2) // a later term beats a higher index
	if got := fmt.Sprint(indexes(t, s)); got != "[5 50]" {
		t.Fatalf("kept %s", got)
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%d directories, %v", len(entries), err)
	}
}

func TestUnfinishedSnapshotIsRemoved(t *testing.T) {
	s := newSnapshots(t)
	take(t, s, 10, 1)
	k, err := s.Create(1, 20, 1, someServers, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Write(state(20)); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(indexes(t, s)); got != "[10]" {
		t.Fatalf("an unfinished snapshot is listed: %s", got)
	}
	s = reOpenSnapshots(t, s.dir) // the process died
	if entries, err := os.ReadDir(s.dir); err != nil || len(entries) != 1 {
		t.Fatalf("%d directories, %v", len(entries), err)
	}
	if k, err = s.Create(1, 30, 1, someServers, 1, nil); err != nil {
		t.Fatal(err)
	}
	if err := k.Cancel(); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(s.dir); err != nil || len(entries) != 1 {
		t.Fatalf("a cancelled snapshot left %d directories, %v", len(entries), err)
	}
}

// TestEveryFlipInASnapshotIsFound flips each byte of each file of the newest of two.
func TestEveryFlipInASnapshotIsFound(t *testing.T) {
	s := newSnapshots(t)
	take(t, s, 10, 1)
	id := take(t, s, 20, 1)
	for _, name := range []string{metaName, stateName} {
		path := filepath.Join(s.dir, id, name)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		for at := range info.Size() {
			flip(t, path, at)
			s := reOpenSnapshots(t, s.dir)
			if got := fmt.Sprint(indexes(t, s)); got != "[10]" {
				t.Fatalf("%s, byte %d: listed %s", name, at, got)
			}
			_, _, err := s.Open(id)
			wantCode(t, err, conf.CodeCorrupt)
			flip(t, path, at)
		}
		for size := range info.Size() {
			if size%64 != 0 {
				continue
			}
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, size); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(indexes(t, reOpenSnapshots(t, s.dir))); got != "[10]" {
				t.Fatalf("%s of %d bytes: listed %s", name, size, got)
			}
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := fmt.Sprint(indexes(t, reOpenSnapshots(t, s.dir))); got != "[20 10]" {
		t.Fatalf("undamaged: listed %s", got)
	}
}

// TestDamageThatComesLater is found when the snapshot is opened, and the older
// one takes its place; the next snapshot sweeps it away.
func TestDamageThatComesLater(t *testing.T) {
	s := newSnapshots(t)
	var log bytes.Buffer
	s.alarms = alarm.NewSet(slog.New(slog.NewTextHandler(&log, nil)))
	take(t, s, 10, 1)
	id := take(t, s, 20, 1)
	if got := fmt.Sprint(indexes(t, s)); got != "[20 10]" {
		t.Fatalf("listed %s", got)
	}
	flip(t, filepath.Join(s.dir, id, stateName), 5)
	if _, _, err := s.Open(id); conf.CodeOf(err) != conf.CodeCorrupt {
		t.Fatalf("opened a damaged snapshot: %v", err)
	}
	if got := fmt.Sprint(indexes(t, s)); got != "[10]" {
		t.Fatalf("listed %s", got)
	}
	take(t, s, 30, 1)
	if got := fmt.Sprint(indexes(t, s)); got != "[30 10]" || exists(filepath.Join(s.dir, id)) {
		t.Fatalf("listed %s", got)
	}
	if got := log.String(); strings.Count(got, alarm.SnapshotDamaged.Text) != 1 || strings.Count(got, alarm.SnapshotDamaged.End) != 1 {
		t.Errorf("log: %s", got)
	}
}

func TestUnknownSnapshot(t *testing.T) {
	if _, _, err := newSnapshots(t).Open("1-2-3"); conf.CodeOf(err) != conf.CodeCorrupt {
		t.Fatalf("error %v", err)
	}
}

// TestFileSnapshotStoreTrustsItsMetadata: without the guard a changed index in the
// metadata of a snapshot goes unnoticed.
func TestFileSnapshotStoreTrustsItsMetadata(t *testing.T) {
	dir := t.TempDir()
	s, err := raft.NewFileSnapshotStore(dir, 2, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	_, trans := raft.NewInmemTransport("")
	k, err := s.Create(1, 20, 1, someServers, 1, trans)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "snapshots", k.ID(), "meta.json")
	meta, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(meta, []byte(`"Index":20`), []byte(`"Index":30`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	metas, err := s.List()
	if err != nil || len(metas) != 1 || metas[0].Index != 30 {
		t.Fatalf("without the guard nothing happened: the test proves nothing: %+v, %v", metas, err)
	}
}
