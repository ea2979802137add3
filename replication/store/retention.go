package store

import (
	"context"
	"crypto/sha256"

	"github.com/holdfast-config/holdfast/replication/command"
)

// batch adds the rows of one agent's queue, unless they were added before.
func (t *tx) batch(c *command.Audit) error {
	if c.Source == "" {
		return t.audit(c.Rows)
	}
	old, err := readRow(t.ctx, t.w, t.dig, tableSources, c.Source)
	if err != nil {
		return err
	}
	if old != nil && uintOf(old.vals[1]) >= c.Seq {
		return nil
	}
	at := "" // an empty batch only moves the number on
	if n := len(c.Rows); n > 0 {
		at = c.Rows[n-1].Timestamp
	}
	if err := t.upsert(tableSources, old, c.Source, int64(c.Seq), at); err != nil { //nolint:gosec // counts batches
		return err
	}
	return t.audit(c.Rows)
}

// aged is a log whose rows are taken away when they are too old.
type aged struct {
	tab         *table
	at          int // the column with the time
	find, erase string
}

func agedLog(tab *table, at int, index string) *aged {
	// The newest row stays, whatever its age: a node that is restored from a
	// snapshot goes on with the id behind the highest that it has.
	name, col := tab.name, tab.cols[at]
	return &aged{
		tab: tab, at: at,
		find: "SELECT id FROM " + name + " INDEXED BY " + index + " WHERE " + col + " < ? AND id < (SELECT max(id) FROM " + name + ")" +
			" ORDER BY " + col + ", id LIMIT ?",
		erase: "DELETE FROM " + name + " WHERE id = ?",
	}
}

func agedLogs() (access, history *aged) {
	return agedLog(tableAccess, 6, "idx_access_log_time"), agedLog(tableHistory, 4, "idx_config_history_time")
}

// prune takes away the oldest rows. Which they are follows from the rows alone:
// equal times are in the order of the log, which is the same on every node.
func (t *tx) prune(c *command.Prune) error {
	access, history := agedLogs()
	if c.Access != "" {
		if err := t.pruneLog(access, c.Access, c.Limit); err != nil {
			return err
		}
		if err := t.pruneSources(c.Access, c.Limit); err != nil {
			return err
		}
	}
	if c.History != "" {
		return t.pruneLog(history, c.History, c.Limit)
	}
	return nil
}

func (t *tx) pruneLog(l *aged, before string, limit int) error {
	ids, err := column[int64](t.ctx, t.w, l.find, before, limit)
	if err != nil {
		return err
	}
	for _, id := range ids {
		d, err := t.proveID(l.tab, id)
		if err != nil {
			return err
		}
		t.st.digest.sub(d)
		if err := t.w.exec(t.ctx, l.erase, id); err != nil {
			return err
		}
	}
	return nil
}

// proveID is the digest of a row of a log.
func (t *tx) proveID(tab *table, id int64) (d [sha256.Size]byte, err error) {
	vals := make([]any, len(tab.cols)+1)
	dst := make([]any, len(vals))
	for i := range vals {
		dst[i] = &vals[i]
	}
	if err := t.w.QueryRowContext(t.ctx, tab.selectID, id).Scan(dst...); err != nil {
		return d, err
	}
	n := len(tab.cols)
	if d, err = t.dig.row(tab.name, vals[:n]); err != nil {
		return d, err
	}
	if !sameDigest(d, vals[n]) {
		return d, corrupt("the row %d of %s does not have its digest", id, tab.name)
	}
	return d, nil
}

// pruneSources forgets queues that were silent for as long as rows are kept.
func (t *tx) pruneSources(before string, limit int) error {
	names, err := column[string](t.ctx, t.w, "SELECT source FROM audit_sources WHERE at < ? ORDER BY at, source LIMIT ?", before, limit)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := t.remove(tableSources, name); err != nil {
			return err
		}
	}
	return nil
}

// column reads one column of all rows.
func column[T any](ctx context.Context, q querier, query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		var v T
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// Prunable says whether a Prune with these times would take anything away; an
// empty time asks for nothing.
func (s *Store) Prunable(ctx context.Context, accessBefore, historyBefore string) (bool, error) {
	found := false
	access, history := agedLogs()
	err := s.read(ctx, "look for old rows", func(q querier) error {
		for l, before := range map[*aged]string{access: accessBefore, history: historyBefore} {
			if before == "" {
				continue
			}
			ids, err := column[int64](ctx, q, l.find, before, 1)
			if err != nil {
				return err
			}
			found = found || len(ids) > 0
		}
		return nil
	})
	return found, err
}

// AuditSeq is the number of the last batch of a queue that was applied, 0 for none.
func (s *Store) AuditSeq(ctx context.Context, source string) (uint64, error) {
	var seq uint64
	err := s.read(ctx, "read the queue of an agent", func(q querier) error {
		r, err := readRow(ctx, q, newDigester(), tableSources, source)
		if r != nil {
			seq = uintOf(r.vals[1])
		}
		return err
	})
	return seq, err
}
