package walstore

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/durable"
	"github.com/holdfast-config/holdfast/replication/raftguard"
)

// Kinds of a log.
const (
	BoltDB = "boltdb" // entries and stable values in raft.db
	WAL    = "wal"    // entries in segments/, stable values in raft.db
)

// Kinds are the names of both.
func Kinds() []string { return []string{BoltDB, WAL} }

// FileName is the file that every log has.
const FileName = "raft.db"

const (
	segmentsDir = "segments"
	copyBytes   = 1 << 20 // of entries that Move writes at once
)

// Options describe a log.
type Options struct {
	Dir         string
	LockTimeout time.Duration // wait for another process that has it open
	SegmentSize int           // bytes after which a segment is full; 0: DefaultSegment
	Logger      *slog.Logger
}

func (o *Options) file() string     { return filepath.Join(o.Dir, FileName) }
func (o *Options) segments() string { return filepath.Join(o.Dir, segmentsDir) }

// KindOf says where an open log has its entries.
func KindOf(f raftguard.LogFile) string {
	if _, ok := f.(*Store); ok {
		return WAL
	}
	return BoltDB
}

// Open opens the log where it is, after raft.db was compacted if most of it was free. Its
// errors are those of raftguard.OpenLogFile.
func Open(ctx context.Context, o Options) (raftguard.LogFile, error) {
	if err := raftguard.Compact(ctx, o.file(), o.LockTimeout, o.Logger); err != nil && conf.CodeOf(err) != conf.CodeCorrupt && conf.CodeOf(err) != conf.CodeLocked {
		o.Logger.Warn("cannot compact the log file: it stays as it is", "err", err)
	}
	bolt, err := raftguard.OpenLogFile(ctx, o.file(), o.LockTimeout)
	if err != nil {
		return nil, err
	}
	f, err := o.open(bolt)
	if err != nil {
		return nil, first(err, bolt.Close())
	}
	return f, nil
}

func (o *Options) open(bolt *raftboltdb.BoltStore) (raftguard.LogFile, error) {
	stable := raftguard.NewChecksumStore(bolt)
	switch state, err := stable.Get([]byte(raftguard.SegmentsKey)); {
	case errors.Is(err, raftboltdb.ErrKeyNotFound):
		if err := removeSegments(o.segments()); err != nil {
			return nil, err
		}
		return bolt, nil
	case err != nil:
		return nil, err
	default:
		if err := dropEntries(stable); err != nil {
			return nil, err
		}
		return openSegments(o, bolt, &committed{stable: stable, dir: o.segments(), state: state})
	}
}

// dropEntries removes the entries that a move out of the segments had copied when it was cut
// short.
func dropEntries(s *raftguard.ChecksumStore) error {
	first, err := s.FirstIndex()
	if err != nil || first == 0 {
		return err
	}
	last, err := s.LastIndex()
	if err != nil {
		return err
	}
	return s.DeleteRange(first, last)
}

// removeSegments removes what is not, or no longer, the log.
func removeSegments(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := errors.Join(os.RemoveAll(dir), durable.SyncDir(filepath.Dir(dir))); err != nil {
		return raftguard.StorageError(err, "cannot remove %s", dir)
	}
	return nil
}

// Move brings an open log, which must be whole, to another kind, and opens it there. It
// closes from in any case. A crash leaves the log whole in one of the two places.
func Move(ctx context.Context, o Options, from raftguard.LogFile, kind string) (_ raftguard.LogFile, err error) {
	if KindOf(from) == kind {
		return from, nil
	}
	open := from
	defer func() {
		if open != nil {
			err = first(err, open.Close())
		}
	}()
	var moved raftguard.Moved
	if s, ok := from.(*Store); ok {
		err = copyEntries(ctx, s, s.LogFile)
	} else {
		moved.Segments, err = o.fillSegments(ctx, from)
	}
	if err != nil {
		return nil, raftguard.StorageError(err, "cannot move the log to %s", kind)
	}
	open = nil
	if err := from.Close(); err != nil {
		return nil, raftguard.StorageError(err, "cannot close the log")
	}
	if err := raftguard.Move(ctx, o.file(), o.LockTimeout, moved); err != nil {
		return nil, err
	}
	o.Logger.Info("moved the Raft log", "to", kind)
	return Open(ctx, o)
}

// fillSegments writes all entries into new segments, and returns their state.
func (o *Options) fillSegments(ctx context.Context, from raftguard.LogFile) ([]byte, error) {
	if err := removeSegments(o.segments()); err != nil {
		return nil, err
	}
	if err := os.Mkdir(o.segments(), 0o700); err != nil {
		return nil, err
	}
	if err := durable.SyncDir(o.Dir); err != nil {
		return nil, err
	}
	state := &drafted{dir: o.segments()}
	w, err := openSegments(o, from, state)
	if err != nil {
		return nil, err
	}
	if err := copyEntries(ctx, from, w); err != nil {
		return nil, first(err, w.closeSegments())
	}
	if err := w.closeSegments(); err != nil {
		return nil, err
	}
	return state.encoded()
}

// copyEntries copies all entries as they are stored, with their checksums.
func copyEntries(ctx context.Context, from raft.LogStore, to interface {
	StoreLogs(entries []*raft.Log) error
},
) error {
	first, err := from.FirstIndex()
	if err != nil || first == 0 {
		return err
	}
	last, err := from.LastIndex()
	if err != nil {
		return err
	}
	var batch []*raft.Log
	bytes := 0
	for i := first; i <= last; i++ {
		e := new(raft.Log)
		if err := from.GetLog(i, e); err != nil {
			return err
		}
		if !raftguard.Intact(e) {
			return raftguard.Corrupt("log entry %d is damaged", i)
		}
		batch = append(batch, e)
		if bytes += len(e.Data); bytes < copyBytes && i < last {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := to.StoreLogs(batch); err != nil {
			return err
		}
		batch, bytes = nil, 0
	}
	return nil
}
