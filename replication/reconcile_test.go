package replication

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/raftguard"
	"github.com/holdfast-config/holdfast/replication/store"
	"github.com/holdfast-config/holdfast/replication/walstore"
)

// trimmed truncates the log shortly before each snapshot.
func trimmed(o *Options) { o.TrailingLogs = 5 }

func TestStoreIsRebuiltFromTheLog(t *testing.T) {
	dir := t.TempDir()
	n := fresh(t, dir, nil)
	n.write(t, "router", 1, 30)
	digest := n.st.Digest()
	n.close(t)
	removeStore(t, dir)
	n = start(t, dir, nil).lead(t)
	wantVersion(t, n, "router", 30)
	if got := n.st.Digest(); got != digest {
		t.Fatalf("digest %s, want %s", got, digest)
	}
	n.write(t, "router", 31, 31)
}

func TestStoreIsRebuiltFromSnapshotAndLog(t *testing.T) {
	dir := t.TempDir()
	n := fresh(t, dir, trimmed)
	n.write(t, "router", 1, 30)
	snapshotNow(t, n)
	n.write(t, "router", 31, 40)
	if first, _ := n.logs.FirstIndex(); first < 20 {
		t.Fatalf("the log was not cut: it starts at %d", first)
	}
	digest := n.st.Digest()
	n.close(t)
	removeStore(t, dir)
	// The log is read as soon as the node leads, so only the callback sees the state before.
	var restored []uint64
	n = start(t, dir, func(o *Options) {
		trimmed(o)
		st := o.FSM.(*store.Store)
		o.OnRestored = func() { restored = append(restored, version(t, st, "router")) }
	})
	if !slices.Equal(restored, []uint64{30}) {
		t.Fatalf("restored at versions %v, want once, at 30", restored)
	}
	n.lead(t)
	wantVersion(t, n, "router", 40)
	if got := n.st.Digest(); got != digest {
		t.Fatalf("digest %s, want %s", got, digest)
	}
	n.write(t, "router", 41, 41)
}

func TestStoreBehindTheSnapshotIsRestored(t *testing.T) {
	dir, old := t.TempDir(), t.TempDir()
	n := fresh(t, dir, trimmed)
	n.write(t, "router", 1, 10)
	n.close(t)
	copyDir(t, dir, old)
	n = start(t, dir, trimmed).lead(t)
	n.write(t, "router", 11, 40)
	snapshotNow(t, n)
	n.write(t, "router", 41, 42)
	digest := n.st.Digest()
	n.close(t)
	if err := os.RemoveAll(filepath.Join(old, "raft")); err != nil {
		t.Fatal(err)
	}
	copyDir(t, filepath.Join(dir, "raft"), filepath.Join(old, "raft"))
	n = start(t, old, trimmed).lead(t)
	wantVersion(t, n, "router", 42)
	if n.st.Digest() != digest {
		t.Fatal("another state than before")
	}
}

func TestStoreAheadOfTheSnapshotIsNotTakenBack(t *testing.T) {
	dir := t.TempDir()
	n := fresh(t, dir, trimmed)
	n.write(t, "router", 1, 10)
	snapshotNow(t, n)
	n.write(t, "router", 11, 15)
	n.close(t)
	n = start(t, dir, func(o *Options) { o.OnRestored = func() { t.Error("an old snapshot was restored") } })
	if v := version(t, n.st, "router"); v != 15 {
		t.Fatalf("version %d", v)
	}
}

func TestLogIsGone(t *testing.T) {
	dir := t.TempDir()
	n := fresh(t, dir, nil)
	n.write(t, "router", 1, 30)
	index, _ := n.st.Applied()
	term, digest := n.Term(), n.st.Digest()
	n.close(t)
	setAside(t, filepath.Join(dir, "raft"))
	n = start(t, dir, nil).lead(t)
	if n.Term() <= term {
		t.Fatalf("term %d after term %d", n.Term(), term)
	}
	r := n.must(t, edit("router", 31))
	if r.Index <= index {
		t.Fatalf("index %d was used before: the store had applied %d", r.Index, index)
	}
	n.close(t)
	removeStore(t, dir) // the new snapshot has all of it
	n = start(t, dir, nil).lead(t)
	wantVersion(t, n, "router", 31)
	if digest == n.st.Digest() {
		t.Fatal("the last write is missing")
	}
}

// TestCrashWhileReseeding starts from each state that a crash in the middle of
// TestLogIsGone's recovery leaves.
func TestCrashWhileReseeding(t *testing.T) {
	dir := t.TempDir()
	n := fresh(t, dir, nil)
	n.write(t, "router", 1, 5)
	n.close(t)
	if err := os.RemoveAll(filepath.Join(dir, "raft", "snapshots")); err != nil {
		t.Fatal(err)
	}
	edited(t, dir, func(b raftguard.LogFile) { // the term is there, the snapshot is not
		if err := b.DeleteRange(1, 100); err != nil {
			t.Fatal(err)
		}
	})
	n = start(t, dir, nil).lead(t)
	n.write(t, "router", 6, 6)
}

func TestCrashWhileStarting(t *testing.T) {
	dir := t.TempDir()
	start(t, dir, func(o *Options) { o.Join = true }).close(t)
	edited(t, dir, func(b raftguard.LogFile) {
		if err := raftguard.NewChecksumStore(b).SetUint64([]byte("CurrentTerm"), 1); err != nil {
			t.Fatal(err)
		}
	})
	fresh(t, dir, nil).write(t, "router", 1, 1)
}

// edited changes the log of the closed node in dir without the checks.
func edited(tb testing.TB, dir string, change func(raftguard.LogFile)) {
	tb.Helper()
	b, err := walstore.Open(tb.Context(), walstore.Options{Dir: filepath.Join(dir, "raft"), LockTimeout: patience, Logger: discard})
	if err != nil {
		tb.Fatal(err)
	}
	change(b)
	if err := b.Close(); err != nil {
		tb.Fatal(err)
	}
}

// spoil changes one byte of the data of an entry.
func spoil(tb testing.TB, dir string, index uint64) {
	tb.Helper()
	edited(tb, dir, func(b raftguard.LogFile) {
		var l raft.Log
		if err := b.GetLog(index, &l); err != nil {
			tb.Fatal(err)
		}
		l.Data[len(l.Data)/2] ^= 1
		replace(tb, b, &l)
	})
}

// replace stores l instead of the entry with its index; what follows stays as it is.
func replace(tb testing.TB, s raft.LogStore, l *raft.Log) {
	tb.Helper()
	last, err := s.LastIndex()
	if err != nil {
		tb.Fatal(err)
	}
	entries := []*raft.Log{l}
	for i := l.Index + 1; i <= last; i++ {
		e := new(raft.Log)
		if err := s.GetLog(i, e); err != nil {
			tb.Fatal(err)
		}
		entries = append(entries, e)
	}
	if err := s.DeleteRange(l.Index, last); err != nil {
		tb.Fatal(err)
	}
	if err := s.StoreLogs(entries); err != nil {
		tb.Fatal(err)
	}
}

// mustRecover opens the node in dir as the agent does it: when the log is
// corrupt it is set aside, and the node continues from its store.
func mustRecover(tb testing.TB, dir string, change func(*Options)) *node {
	tb.Helper()
	_, err := tryStart(tb, dir, change)
	wantCode(tb, err, conf.CodeCorrupt)
	if conf.HintOf(err) == "" {
		tb.Fatalf("no hint in %v", err)
	}
	setAside(tb, filepath.Join(dir, "raft"))
	return start(tb, dir, change).lead(tb)
}

func TestEndOfTheLogIsLost(t *testing.T) {
	dir, old := t.TempDir(), t.TempDir()
	n := fresh(t, dir, nil)
	n.write(t, "router", 1, 10)
	n.close(t)
	copyDir(t, filepath.Join(dir, "raft"), old)
	n = start(t, dir, nil).lead(t)
	n.write(t, "router", 11, 20)
	n.close(t)
	if err := os.RemoveAll(filepath.Join(dir, "raft")); err != nil {
		t.Fatal(err)
	}
	copyDir(t, old, filepath.Join(dir, "raft"))
	// With this log the next ten writes would get indexes that the store has applied,
	// and be skipped.
	n = mustRecover(t, dir, nil)
	n.write(t, "router", 21, 21)
	wantVersion(t, n, "router", 21)
}

func TestStoreOfAnotherHistory(t *testing.T) {
	dir := t.TempDir()
	n := fresh(t, dir, nil)
	n.write(t, "router", 1, 5)
	index, _ := n.st.Applied()
	n.close(t)
	edited(t, dir, func(b raftguard.LogFile) { // as another leader's log would have it
		c := raftguard.NewChecksumStore(b)
		var l raft.Log
		if err := c.GetLog(index, &l); err != nil {
			t.Fatal(err)
		}
		l.Term += 5
		replace(t, c, &l)
		if err := c.SetUint64([]byte("CurrentTerm"), l.Term); err != nil {
			t.Fatal(err)
		}
	})
	mustRecover(t, dir, nil).write(t, "router", 6, 6)
}

func TestTermIsLost(t *testing.T) {
	dir := t.TempDir()
	n := fresh(t, dir, nil)
	n.write(t, "router", 1, 5)
	n.close(t)
	edited(t, dir, func(b raftguard.LogFile) {
		if err := raftguard.NewChecksumStore(b).SetUint64([]byte("CurrentTerm"), 1); err != nil {
			t.Fatal(err)
		}
	})
	mustRecover(t, dir, nil).write(t, "router", 6, 6)
}

func TestHoleBetweenStoreAndLog(t *testing.T) {
	dir := t.TempDir()
	n := fresh(t, dir, trimmed)
	n.write(t, "router", 1, 30)
	snapshotNow(t, n)
	n.write(t, "router", 31, 35)
	n.close(t)
	removeStore(t, dir)
	if err := os.RemoveAll(filepath.Join(dir, "raft", "snapshots")); err != nil {
		t.Fatal(err)
	}
	_, err := tryStart(t, dir, trimmed)
	wantCode(t, err, conf.CodeCorrupt)
}

func TestSnapshotsAreGone(t *testing.T) {
	dir := t.TempDir()
	n := fresh(t, dir, trimmed)
	n.write(t, "router", 1, 30)
	snapshotNow(t, n)
	n.write(t, "router", 31, 35)
	n.updateMembership(t) // so that the log has the members
	n.close(t)
	if err := os.RemoveAll(filepath.Join(dir, "raft", "snapshots")); err != nil {
		t.Fatal(err)
	}
	// The store has what the log lacks: the log can still be used.
	n = start(t, dir, trimmed).lead(t)
	n.write(t, "router", 36, 36)
	n.close(t)
	removeStore(t, dir)
	n = start(t, dir, trimmed).lead(t)
	wantVersion(t, n, "router", 36)
}

func (n *node) updateMembership(tb testing.TB) {
	tb.Helper()
	n.addVoter(tb, n.opts.NodeID, n.Addr()+"0")
	n.addVoter(tb, n.opts.NodeID, n.Addr())
	n.must(tb, edit("membership", 1))
}

// newestSnapshot is the directory of the newest snapshot of the node in dir.
func newestSnapshot(tb testing.TB, dir string) string {
	tb.Helper()
	dir = filepath.Join(dir, "raft", "snapshots")
	s, err := raftguard.OpenSnapshots(dir, discard)
	if err != nil {
		tb.Fatal(err)
	}
	metas, err := s.List()
	if err != nil || len(metas) == 0 {
		tb.Fatalf("no snapshot: %v", err)
	}
	return filepath.Join(dir, metas[0].ID)
}

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

func TestNewestSnapshotIsDamaged(t *testing.T) {
	for _, store := range []string{"kept", "lost"} {
		t.Run("store "+store, func(t *testing.T) {
			dir := t.TempDir()
			n := fresh(t, dir, func(o *Options) { o.TrailingLogs = 25 })
			n.write(t, "router", 1, 30)
			snapshotNow(t, n)
			n.write(t, "router", 31, 50)
			snapshotNow(t, n)
			n.write(t, "router", 51, 55)
			digest := n.st.Digest()
			n.close(t)
			flip(t, filepath.Join(newestSnapshot(t, dir), "state.bin"), 300)
			if store == "lost" {
				removeStore(t, dir)
			}
			n = start(t, dir, nil).lead(t)
			wantVersion(t, n, "router", 55)
			if n.st.Digest() != digest {
				t.Fatal("another state than before")
			}
			n.write(t, "router", 56, 56)
		})
	}
}

// TestNewestSnapshotIsDamagedAndLogCut is the case of a gap between the older
// snapshot and the log, and the store has all of it.
func TestNewestSnapshotIsDamagedAndLogCut(t *testing.T) {
	dir := t.TempDir()
	n := fresh(t, dir, trimmed)
	n.write(t, "router", 1, 10)
	snapshotNow(t, n)
	n.write(t, "router", 11, 40)
	snapshotNow(t, n)
	n.write(t, "router", 41, 45)
	n.close(t)
	flip(t, filepath.Join(newestSnapshot(t, dir), "meta.json"), 30)
	n = start(t, dir, trimmed).lead(t)
	n.write(t, "router", 46, 46)
	wantVersion(t, n, "router", 46)
	n.close(t)
	removeStore(t, dir)
	wantVersion(t, start(t, dir, trimmed).lead(t), "router", 46)
}

func TestDamagedEntry(t *testing.T) {
	t.Run("that the store has", func(t *testing.T) {
		dir := t.TempDir()
		n := fresh(t, dir, nil)
		n.write(t, "router", 1, 20)
		n.close(t)
		spoil(t, dir, 10)
		n = start(t, dir, nil).lead(t)
		n.write(t, "router", 21, 21)
		n.close(t)
		removeStore(t, dir)
		wantVersion(t, start(t, dir, nil).lead(t), "router", 21)
	})
	t.Run("that the store needs", func(t *testing.T) {
		dir := t.TempDir()
		n := fresh(t, dir, nil)
		n.write(t, "router", 1, 20)
		n.close(t)
		spoil(t, dir, 10)
		removeStore(t, dir)
		_, err := tryStart(t, dir, nil)
		wantCode(t, err, conf.CodeCorrupt)
	})
}

// TestCopyOfARunningNode opens a copy of the files of a node that was never
// stopped: what a power cut leaves, at a moment without a write.
func TestCopyOfARunningNode(t *testing.T) {
	dir, copied := t.TempDir(), t.TempDir()
	n := fresh(t, dir, trimmed)
	n.write(t, "router", 1, 20)
	snapshotNow(t, n)
	n.write(t, "router", 21, 25)
	copyDir(t, dir, copied)
	c := start(t, copied, trimmed).lead(t)
	wantVersion(t, c, "router", 25)
	if c.st.Digest() != n.st.Digest() {
		t.Fatal("the copy has another state")
	}
	c.write(t, "router", 26, 26)
}
