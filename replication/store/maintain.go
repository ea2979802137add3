package store

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/search"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

const (
	maxTruncateOver = 64 << 20 // WAL bytes above which checkpoint also shortens the file
	minTruncateOver = 4 << 20  // the same, on a small volume
	walOfVolume     = 16       // of a volume, at most this part
	mergeSteps      = 500      // steps in one mergeSearchIndex: what is left waits for the next

	boundEvery = 200 * time.Millisecond // between two attempts of boundWAL
	boundWait  = 50 * time.Millisecond  // for readers, in one attempt

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
	truncateOver        int64
	bounded             time.Time // last attempt of boundWAL; guarded by Store.mu
}

// maintained is what Maintain has dealt with.
type maintained struct {
	index uint64
	items tables.Sum
	since time.Time // when it first saw what it has not moved yet
}

// Maintain does the maintenance that is due: it merges the search index when something
// changed, and makes a checkpoint when much changed, or 10 seconds after a change.
// Checkpoints sync the disk that the log is written to. Without a change it does
// nothing. Call it each second, from one goroutine.
func (s *Store) Maintain(ctx context.Context) error {
	st, m := s.state.Load(), &s.maintenance
	if st.Index == m.done.index && st.Items == m.done.items {
		return nil
	}
	if m.done.since.IsZero() {
		m.done.since = time.Now()
	}
	large := s.file.walSize() > m.truncateOver
	if !large && m.written.Load() < maintainOver && time.Since(m.done.since) < maintainEvery {
		return s.mergeSearchIndex(ctx)
	}
	m.written.Store(0)
	if large { // before what makes it larger
		if err := s.checkpoint(ctx); err != nil {
			return err
		}
	}
	if err := s.mergeSearchIndex(ctx); err != nil {
		return err
	}
	if err := s.checkpoint(ctx); err != nil {
		return err
	}
	m.done = maintained{index: st.Index, items: s.state.Load().Items}
	return nil
}

// checkpoint moves what it can from the WAL into the database; SQLite's own checkpoints
// are off. Apply waits while the file is shortened. While another tool makes the
// checkpoints of the file (SetCheckpointOwner), it does nothing.
func (s *Store) checkpoint(ctx context.Context) error {
	s.maintenance.checkpoints.Lock()
	defer s.maintenance.checkpoints.Unlock()
	if s.maintenance.externalCheckpoints {
		return nil
	}
	if err := s.file.exec(ctx, "PRAGMA wal_checkpoint(PASSIVE)"); err != nil {
		return err
	}
	if s.file.walSize() <= s.maintenance.truncateOver {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file.exec(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
}

// boundWAL makes a checkpoint when batches come faster than Maintain moves them: the WAL
// would fill the disk. Readers that hold an old state may delay that. The
// caller holds mu.
func boundWAL(ctx context.Context, s *Store) {
	m := &s.maintenance
	if s.file.walSize() <= 2*m.truncateOver || time.Since(m.bounded) < boundEvery || !m.checkpoints.TryLock() { // another is at it
		return
	}
	defer m.checkpoints.Unlock()
	if m.externalCheckpoints {
		return
	}
	defer func() { m.bounded = time.Now() }()
	err := s.file.exec(ctx, fmt.Sprintf("PRAGMA busy_timeout=%d; PRAGMA wal_checkpoint(TRUNCATE)", boundWait.Milliseconds()))
	if err != nil {
		s.log.Debug("the WAL is large, and was not shortened", "err", err)
	}
}

// walLimit is the WAL size above which a checkpoint shortens the file, on a volume of so
// many bytes; 0: unknown.
func walLimit(volume uint64) int64 {
	if volume == 0 {
		return maxTruncateOver
	}
	return int64(min(max(volume/walOfVolume, minTruncateOver), maxTruncateOver)) //nolint:gosec // at most maxTruncateOver
}

// SetCheckpointOwner sets who makes the checkpoints from now on: the store, or with false
// a tool that copies the WAL, which would lose what a checkpoint of the store moves out
// of it. It waits for a checkpoint in progress.
func (s *Store) SetCheckpointOwner(own bool) {
	s.maintenance.checkpoints.Lock()
	defer s.maintenance.checkpoints.Unlock()
	s.maintenance.externalCheckpoints = !own
}

// Search finds items. Each word of the query must appear, in any case, in the
// service, the key, the first 16 KiB of the value, the description or the help; a
// word of one or two characters at the start of a word of the service, the key
// or the value. It sees all that was applied before it.
func (s *Store) Search(ctx context.Context, req conf.SearchRequest) (page conf.SearchResponse, err error) {
	query, err := search.Parse(req)
	if err != nil {
		return page, err
	}
	// With a locked or full database the items that there are have to do.
	if err := s.refreshItems(ctx); err != nil && conf.CodeOf(err) != conf.CodeLocked && conf.CodeOf(err) != conf.CodeStorageFull {
		return page, err
	}
	read := func() error {
		return s.read(ctx, "search", func(q tables.Querier) error {
			page, err = query.Page(ctx, q)
			return err
		})
	}
	err = read()
	if isIndexDamage(err) {
		if err = s.repairItems(ctx, err); err == nil {
			err = read()
		}
	}
	return page, err
}

// refreshItems brings the items up to date with all that is applied.
func (s *Store) refreshItems(ctx context.Context) error {
	return s.stepwise(ctx, "bring the search items up to date", func(ctx context.Context) (bool, error) {
		if s.index.Stale() == 0 {
			return false, nil
		}
		st, err := s.index.Refresh(ctx, s.state.Load(), s.applier.Cache)
		if err != nil {
			return false, err
		}
		s.state.Store(st)
		return s.index.Stale() > 0, nil
	})
}

// mergeSearchIndex keeps searches fast: it brings the items up to date, and merges
// their full-text index.
func (s *Store) mergeSearchIndex(ctx context.Context) error {
	if err := s.refreshItems(ctx); err != nil {
		return err
	}
	items := s.state.Load().Items
	if merged := s.maintenance.merged.Load(); merged != nil && *merged == items {
		return nil
	}
	left := mergeSteps
	return s.stepwise(ctx, "merge the full-text index", func(ctx context.Context) (bool, error) {
		more, err := s.index.MergeStep(ctx)
		if err == nil && !more {
			s.maintenance.merged.Store(&items)
		}
		left--
		return more && left > 0, err
	})
}

// stepwise calls step until there is no more, each time with the lock, so that Apply
// waits for one step at most. It repairs an index that a step finds damaged.
func (s *Store) stepwise(ctx context.Context, what string, step func(ctx context.Context) (more bool, err error)) error {
	locked := func() (bool, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.w == nil || s.broken != nil || ctx.Err() != nil {
			return false, ctx.Err()
		}
		ctx := context.WithoutCancel(ctx)
		more, err := step(ctx)
		if err == nil {
			boundWAL(ctx, s) // the steps of one call can write hundreds of megabytes
		}
		return more, err
	}
	for {
		more, err := locked()
		if isIndexDamage(err) {
			return s.repairItems(ctx, err)
		}
		if err != nil || !more {
			return s.file.wrap(what, err)
		}
	}
}

// repairItems derives the items again, after cause.
func (s *Store) repairItems(ctx context.Context, cause any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable("repair the search items"); err != nil {
		return err
	}
	s.log.Warn("the search items are damaged, making them again", "path", s.file.path, "cause", cause)
	return s.file.wrap("repair the search items", s.rederive(context.WithoutCancel(ctx)))
}

// rederive derives the items again. The caller holds mu.
func (s *Store) rederive(ctx context.Context) error {
	old := s.state.Load()
	st := *old
	err := s.w.Transact(ctx, func() error {
		if err := s.index.Derive(ctx, &st); err != nil {
			return err
		}
		return s.w.WriteMeta(ctx, &st, old)
	})
	if err != nil {
		return err
	}
	s.state.Store(&st)
	s.index.ClearStale()
	return nil
}
