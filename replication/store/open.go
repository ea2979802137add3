package store

import (
	"context"
	"database/sql"
	"log/slog"
	"path/filepath"
	"time"

	"modernc.org/sqlite"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/durable"
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

// Few connections: services read from memory.
const (
	maxReaders  = 6
	idleReaders = 1
)

// Open opens the store at opts.Path, or makes an empty one, and verifies it
// whole. With CodeSchemaMismatch the store is returned beside the error, and can
// be read. Other codes: CodeCorrupt, CodeLocked, CodeStorageFull, CodeReadOnly,
// CodeUnsupported.
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
	s := &Store{log: opts.Logger, modelHash: opts.ModelHash, file: &file{path: path, busyTimeout: opts.BusyTimeout}}
	s.maintenance.truncateOver = walLimit(durable.Volume(filepath.Dir(path)))
	s.state.Store(&tables.State{})
	s.Queries = query.New(s.read, s.state.Load)

	// Both settings are those of the whole process. A POSIX lock is dropped when any
	// part of the process closes a descriptor of the file.
	if _, err := sqlite.OFDLocking(true); err != nil {
		s.log.Warn("file locks can be lost when another part of this process closes the database", "err", err)
	}
	sqlite.StrictPragmas(true)

	size, err := s.file.prepare()
	if err != nil {
		return nil, err
	}
	if err := s.open(ctx, size, opts.Project); err != nil {
		_ = s.Close()
		return nil, s.file.wrap("open "+path, err)
	}
	st := s.state.Load()
	if hash := st.WantHash; hash != st.ModelHash {
		return s, conf.Errorf(conf.CodeSchemaMismatch, "the stored schemas have the model hash %s, schema_version says %s", hash, st.ModelHash).
			WithHint("put raft/ back, from which the database is made again; or rebuild: start with ALLOW_AUTO_REBUILD=1, or POST /api/config/rebuild with REBUILD_TOKEN")
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, size int64, project search.Project) (err error) {
	if s.w, err = tables.OpenWriter(ctx, s.file.dsn(false)); err != nil {
		return err
	}
	s.index = search.NewIndex(s.w, s.log, project)
	s.applier = apply.Applier{Writer: s.w, Project: project.Items, ModelHash: s.modelHash, Cache: apply.RecordCache{}}
	if s.reads, err = sql.Open("sqlite", s.file.dsn(true)); err != nil {
		return err
	}
	s.reads.SetMaxOpenConns(maxReaders)
	s.reads.SetMaxIdleConns(idleReaders)

	// Verify under the lock: what was verified is what is used, and another process
	// that writes to the file is detected now and not at the first change.
	bg := context.WithoutCancel(ctx)
	if err := s.w.Transact(bg, func() error { return tables.AddLater(ctx, s.w) }); err != nil {
		return err
	}
	if err := s.w.Transact(bg, func() error { return s.verifyOrCreate(ctx, size) }); err != nil {
		return err
	}
	if size == 0 {
		// The tables must not be in the WAL only, where a torn frame loses them.
		if err := s.w.Exec(bg, "PRAGMA wal_checkpoint(PASSIVE)"); err != nil {
			return err
		}
	}
	return s.file.stat()
}
