package store

import (
	"context"
	"database/sql"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/replication/store/tables"
)

const (
	truncateOver = 64 << 20 // WAL bytes above which checkpoint also shortens the file
	mergeSteps   = 500      // steps in one mergeSearchIndex: what is left waits for the next

	maintainOver  = 6000 // pages in the WAL, about, above which Maintain does not wait
	maintainEvery = 10 * time.Second
)

// maintenance is the state of Maintain.
type maintenance struct {
	done    maintained
	written atomic.Int64               // pages that Apply wrote since the last checkpoint, about
	merged  atomic.Pointer[tables.Sum] // the items of which the full-text index is merged

	checkpoints         sync.Mutex
	externalCheckpoints bool // another tool makes the checkpoints
}

// maintained is what Maintain has dealt with.
type maintained struct {
	index uint64
	items tables.Sum
	since time.Time // when it first saw what it has not moved yet
}

// Tend does the maintenance that is due: it merges the search index when something
// changed, and makes a checkpoint when much changed, or 10 seconds after a change.
// Checkpoints sync the disk that the log is written to. Without a change it does
// nothing. Call it each second, from one goroutine.
func (s *Store) Tend(ctx context.Context) error {
	st, m := s.state.Load(), &s.maintenance
	if st.Index == m.done.index && st.Items == m.done.items {
		return nil
	}
	if m.done.since.IsZero() {
		m.done.since = time.Now()
	}
	if m.written.Load() < maintainOver && time.Since(m.done.since) < maintainEvery {
		return s.mergeSearchIndex(ctx)
	}
	m.written.Store(0)
	if err := s.checkpoint(ctx); err != nil {
		return err
	}
	m.done = maintained{index: st.Index, items: s.state.Load().Items}
	return nil
}

// checkpoint merges the search index, and moves what it can from the WAL into the
// database; SQLite's own checkpoints are off. Apply waits for one step at most. While
// another tool makes the checkpoints of the file (OwnCheckpoints), it only merges.
func (s *Store) checkpoint(ctx context.Context) error {
	if err := s.mergeSearchIndex(ctx); err != nil {
		return err
	}
	s.maintenance.checkpoints.Lock()
	defer s.maintenance.checkpoints.Unlock()
	if s.maintenance.externalCheckpoints {
		return nil
	}
	db, err := sql.Open("sqlite", s.file.dsn(false))
	if err != nil {
		return s.file.wrap("checkpoint", err)
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)"); err != nil {
		return s.file.wrap("checkpoint", err)
	}
	if st, err := os.Stat(s.file.walPath()); err != nil || st.Size() <= truncateOver {
		return nil //nolint:nilerr // Present reports a missing file
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := db.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		return s.file.wrap("checkpoint", err)
	}
	return nil
}

// OwnCheckpoints sets who makes the checkpoints from now on: the store, or with false
// a tool that copies the WAL, which would lose what a checkpoint of the store moves out
// of it. It waits for a checkpoint in progress.
func (s *Store) OwnCheckpoints(own bool) {
	s.maintenance.checkpoints.Lock()
	defer s.maintenance.checkpoints.Unlock()
	s.maintenance.externalCheckpoints = !own
}
