package store

import (
	"context"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/search"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

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
		return step(context.WithoutCancel(ctx))
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
