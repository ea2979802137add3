package store

import (
	"context"
	"database/sql"
	"os"
	"time"
)

const (
	truncateOver = 64 << 20 // WAL bytes above which Checkpoint also shortens the file
	mergePages   = 200      // pages of the full-text index that one step merges
	mergeSteps   = 500      // steps in one Checkpoint: what is left waits for the next

	tendOver  = 6000 // pages in the WAL, about, above which Tend does not wait
	tendEvery = 10 * time.Second
)

// Tend does the upkeep that is worth doing now: Merge when something changed, and
// Checkpoint when much did, or a while ago. Checkpoints sync the disk that the log
// is written to. Nothing costs nothing. Call it each second, from one goroutine.
func (s *Store) Tend(ctx context.Context) error {
	st := s.state.Load()
	if st.index == s.tended.index && st.items == s.tended.items {
		return nil
	}
	if s.tended.since.IsZero() {
		s.tended.since = time.Now()
	}
	if s.written.Load() < tendOver && time.Since(s.tended.since) < tendEvery {
		return s.Merge(ctx)
	}
	s.written.Store(0)
	if err := s.Checkpoint(ctx); err != nil {
		return err
	}
	s.tended = tended{index: st.index, items: s.state.Load().items}
	return nil
}

// tended is what Tend did last.
type tended struct {
	index uint64
	items sum
	since time.Time // when it first saw what it has not moved yet
}

// Checkpoint does the upkeep that is kept out of Apply: it merges the full-text
// index in small steps, and moves what it can from the WAL into the database.
// Call it now and then, from any goroutine; SQLite's own checkpoints are off.
// Apply waits for one step at most. While a backup owns the checkpoints of the
// file (OwnCheckpoints), it only merges.
func (s *Store) Checkpoint(ctx context.Context) error {
	if err := s.Merge(ctx); err != nil {
		return err
	}
	s.checkpoints.Lock()
	defer s.checkpoints.Unlock()
	if s.theirs {
		return nil
	}
	db, err := sql.Open("sqlite", s.dsn(false))
	if err != nil {
		return s.fault("checkpoint", err)
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)"); err != nil {
		return s.fault("checkpoint", err)
	}
	if st, err := os.Stat(s.walPath()); err != nil || st.Size() <= truncateOver {
		return nil //nolint:nilerr // Present tells about a file that is gone
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := db.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		return s.fault("checkpoint", err)
	}
	return nil
}

// OwnCheckpoints says who makes the checkpoints from now on: with false it is a
// tool that copies the WAL, which would lose what a checkpoint of ours moves out
// of it. It waits for one that is being made.
func (s *Store) OwnCheckpoints(own bool) {
	s.checkpoints.Lock()
	defer s.checkpoints.Unlock()
	s.theirs = !own
}

// Merge is the part of Checkpoint that keeps searches fast: it brings the items
// up to date, and merges their full-text index.
func (s *Store) Merge(ctx context.Context) error {
	if err := s.catchUp(ctx); err != nil {
		return err
	}
	items := s.state.Load().items
	if merged := s.merged.Load(); merged != nil && *merged == items {
		return nil
	}
	for range mergeSteps {
		more, err := s.mergeStep(ctx)
		if isIndexDamage(err) {
			return s.repair(ctx, err)
		}
		if err != nil {
			return s.fault("merge the full-text index", err)
		}
		if !more {
			s.merged.Store(&items)
			return nil
		}
	}
	return nil
}

func (s *Store) mergeStep(ctx context.Context) (more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.w == nil || s.broken != nil || ctx.Err() != nil {
		return false, ctx.Err()
	}
	ctx = context.WithoutCancel(ctx)
	before, after := 0, 0
	err = s.w.transact(ctx, func() error {
		if err := s.w.QueryRowContext(ctx, "SELECT total_changes()").Scan(&before); err != nil {
			return err
		}
		if err := s.w.exec(ctx, "INSERT INTO items_fts (items_fts, rank) VALUES ('merge', ?)", mergePages); err != nil {
			return err
		}
		return s.w.QueryRowContext(ctx, "SELECT total_changes()").Scan(&after)
	})
	return after-before > 1, err // one is the command itself
}
