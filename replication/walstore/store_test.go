package walstore

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/raftguard"
)

// A log in segments answers as one in memory does, whatever is stored and deleted, and
// after each restart and move.
func TestSegmentsAnswerAsMemoryDoes(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 3))
		dir := t.TempDir()
		l, model, next := inSegments(t, dir), raft.NewInmemStore(), uint64(1)
		for range 120 {
			first, _ := model.FirstIndex()
			last, _ := model.LastIndex()
			switch do := r.IntN(12); {
			case do < 7:
				var entries []*raft.Log
				for range 1 + r.IntN(4) {
					entries = append(entries, entry(next, r.IntN(3000)))
					next++
				}
				if err := errors.Join(l.StoreLogs(entries), model.StoreLogs(entries)); err != nil {
					t.Fatal(err)
				}
			case do == 7 && last > 0: // behind a snapshot
				to := first + r.Uint64N(last-first+1)
				if err := errors.Join(l.DeleteRange(first, to), model.DeleteRange(first, to)); err != nil {
					t.Fatal(err)
				}
			case do == 8 && last > 0: // what another leader has otherwise
				from := first + r.Uint64N(last-first+1)
				if err := errors.Join(l.DeleteRange(from, last), model.DeleteRange(from, last)); err != nil {
					t.Fatal(err)
				}
				next = from
			case do == 9 && last > 0 && r.IntN(3) == 0: // a snapshot is installed
				if err := errors.Join(l.DeleteRange(first, last), model.DeleteRange(first, last)); err != nil {
					t.Fatal(err)
				}
				next = last + 1 + r.Uint64N(100)
			case do == 10:
				l.close(t)
				l = open(t, dir)
			case do == 11 && r.IntN(4) == 0:
				l = move(t, dir, move(t, dir, l, BoltDB), WAL)
			}
			first, _ = model.FirstIndex()
			last, _ = model.LastIndex()
			if last == 0 || first > last {
				first, last = 0, 0
			}
			if n := l.holds(t, first, last); n > 0 {
				t.Fatalf("%d damaged entries", n)
			}
			for _, i := range []uint64{0, first - 1, last + 1} {
				if err := l.GetLog(i, new(raft.Log)); err != raft.ErrLogNotFound && first > 0 { //nolint:errorlint // raft compares it
					t.Fatalf("entry %d of %d to %d: %v", i, first, last, err)
				}
			}
		}
		l.close(t)
	}
}

// The last state that was committed is the log's, and the stable values stay beside it.
func TestStableValuesStay(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	if err := l.SetUint64([]byte("CurrentTerm"), 7); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{WAL, BoltDB, WAL} {
		l = move(t, dir, l, kind)
		if v, err := l.GetUint64([]byte("CurrentTerm")); err != nil || v != 7 {
			t.Fatalf("%s: term %d, %v", kind, v, err)
		}
		format := map[string]uint64{BoltDB: 1, WAL: 2}[kind]
		if v, err := l.GetUint64([]byte("holdfast.format")); err != nil || v != format {
			t.Fatalf("%s: format %d, %v", kind, v, err)
		}
	}
}

// full is a stable store on a full disk.
type full struct {
	inner interface{ Set(key, value []byte) error }
	yes   bool
}

func (f *full) Set(key, value []byte) error {
	if f.yes {
		return raftguard.StorageError(syscall.ENOSPC, "cannot write")
	}
	return f.inner.Set(key, value)
}

// Without space for the next segment the log says so, and loses nothing: what filled the
// last one was acknowledged.
func TestNoSpaceForTheNextSegment(t *testing.T) {
	dir := t.TempDir()
	l := inSegments(t, dir)
	disk := &full{inner: l.file.(*Store).state.MetaStore.(*committed).stable}
	l.file.(*Store).state.MetaStore.(*committed).stable = disk
	disk.yes = true
	var last uint64
	for last = 1; ; last++ {
		if err := l.StoreLogs([]*raft.Log{entry(last, 1000)}); err != nil {
			wantCode(t, err, conf.CodeStorageFull)
			break
		}
		if last > 1000 {
			t.Fatal("the segment has no end")
		}
	}
	l.close(t)
	l = open(t, dir)
	if n := l.holds(t, 1, last-1); n > 0 {
		t.Fatal(n)
	}
	l.add(t, 10)
	l.holds(t, 1, last)
}

// raft-wal opens a log whose newest segment was full when the process died, and can never
// append to it again.
func TestUpstreamCannotContinueAFullSegment(t *testing.T) {
	dir := t.TempDir()
	l := inSegments(t, dir)
	state := l.file.(*Store).state.MetaStore.(*committed)
	state.stable = &full{inner: state.stable, yes: true}
	var last uint64
	for last = 1; l.StoreLogs([]*raft.Log{entry(last, 1000)}) == nil; last++ {
	}
	l.close(t)
	bare, err := openWithoutRepair(dir, state)
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Close()
	if err := bare.StoreLog(entry(last, 10)); !errors.Is(err, types.ErrSealed) {
		t.Errorf("it can: repair has less to do: %v", err)
	}
}

func TestMissingSegment(t *testing.T) {
	for name, which := range map[string]func(names []string) string{
		"the first":  func(names []string) string { return names[0] },
		"the newest": func(names []string) string { return names[len(names)-1] },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := inSegments(t, dir)
			for range 40 {
				l.add(t, 1000)
			}
			l.close(t)
			names, err := filepath.Glob(filepath.Join(dir, segmentsDir, "*.wal"))
			if err != nil || len(names) < 3 {
				t.Fatalf("%q, %v", names, err)
			}
			if err := os.Remove(which(names)); err != nil {
				t.Fatal(err)
			}
			_, err = tryOpen(t, dir)
			wantCode(t, err, conf.CodeCorrupt)
			if conf.HintOf(err) == "" {
				t.Error("no hint")
			}
		})
	}
}

// Files that are no segments of the log do no harm, and a segment that the state does not
// name is removed.
func TestOtherFilesBesideTheSegments(t *testing.T) {
	dir := t.TempDir()
	l := inSegments(t, dir)
	l.add(t, 10, 20)
	l.close(t)
	stray := filepath.Join(dir, segmentsDir, "00000000000000000007-00000000000000ff.wal")
	for _, p := range []string{stray, filepath.Join(dir, segmentsDir, "notes.wal"), filepath.Join(dir, segmentsDir, "x.tmp")} {
		write(t, p, []byte("something"))
	}
	l = open(t, dir)
	l.holds(t, 1, 2)
	if _, err := os.Stat(stray); !errors.Is(err, os.ErrNotExist) {
		t.Error("it is still there")
	}
}
