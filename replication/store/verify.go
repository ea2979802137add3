package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"os"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// fullCheckBelow is the size of a file up to which SQLite checks every page.
// Above, checking the inside of the full-text index, which is derived and by far
// the largest part, would take longer than everything else together: then the
// trees of all tables are checked, but neither that nor the list of free pages.
const fullCheckBelow = 64 << 20

// page is SQLite's page size, which is also the size of a file without a table.
const page = 4096

// load makes an empty file a store, or verifies and reads the one that is there.
// It runs inside the writer's transaction.
func (s *Store) load(ctx context.Context, size int64) error {
	// The tables of another format look wrong to this build, and are not corrupt.
	if _, err := readMeta(ctx, s.w, s.dig); conf.CodeOf(err) == conf.CodeUnsupported {
		return err
	}
	empty, err := checkSchema(ctx, s.w)
	if err != nil {
		return err
	}
	if empty {
		if size > page {
			return corrupt("a file of %d bytes has no tables", size)
		}
		return s.create(context.WithoutCancel(ctx))
	}
	st, derived, err := s.verify(ctx, size < fullCheckBelow)
	if err != nil {
		return err
	}
	if !derived {
		s.log.Warn("the search items differ from the configuration, making them again", "path", s.opts.Path)
		old := *st
		if err := s.deriveItems(ctx, st); err != nil {
			return err
		}
		if err := s.w.writeMeta(ctx, s.dig, st, &old); err != nil {
			return err
		}
	}
	if err := s.findBehind(ctx, st); err != nil {
		return err
	}
	if st.apiTokens, err = readAPITokens(ctx, s.w, s.dig); err != nil {
		return err
	}
	s.state.Store(st)
	return nil
}

func (s *Store) create(ctx context.Context) error {
	for _, stmt := range statements() {
		if _, err := s.w.conn.ExecContext(ctx, stmt); err != nil {
			return err
		}
	}
	// Checkpoint merges the full-text index. Only when nobody calls it, and this
	// many changes left a segment each, does a change merge those.
	for _, set := range []string{"'automerge', 0", "'crisismerge', 64"} {
		if _, err := s.w.conn.ExecContext(ctx, "INSERT INTO items_fts (items_fts, rank) VALUES ("+set+")"); err != nil {
			return err
		}
	}
	if err := s.w.exec(ctx, sqlItemsAt, int64(0)); err != nil {
		return err
	}
	st := &state{}
	if err := s.w.writeMeta(ctx, s.dig, st, st); err != nil {
		return err
	}
	s.state.Store(st)
	return nil
}

// Verify proves what the file holds, as Open does: SQLite's own check of the
// pages, the digest of every covered row, their sum, the model hash and the
// derived items, which are made again when they differ. Writes go on meanwhile.
func (s *Store) Verify(ctx context.Context) error {
	size := int64(0)
	if f, err := os.Stat(s.opts.Path); err == nil {
		size = f.Size()
	}
	st, derived, err := s.verify(ctx, size < fullCheckBelow)
	switch {
	case err != nil:
		return s.fault("verify", err)
	case st.modelHash != st.wantHash:
		return conf.Errorf(conf.CodeSchemaMismatch, "the stored schemas have the model hash %s, schema_version says %s", st.wantHash, st.modelHash)
	case !derived:
		return s.repair(ctx, "verification")
	}
	return nil
}

// verify reads with two connections at once, because one core is not enough to
// be quick over a large store. derived says whether the items are as they should be.
func (s *Store) verify(ctx context.Context, full bool) (st *state, derived bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.verifying.Lock() // two that wait for their second connection would wait for ever
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
		ok, err := checkPages(ctx, a, full)
		if err != nil {
			cancel(err)
		}
		pages <- ok
	}()
	var items sum
	var count int64
	if st, err = s.verifyRows(ctx, b); err == nil {
		items, count, err = itemsDigest(ctx, b)
	}
	if err != nil {
		cancel(err)
	}
	ok := <-pages
	if err := context.Cause(ctx); err != nil {
		return nil, false, err // the first one; it stopped the other
	}
	return st, ok && items == st.items && count == st.itemCount, nil
}

// pin begins a read transaction and makes it see what is there now: BEGIN alone
// would wait for the first query.
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

// verifyRows proves every covered row and reads the state from them.
func (s *Store) verifyRows(ctx context.Context, q querier) (*state, error) {
	dig := newDigester()
	st, err := readMeta(ctx, q, dig)
	if err != nil {
		return nil, err
	}
	var all sum
	schemas := map[string][]byte{}
	for _, t := range covered {
		n := int64(0)
		err := eachRow(ctx, q, t, dig, func(vals []any, d [sha256.Size]byte) error {
			all.add(d)
			n++
			if t == tableSchemas {
				text := []byte(textOf(vals[1]))
				if sha := sha256.Sum256(text); hex.EncodeToString(sha[:]) != textOf(vals[2]) {
					return corrupt("the schema of %s does not have its hash", textOf(vals[0]))
				}
				schemas[textOf(vals[0])] = text
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		switch t {
		case tableRequests:
			st.requests = n
		case tableConfigs:
			st.services = n
		}
	}
	if all != st.digest {
		return nil, corrupt("the rows have the digest %s, meta says %s", all, st.digest)
	}
	if st.version == 0 {
		return st, nil // no Genesis yet
	}
	st.wantHash = s.opts.ModelHash(schemas)
	var version int
	var at string
	err = q.QueryRowContext(ctx, "SELECT version, model_hash, updated_at FROM schema_version WHERE id = 1").Scan(&version, &st.modelHash, &at)
	if err != nil {
		return nil, corrupt("schema_version: %w", err)
	}
	if version != st.version || at != st.versionAt {
		return nil, corrupt("schema_version has version %d, meta says %d", version, st.version)
	}
	return st, nil
}

// eachRow reads all of t in the order of the rows and proves each by its digest.
// vals has the id behind the content when the table has one, and is used again.
func eachRow(ctx context.Context, q querier, t *table, dig *digester, fn func(vals []any, d [sha256.Size]byte) error) error {
	rows, err := q.QueryContext(ctx, t.selectAll)
	if err != nil {
		return err
	}
	defer rows.Close()
	n := len(t.cols)
	width := n + 1
	if t.id {
		width++
	}
	vals := make([]any, width)
	dst := make([]any, width)
	for i := range vals {
		dst[i] = &vals[i]
	}
	for rows.Next() {
		if err := rows.Scan(dst...); err != nil {
			return err
		}
		d, err := dig.row(t.name, vals[:n])
		if err != nil {
			return err
		}
		if !sameDigest(d, vals[n]) {
			return corrupt("a row of %s does not have its digest", t.name)
		}
		content := vals[:n]
		if t.id {
			content = append(content[:n:n], vals[n+1])
		}
		if err := fn(content, d); err != nil {
			return err
		}
	}
	return rows.Err()
}

// checkPages lets SQLite look at the structure of the file. What it finds in the
// full-text index only makes derived false.
func checkPages(ctx context.Context, q querier, full bool) (derived bool, err error) {
	// Rows are found through the indexes of these tables when a change is applied.
	checks := []string{"PRAGMA integrity_check(meta)", "PRAGMA integrity_check(schema_version)"}
	for _, t := range covered {
		checks = append(checks, "PRAGMA integrity_check("+t.name+")")
	}
	if full {
		// A search reads names from the indexes of the items.
		checks = append(checks, "PRAGMA quick_check", "PRAGMA integrity_check(config_items)")
	} else {
		checks = append(checks, "PRAGMA quick_check(config_items)", "PRAGMA quick_check(items_fts_data)",
			"PRAGMA quick_check(items_fts_idx)", "PRAGMA quick_check(items_fts_docsize)", "PRAGMA quick_check(items_fts_config)")
	}
	derived = true
	for _, c := range checks {
		rows, err := q.QueryContext(ctx, c)
		if err != nil {
			return false, err
		}
		for rows.Next() {
			var msg string
			if err := rows.Scan(&msg); err != nil {
				_ = rows.Close()
				return false, err
			}
			switch {
			case msg == "ok":
			case strings.Contains(strings.ToLower(msg), "fts5"):
				derived = false
			default:
				_ = rows.Close()
				return false, corrupt("%s", msg)
			}
		}
		if err := rows.Err(); err != nil {
			return false, err
		}
	}
	return derived, nil
}
