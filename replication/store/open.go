package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/apply"
	"github.com/holdfast-config/holdfast/replication/store/query"
	"github.com/holdfast-config/holdfast/replication/store/search"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// Options set a store up.
type Options struct {
	Path        string        // of the database file; its directory is made when it is missing
	Logger      *slog.Logger  // default: discards
	BusyTimeout time.Duration // how long to wait for another process's lock; default 2 s

	Project   search.Project
	ModelHash tables.ModelHash
}

// Connections and caches are small: the read path of services is in memory, and
// idle memory counts on the small machines that agents run on.
const (
	maxReaders  = 6
	idleReaders = 1
	readerCache = 2048 // KiB
	writerCache = 8192 // KiB
)

// Open opens the store at opts.Path, or makes an empty one, and verifies it
// whole. With CodeSchemaMismatch the store is returned beside the error, and can
// be read. Other codes: CodeCorrupt, CodeLocked, CodeStorageFull, CodeReadOnly.
func Open(ctx context.Context, opts Options) (*Store, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.BusyTimeout <= 0 {
		opts.BusyTimeout = 2 * time.Second
	}
	if opts.Project == nil || opts.ModelHash == nil {
		return nil, conf.Errorf(conf.CodeInternal, "open the store: Project and ModelHash are needed")
	}
	path, err := filepath.Abs(opts.Path)
	if err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "open the store: %w", err)
	}
	opts.Path = path
	s := &Store{opts: opts, log: opts.Logger, faults: faults{path}}
	s.state.Store(&tables.State{})
	s.Queries = query.New(s.read, s.state.Load)

	// Both are switches of the whole process. A POSIX lock would be dropped when
	// anything in this process closes any descriptor of the file.
	if _, err := sqlite.OFDLocking(true); err != nil {
		s.log.Warn("file locks can be lost when another part of this process closes the database", "err", err)
	}
	sqlite.StrictPragmas(true)

	size, err := s.prepareFile()
	if err != nil {
		return nil, err
	}
	if err := s.open(ctx, size); err != nil {
		if conf.CodeOf(err) == conf.CodeSchemaMismatch {
			return s, err
		}
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, size int64) error {
	var err error
	if s.w, err = tables.OpenWriter(ctx, s.dsn(false)); err != nil {
		return s.faults.wrap("open "+s.opts.Path, err)
	}
	s.index = search.Index{Writer: s.w, Log: s.log, Project: s.opts.Project}
	s.applier = apply.Applier{Writer: s.w, Project: s.index.Project.Items, ModelHash: s.opts.ModelHash, Cache: apply.RecordCache{}}
	if s.reads, err = sql.Open("sqlite", s.dsn(true)); err != nil {
		return s.faults.wrap("open "+s.opts.Path, err)
	}
	s.reads.SetMaxOpenConns(maxReaders)
	s.reads.SetMaxIdleConns(idleReaders)

	// The lock is held while verifying: what was verified is what is used, and a
	// process that writes to the file shows now and not at the first change.
	bg := context.WithoutCancel(ctx)
	if err := s.w.Exec(bg, "BEGIN IMMEDIATE"); err != nil {
		return s.faults.wrap("open "+s.opts.Path, err)
	}
	if err := s.verifyOrCreate(ctx, size); err != nil {
		s.w.Rollback(bg)
		return s.faults.wrap("open "+s.opts.Path, err)
	}
	if err := s.w.Exec(bg, "COMMIT"); err != nil {
		s.w.Rollback(bg)
		return s.faults.wrap("open "+s.opts.Path, err)
	}
	if size == 0 {
		// The tables must not be in the WAL only, where a torn frame loses them.
		if err := s.w.Exec(bg, "PRAGMA wal_checkpoint(PASSIVE)"); err != nil {
			return s.faults.wrap("open "+s.opts.Path, err)
		}
	}
	if err := s.stat(); err != nil {
		return err
	}
	st := s.state.Load()
	if hash := st.WantHash; hash != st.ModelHash {
		return conf.Errorf(conf.CodeSchemaMismatch, "the stored schemas have the model hash %s, schema_version says %s", hash, st.ModelHash).
			WithHint("store the services' schemas again (holdfast schema put), or rebuild the database")
	}
	return nil
}

// prepareFile makes the directory and the file with their modes before SQLite
// would with its own, and tells how long the file is.
func (s *Store) prepareFile() (int64, error) {
	path := s.opts.Path
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return 0, s.faults.file(err)
	}
	if st, err := os.Lstat(path); err == nil && !st.Mode().IsRegular() && st.Mode()&fs.ModeSymlink == 0 {
		return 0, tables.Corrupt("%s is not a file", path)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, s.faults.file(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, s.faults.file(err)
	}
	if !st.Mode().IsRegular() {
		return 0, tables.Corrupt("%s is not a file", path)
	}
	if st.Size() > 0 && st.Size() < tables.PageSize {
		return 0, tables.Corrupt("%s has %d bytes", path, st.Size()) // SQLite would take it for an empty one
	}
	if st.Mode().Perm()&0o077 != 0 {
		if err := f.Chmod(0o600); err != nil {
			return 0, s.faults.file(err)
		}
	}
	return st.Size(), nil
}

// dsn builds the URI. Without the file: prefix everything after it is ignored.
func (s *Store) dsn(readOnly bool) string {
	v := url.Values{}
	v.Set("_busy_timeout", fmt.Sprint(s.opts.BusyTimeout.Milliseconds()))
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
	return "file:" + (&url.URL{Path: s.opts.Path}).EscapedPath() + "?" + v.Encode()
}

func (s *Store) walPath() string { return s.opts.Path + "-wal" }

// stat records which files are open, for Present.
func (s *Store) stat() error {
	for i, p := range []string{s.opts.Path, s.walPath()} {
		st, err := os.Stat(p)
		if err != nil {
			return s.faults.file(err)
		}
		s.files[i] = st
	}
	return nil
}

// Present returns an error when the files under Path are not those that are open.
// After a delete or a swap, commits go to a file that has no name any more.
func (s *Store) Present() error {
	for i, p := range []string{s.opts.Path, s.walPath()} {
		st, err := os.Stat(p)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return tables.Corrupt("%s was deleted while it was open", p)
		case err != nil:
			return s.faults.file(err)
		case !os.SameFile(st, s.files[i]):
			return tables.Corrupt("%s was replaced while it was open", p)
		}
	}
	return nil
}
