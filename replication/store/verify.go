package store

import (
	"context"
	"database/sql"
	"os"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/search"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// fullCheckBelow is the size of a file up to which SQLite checks every page.
// Above, checking the inside of the full-text index, which is derived and by far
// the largest part, would take longer than everything else together: then the
// trees of all tables are checked, but neither that nor the list of free pages.
const fullCheckBelow = 64 << 20

// verifyOrCreate makes an empty file a store, or verifies and reads the one that is
// there. It runs inside the writer's transaction.
func (s *Store) verifyOrCreate(ctx context.Context, size int64) error {
	// The tables of another format look wrong to this build, and are not corrupt.
	if _, err := tables.ReadMeta(ctx, s.w, s.w.Dig); conf.CodeOf(err) == conf.CodeUnsupported {
		return err
	}
	empty, err := tables.CheckSchema(ctx, s.w)
	if err != nil {
		return err
	}
	if empty {
		if size > tables.PageSize {
			return tables.Corrupt("a file of %d bytes has no tables", size)
		}
		return s.create(context.WithoutCancel(ctx))
	}
	st, derived, err := s.verify(ctx, size < fullCheckBelow)
	if err != nil {
		return err
	}
	if !derived {
		s.log.Warn("the search items differ from the configuration, making them again", "path", s.file.path)
		old := *st
		if err := s.index.Derive(ctx, st); err != nil {
			return err
		}
		if err := s.w.WriteMeta(ctx, st, &old); err != nil {
			return err
		}
	}
	if err := s.index.FindStale(ctx, st); err != nil {
		return err
	}
	if st.APITokens, err = tables.ReadAPITokens(ctx, s.w, s.w.Dig); err != nil {
		return err
	}
	s.state.Store(st)
	return nil
}

func (s *Store) create(ctx context.Context) error {
	for _, stmt := range tables.Statements() {
		if _, err := s.w.Conn.ExecContext(ctx, stmt); err != nil {
			return err
		}
	}
	if err := s.index.Create(ctx); err != nil {
		return err
	}
	st := &tables.State{}
	if err := s.w.WriteMeta(ctx, st, st); err != nil {
		return err
	}
	s.state.Store(st)
	return nil
}

// Verify verifies the file, as Open does: SQLite's own check of the pages, the digest
// of every covered row, their sum, the model hash and the derived items, which are
// derived again when they differ. Writes continue meanwhile.
func (s *Store) Verify(ctx context.Context) error {
	size := int64(0)
	if f, err := os.Stat(s.file.path); err == nil {
		size = f.Size()
	}
	st, derived, err := s.verify(ctx, size < fullCheckBelow)
	switch {
	case err != nil:
		return s.file.wrap("verify", err)
	case st.ModelHash != st.WantHash:
		return conf.Errorf(conf.CodeSchemaMismatch, "the stored schemas have the model hash %s, schema_version says %s", st.WantHash, st.ModelHash)
	case !derived:
		return s.repairItems(ctx, "verification")
	}
	return nil
}

// verify reads with two connections at once, because one core is not enough to
// verify a large store fast. derived reports whether the items are right.
func (s *Store) verify(ctx context.Context, full bool) (st *tables.State, derived bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.verifying.Lock() // two that wait for their second connection would deadlock
	defer s.verifying.Unlock()
	var txs [2]*sql.Tx
	var conns [2]*sql.Conn
	for i := range conns {
		if conns[i], err = s.reads.Conn(ctx); err != nil {
			return nil, false, err
		}
		defer conns[i].Close()
	}
	err = func() error {
		s.mu.Lock() // both see the same moment
		defer s.mu.Unlock()
		for i, c := range conns {
			if txs[i], err = pin(ctx, c); err != nil {
				return err
			}
		}
		return nil
	}()
	for _, tx := range txs {
		if tx != nil {
			defer func() { _ = tx.Rollback() }()
		}
	}
	if err != nil {
		return nil, false, err
	}
	a, b := txs[0], txs[1]

	pages := make(chan bool, 1)
	go func() {
		ok, err := tables.CheckPages(ctx, a, full)
		if err != nil {
			cancel(err)
		}
		pages <- ok
	}()
	var items tables.Sum
	var count int64
	if st, err = tables.VerifyRows(ctx, b, s.modelHash); err == nil {
		items, count, err = search.Digest(ctx, b)
	}
	if err != nil {
		cancel(err)
	}
	ok := <-pages
	if err := context.Cause(ctx); err != nil {
		return nil, false, err // the first one; it stopped the other
	}
	return st, ok && items == st.Items && count == st.ItemCount, nil
}

// pin begins a read transaction that sees the present content: BEGIN alone would
// wait for the first query.
func pin(ctx context.Context, c *sql.Conn) (*sql.Tx, error) {
	tx, err := c.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	var n int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM meta").Scan(&n); err != nil {
		_ = tx.Rollback()
		return nil, err
	}
	return tx, nil
}
