package store

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/apply"
	"github.com/holdfast-config/holdfast/replication/store/query"
	"github.com/holdfast-config/holdfast/replication/store/search"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// Entry is one entry of the log.
type Entry = apply.Entry

// Store is one open replica. See the package's invariants for who calls what.
type Store struct {
	Queries *query.Queries // reads of the content

	log       *slog.Logger
	modelHash tables.ModelHash
	file      *file

	mu      sync.Mutex     // the writer, and its users applier and index
	w       *tables.Writer // nil after Close
	applier apply.Applier
	index   *search.Index
	broken  error // corruption met while applying; final

	history digestHistory
	state   atomic.Pointer[tables.State]

	reads     *sql.DB
	verifying sync.Mutex

	maintenance maintenance
	lock        lockProbe
}

// Apply stores a batch in one transaction and returns a result for each entry,
// and the newest record of every service that the batch touched. An entry at or
// below the applied index changes nothing and results in Duplicate.
//
// An error means that nothing of the batch is stored. After CodeLocked or
// CodeStorageFull the same batch can be tried again; after any other the caller
// must stop applying.
func (s *Store) Apply(ctx context.Context, entries []apply.Entry) ([]command.Result, []*conf.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable("apply"); err != nil {
		return nil, nil, err
	}
	// A batch is short, and cannot be stored in part.
	b, err := s.applier.Apply(context.WithoutCancel(ctx), s.state.Load(), entries)
	if err != nil {
		err = s.file.wrap("apply", err)
		if conf.CodeOf(err) == conf.CodeCorrupt {
			s.broken = err
		}
		return nil, nil, err
	}
	s.state.Store(b.State)
	s.history.add(b.Digests)
	s.maintenance.written.Add(int64(8 + 4*len(entries)))
	s.index.AddStale(b.Stale)
	boundWAL(context.WithoutCancel(ctx), s)
	return b.Results, b.Records, nil
}

// usable returns the error of a store that cannot write. The caller holds mu.
func (s *Store) usable(what string) error {
	switch {
	case s.broken != nil:
		return s.broken
	case s.w == nil:
		return conf.Errorf(conf.CodeInternal, "%s: the store is closed", what)
	}
	return nil
}

// read runs f on a read transaction: all of its queries see one moment.
func (s *Store) read(ctx context.Context, what string, f func(q tables.Querier) error) error {
	tx, err := s.reads.BeginTx(ctx, nil)
	if err != nil {
		return s.file.wrap(what, err)
	}
	defer func() { _ = tx.Rollback() }()
	return s.file.wrap(what, f(tx))
}

// Close closes the store. Snapshots must have been closed before.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := []error{s.lock.close()}
	if s.reads != nil {
		errs = append(errs, s.reads.Close())
	}
	if s.w != nil {
		errs = append(errs, s.w.Close())
		s.w = nil
	}
	return s.file.wrap("close the database", errors.Join(errs...))
}

// CheckFiles returns an error when the files under the path of the store are not those
// that are open.
func (s *Store) CheckFiles() error { return s.file.check() }

// Applied is the log position up to which everything is stored.
func (s *Store) Applied() (index, term uint64) {
	st := s.state.Load()
	return st.Index, st.Term
}

// Epoch is the epoch of the store, "" before its Genesis.
func (s *Store) Epoch() string { return s.state.Load().Epoch }

// Genesis returns the epoch and when it was started.
func (s *Store) Genesis() (epoch, createdAt string) {
	st := s.state.Load()
	return st.Epoch, st.Created
}

// Digest is the state digest in hex: the same on all nodes at the same index.
func (s *Store) Digest() string { return s.state.Load().Digest.String() }

// SchemaVersion is the row of schema_version.
func (s *Store) SchemaVersion() (version int, modelHash string) {
	st := s.state.Load()
	return st.Version, st.ModelHash
}

// DigestAt is the digest of the state after the entry with that index, as long as
// it is retained: for some thousand entries, and not over a restart.
func (s *Store) DigestAt(index uint64) (digest string, ok bool) {
	if st := s.state.Load(); st.Index == index && index > 0 {
		return st.Digest.String(), true
	}
	d, ok := s.history.at(index)
	return d.String(), ok
}

// Position is the applied index and the digest of the state at it.
func (s *Store) Position() (index uint64, digest string) {
	st := s.state.Load()
	return st.Index, st.Digest.String()
}
