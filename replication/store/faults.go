package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// corrupt is the error for bytes that are not those which were written.
func corrupt(format string, args ...any) *conf.Error {
	return conf.Errorf(conf.CodeCorrupt, "the database is corrupt: "+format, args...).
		WithHint("the agent sets the file aside and rebuilds it from the cluster; alone, start it with ALLOW_AUTO_REBUILD=1 or restore a backup")
}

// fault gives err, met while doing what, its code. Errors that have one keep it.
func (s *Store) fault(what string, err error) error {
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
		return s.fileFault(fs.ErrPermission)
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
		return conf.Errorf(conf.CodeLocked, "%s: the database is locked: %w", what, err).
			WithHint("another process holds %s; find it with: fuser -v %s", s.opts.Path, s.opts.Path)
	case sqlite3.SQLITE_FULL:
		return s.full(what, err)
	case sqlite3.SQLITE_IOERR:
		if noSpace(s.opts.Path) {
			return s.full(what, err)
		}
		return corrupt("%s: %w", what, err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_READONLY,
		sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA:
		// Every statement is fixed and was tried before the release, and the file
		// was found writable: when one fails, what it met is not what was stored.
		return corrupt("%s: %w", what, err)
	case sqlite3.SQLITE_CANTOPEN:
		// Such as no file descriptor left: says nothing about the content.
		return conf.Errorf(conf.CodeInternal, "%s: %w", what, err).
			WithHint("let the agent write the directory of %s, and look at its limit of open files", s.opts.Path)
	default:
		return conf.Errorf(conf.CodeInternal, "%s: %w", what, err)
	}
}

func (s *Store) full(what string, err error) error {
	return conf.Errorf(conf.CodeStorageFull, "%s: no space left: %w", what, err).
		WithHint("free space on the disk of %s", s.opts.Path)
}
