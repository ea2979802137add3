package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// wrap returns err with its code; what was being done. An error with a code is
// returned as it is.
func (f *file) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*conf.Error](err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", what, err)
	}
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return conf.Errorf(conf.CodeInternal, "%s: %w", what, err)
	}
	if e.Code() == sqlite3.SQLITE_READONLY_DIRECTORY {
		return f.err(fs.ErrPermission)
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
		return conf.Errorf(conf.CodeLocked, "%s: the database is locked: %w", what, err).
			WithHint("another process holds %s; find it with: fuser -v %s", f.path, f.path)
	case sqlite3.SQLITE_FULL:
		return f.full(what, err)
	case sqlite3.SQLITE_IOERR:
		if noSpace(f.path) {
			return f.full(what, err)
		}
		return tables.Corrupt("%s: %w", what, err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_READONLY,
		sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA:
		// Every statement is fixed and tested, and the file was found writable: when
		// one fails, the content is not what was stored.
		return tables.Corrupt("%s: %w", what, err)
	case sqlite3.SQLITE_CANTOPEN:
		// Such as too many open files: the content may be good.
		return conf.Errorf(conf.CodeInternal, "%s: %w", what, err).
			WithHint("allow the agent to write the directory of %s, and check its limit of open files", f.path)
	default:
		return conf.Errorf(conf.CodeInternal, "%s: %w", what, err)
	}
}

func (f *file) full(what string, err error) error {
	return conf.Errorf(conf.CodeStorageFull, "%s: no space left: %w", what, err).
		WithHint("free space on the disk of %s", f.path)
}

// err returns an error of a file operation with its code.
func (f *file) err(err error) error {
	if errors.Is(err, fs.ErrPermission) || isReadOnlyFS(err) {
		return conf.Errorf(conf.CodeReadOnly, "the database cannot be written: %w", err).
			WithHint("allow the agent's user to write %s and its directory", f.path)
	}
	if isFull(err) {
		return f.full("open the database", err)
	}
	return conf.Errorf(conf.CodeInternal, "open the database: %w", err)
}

// isIndexDamage says whether err comes from inside the full-text index.
func isIndexDamage(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code() == sqlite3.SQLITE_CORRUPT_VTAB
}
