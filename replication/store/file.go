package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// file is the database file.
type file struct {
	path        string
	busyTimeout time.Duration
	opened      [2]fs.FileInfo // the database and its WAL
}

// Caches are small: idle memory counts on the small machines that agents run on.
const (
	readerCache = 2048 // KiB
	writerCache = 8192 // KiB
)

// prepare makes the directory and the file with their modes before SQLite
// would with its own, and returns its size.
func (f *file) prepare() (int64, error) {
	path := f.path
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return 0, f.err(err)
	}
	if st, err := os.Lstat(path); err == nil && !st.Mode().IsRegular() && st.Mode()&fs.ModeSymlink == 0 {
		return 0, tables.Corrupt("%s is not a file", path)
	}
	h, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, f.err(err)
	}
	defer h.Close()
	st, err := h.Stat()
	if err != nil {
		return 0, f.err(err)
	}
	if !st.Mode().IsRegular() {
		return 0, tables.Corrupt("%s is not a file", path)
	}
	if st.Size() > 0 && st.Size() < tables.PageSize {
		return 0, tables.Corrupt("%s has %d bytes", path, st.Size()) // SQLite would take it for an empty one
	}
	if st.Mode().Perm()&0o077 != 0 {
		if err := h.Chmod(0o600); err != nil {
			return 0, f.err(err)
		}
	}
	return st.Size(), nil
}

// dsn builds the URI. Without the file: prefix SQLite ignores its query.
func (f *file) dsn(readOnly bool) string {
	v := url.Values{}
	v.Set("_busy_timeout", fmt.Sprint(f.busyTimeout.Milliseconds()))
	v.Set("_defensive", "1")
	v.Set("_dqs", "0")
	v.Set("_error_rc", "1")
	pragmas := []string{"cell_size_check(1)", "trusted_schema(0)", "temp_store(2)"}
	if readOnly {
		v.Set("mode", "ro")
		pragmas = append(pragmas, fmt.Sprintf("cache_size(-%d)", readerCache), "query_only(1)")
	} else {
		v.Set("_txlock", "immediate")
		pragmas = append(pragmas, "journal_mode(WAL)", "synchronous(NORMAL)", "wal_autocheckpoint(0)", fmt.Sprintf("cache_size(-%d)", writerCache))
	}
	for _, p := range pragmas {
		v.Add("_pragma", p)
	}
	return "file:" + (&url.URL{Path: f.path}).EscapedPath() + "?" + v.Encode()
}

func (f *file) walPath() string { return f.path + "-wal" }

// stat records which files are open, for check.
func (f *file) stat() error {
	for i, p := range []string{f.path, f.walPath()} {
		st, err := os.Stat(p)
		if err != nil {
			return f.err(err)
		}
		f.opened[i] = st
	}
	return nil
}

// check returns an error when the files under path are not those that are open.
// After a delete or a swap, commits go to a file without a name.
func (f *file) check() error {
	for i, p := range []string{f.path, f.walPath()} {
		st, err := os.Stat(p)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return tables.Corrupt("%s was deleted while it was open", p)
		case err != nil:
			return f.err(err)
		case !os.SameFile(st, f.opened[i]):
			return tables.Corrupt("%s was replaced while it was open", p)
		}
	}
	return nil
}

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
		// Such as too many open files: the content may be valid.
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

// isIndexDamage reports whether err comes from inside the full-text index.
func isIndexDamage(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code() == sqlite3.SQLITE_CORRUPT_VTAB
}

// exec runs a statement on a connection of its own.
func (f *file) exec(ctx context.Context, statement string) error {
	db, err := sql.Open("sqlite", f.dsn(false))
	if err != nil {
		return f.wrap("checkpoint", err)
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, statement)
	return f.wrap("checkpoint", err)
}

// walSize is 0 for a missing file too: CheckFiles reports that.
func (f *file) walSize() int64 {
	st, err := os.Stat(f.walPath())
	if err != nil {
		return 0
	}
	return st.Size()
}
