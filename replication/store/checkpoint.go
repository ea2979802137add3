package store

import (
	"context"
	"database/sql"
	"os"
)

const (
	truncateOver = 32 << 20 // WAL bytes above which Checkpoint also shortens the file
	mergePages   = 200      // pages of the full-text index that one step merges
	mergeSteps   = 500      // steps in one Checkpoint: what is left waits for the next
)

// Checkpoint does the upkeep that is kept out of Apply: it merges the full-text
// index in small steps, and moves what it can from the WAL into the database.
// Call it now and then, from any goroutine; SQLite's own checkpoints are off.
// Apply waits for one step at most. While a replication tool owns the
// checkpoints of the file, call Merge instead.
func (s *Store) Checkpoint(ctx context.Context) error {
	if err := s.Merge(ctx); err != nil {
		return err
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

// Merge is the part of Checkpoint that keeps searches fast.
func (s *Store) Merge(ctx context.Context) error {
	for range mergeSteps {
		more, err := s.mergeStep(ctx)
		if isIndexDamage(err) {
			return s.repair(ctx, err)
		}
		if err != nil {
			return s.fault("merge the full-text index", err)
		}
		if !more {
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
