// No guard: what this package does to a log file that nobody has open.

package raftguard

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"github.com/holdfast-config/holdfast/replication/durable"
)

// Limits of Compact.
const (
	compactFrom  = 4 << 20 // bytes of a file that is worth it
	compactBatch = 1 << 20 // bytes of a transaction
	compactName  = ".compact"
)

// boltOptions are those of every way to open a log file. The file is locked, and verified
// before bbolt maps it.
func boltOptions(ctx context.Context, timeout time.Duration) *bbolt.Options {
	return &bbolt.Options{
		Timeout:        timeout,
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(name, flag, mode)
			if err != nil {
				return nil, err
			}
			if err = lockFile(ctx, f, timeout); err == nil {
				if err = stillThere(f); err == nil {
					err = checkFile(f)
				}
			}
			if err != nil {
				f.Close()
				return nil, err
			}
			return f, nil
		},
	}
}

// stillThere returns an error when another process has replaced the file before this one
// got its lock.
func stillThere(f *os.File) error {
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Stat(f.Name()); err != nil || !os.SameFile(mine, now) {
		return errLocked(f.Name())
	}
	return nil
}

// Compact writes the file at path again when most of it is free pages: bbolt never gives
// them back, so a burst of changes would take the space that it needed for as long as the
// file exists. It is replaced as a whole; a crash leaves one of the two. What fails
// changes nothing.
func Compact(ctx context.Context, path string, timeout time.Duration, log *slog.Logger) error {
	to := path + compactName
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return StorageError(err, "cannot remove %s", to)
	}
	if info, err := os.Stat(path); err != nil || info.Size() < compactFrom {
		return nil //nolint:nilerr // who opens the file reports it
	}
	var before, after int64
	err := RecoverPanic("compact", func() (err error) {
		from, err := bbolt.Open(path, 0o600, boltOptions(ctx, timeout))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, from.Close()) }()
		before = fileSize(path)
		if free := int64(from.Stats().FreePageN) * int64(from.Info().PageSize); free <= before/2 {
			return nil
		}
		if err := compactTo(from, to); err != nil {
			return errors.Join(err, os.Remove(to))
		}
		after = fileSize(to)
		return durable.Rename(to, path)
	})
	if err == nil && after > 0 {
		log.Info("compacted the log file", "path", path, "bytes", after, "before", before)
	}
	return err
}

// compactTo writes the content of from into a file of its own, and syncs it.
func compactTo(from *bbolt.DB, to string) error {
	out, err := bbolt.Open(to, 0o600, &bbolt.Options{NoSync: true, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return err
	}
	if err := bbolt.Compact(out, from, compactBatch); err != nil {
		return errors.Join(err, out.Close())
	}
	return errors.Join(out.Sync(), out.Close())
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// Moved says where the entries of a log are from now on.
type Moved struct {
	Segments []byte // state of the segment files that have them; nil: the log file itself
}

// Move notes in the closed log file at path where its entries are, in one transaction: with
// segments the entries in the file itself are dropped.
func Move(ctx context.Context, path string, timeout time.Duration, m Moved) error {
	err := RecoverPanic("move", func() (err error) {
		db, err := bbolt.Open(path, 0o600, boltOptions(ctx, timeout))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		return db.Update(func(tx *bbolt.Tx) error {
			stable, err := tx.CreateBucketIfNotExists([]byte(stableBucket))
			if err != nil {
				return err
			}
			format := uint64(logFormat)
			if m.Segments == nil {
				err = stable.Delete([]byte(SegmentsKey))
			} else {
				format = logFormatSegments
				err = stable.Put([]byte(SegmentsKey), sealValue([]byte(SegmentsKey), m.Segments))
				if err == nil {
					err = tx.DeleteBucket([]byte(logBucket))
				}
				if err == nil {
					_, err = tx.CreateBucket([]byte(logBucket))
				}
			}
			if err != nil {
				return err
			}
			return stable.Put([]byte(formatKey), sealValue([]byte(formatKey), binary.BigEndian.AppendUint64(nil, format)))
		})
	})
	if err != nil {
		return StorageError(err, "cannot change %s", filepath.Base(path))
	}
	return nil
}
