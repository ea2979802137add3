package walstore

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"sync/atomic"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/holdfast-config/holdfast/replication/durable"
	"github.com/holdfast-config/holdfast/replication/raftguard"
)

// DefaultSegment is the size of a segment. Entries are dropped a whole segment at a time.
const DefaultSegment = 8 << 20

// Store is a log whose entries are in segments. The stable values are those of LogFile.
type Store struct {
	raftguard.LogFile
	wal   *wal.WAL
	state *watched
}

var _ raftguard.LogFile = (*Store)(nil)

// watched is a MetaStore that remembers its last failure: raft-wal begins a segment on a
// goroutine of its own, which only logs.
type watched struct {
	types.MetaStore
	failure atomic.Pointer[error]
}

// CommitState implements types.MetaStore.
func (w *watched) CommitState(s types.PersistentState) error {
	err := raftguard.RecoverPanic("write the state of the segments", func() error { return w.MetaStore.CommitState(s) })
	if err != nil {
		w.failure.Store(&err)
	}
	return err
}

// openSegments verifies the newest segment, and opens all of them.
func openSegments(o *Options, stable raftguard.LogFile, meta types.MetaStore) (*Store, error) {
	if err := repair(o.segments(), meta); err != nil {
		return nil, err
	}
	size := o.SegmentSize
	if size == 0 {
		size = DefaultSegment
	}
	s := &Store{LogFile: stable, state: &watched{MetaStore: meta}}
	err := raftguard.RecoverPanic("open the segments", func() (err error) {
		s.wal, err = wal.Open(o.segments(), wal.WithMetaStore(s.state), wal.WithSegmentSize(size),
			wal.WithSegmentFiler(segment.NewFiler(o.segments(), files{})), wal.WithLogger(raftguard.NewLogger(o.Logger)))
		return err
	})
	switch {
	case err == nil:
		return s, nil
	case errors.Is(err, os.ErrNotExist):
		return nil, raftguard.Corrupt("a segment of the log is missing: %w", err)
	case errors.Is(err, types.ErrCorrupt):
		return nil, raftguard.Corrupt("the log is damaged: %w", err)
	default:
		return nil, raftguard.StorageError(err, "cannot open the log in %s", o.segments())
	}
}

// Close implements raftguard.LogFile.
func (s *Store) Close() error { return errors.Join(s.closeSegments(), s.LogFile.Close()) }

func (s *Store) closeSegments() error { return s.wal.Close() }

// FirstIndex implements raft.LogStore.
func (s *Store) FirstIndex() (uint64, error) { return s.wal.FirstIndex() }

// LastIndex implements raft.LogStore.
func (s *Store) LastIndex() (uint64, error) { return s.wal.LastIndex() }

// GetLog implements raft.LogStore. raft-wal still has entries before the first one. Raft
// compares the error for a missing entry itself.
func (s *Store) GetLog(index uint64, out *raft.Log) error {
	first, err := s.wal.FirstIndex()
	if err != nil {
		return err
	}
	if index < first {
		return raft.ErrLogNotFound
	}
	return s.wal.GetLog(index, out)
}

// StoreLog implements raft.LogStore.
func (s *Store) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (s *Store) StoreLogs(logs []*raft.Log) error { return s.why(s.wal.StoreLogs(logs)) }

// DeleteRange implements raft.LogStore.
func (s *Store) DeleteRange(first, last uint64) error { return s.why(s.wal.DeleteRange(first, last)) }

// why is the cause of an error: without a next segment raft-wal says that the last one is full.
func (s *Store) why(err error) error {
	if p := s.state.failure.Load(); p != nil && errors.Is(err, types.ErrSealed) {
		return *p
	}
	return err
}

// files are the segments for raft-wal.
type files struct{}

var segmentName = regexp.MustCompile(`^[0-9]{20}-[0-9a-f]{16}\.wal$`)

// ListDir implements types.VFS.
func (files) ListDir(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if segmentName.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// Create implements types.VFS. makeSegment has made the file.
func (f files) Create(dir, name string, _ uint64) (types.WritableFile, error) {
	return f.OpenWriter(dir, name)
}

// Delete implements types.VFS.
func (files) Delete(dir, name string) error {
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return durable.SyncDir(dir)
}

// OpenReader implements types.VFS.
func (files) OpenReader(dir, name string) (types.ReadableFile, error) {
	return os.Open(filepath.Join(dir, name))
}

// OpenWriter implements types.VFS.
func (files) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return file{f}, nil
}

// file is a segment that is written.
type file struct{ *os.File }

// Sync implements types.WritableFile: of the file's metadata only the size has to last.
func (f file) Sync() error { return syncData(f.File) }
