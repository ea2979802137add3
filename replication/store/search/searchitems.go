package search

import (
	"context"
	"database/sql"
	"slices"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// itemColumns are the content of config_items, as its digest covers it.
const (
	itemTable   = "config_items"
	itemColumns = "service, key, value_json, type, complexity, description, help_text, is_secret, updated_at, updated_by"
	itemWidth   = 10

	sqlItemsOf    = "SELECT " + itemColumns + ", id FROM config_items WHERE service = ?"
	sqlItemInsert = "INSERT INTO config_items (" + itemColumns + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	sqlItemUpdate = "UPDATE config_items SET value_json = ?, type = ?, complexity = ?, description = ?, help_text = ?, updated_at = ?, updated_by = ? WHERE id = ?"
	sqlItemDelete = "DELETE FROM config_items WHERE id = ?"
	sqlFTSInsert  = "INSERT INTO items_fts (rowid, service, key, value, description, help, facets) VALUES (?, ?, ?, ?, ?, ?, ?)"
	sqlFTSDelete  = "DELETE FROM items_fts WHERE rowid = ?"
)

// itemRow is the row of an item. is_secret is always 0: a secret has no row.
func itemRow(it *conf.Item, c Change) []any {
	return []any{it.Service, it.Key, it.ValueJSON, string(it.Type), string(it.Complexity), it.Description, it.HelpText, int64(0), c.At, tables.Null(c.By)}
}

// Change is when a key was changed for the last time, and by whom.
type Change struct{ At, By string }

// lastChanges reads from the history when each key was changed last, and by whom.
func lastChanges(ctx context.Context, q tables.Querier, service string) (StaleKeys, error) {
	out := StaleKeys{}
	// With max(), the other columns are those of the row that has the maximum.
	err := tables.Select(ctx, q, func(rows *sql.Rows) error {
		var key string
		var c Change
		var id int64
		err := rows.Scan(&key, &c.At, &c.By, &id)
		out[key] = c
		return err
	}, "SELECT key, changed_at, coalesce(changed_by, ''), max(id) FROM config_history "+
		"INDEXED BY idx_config_history_service WHERE service = ? GROUP BY key", service)
	return out, err
}

// Digest sums up config_items as it is.
func Digest(ctx context.Context, q tables.Querier) (all tables.Sum, n int64, err error) {
	vals, dst := tables.ScanBuffer(itemWidth)
	dig := tables.NewDigester()
	err = tables.Select(ctx, q, func(rows *sql.Rows) error {
		if err := rows.Scan(dst...); err != nil {
			return err
		}
		d, err := dig.Row(itemTable, vals)
		all.Add(d)
		n++
		return err
	}, "SELECT "+itemColumns+" FROM config_items NOT INDEXED")
	return all, n, err
}

// storedItem is a row of config_items.
type storedItem struct {
	vals []any
	id   int64
}

// storedItems reads the items of a service by key.
func storedItems(ctx context.Context, q tables.Querier, service string) (map[string]*storedItem, error) {
	out := map[string]*storedItem{}
	err := tables.Select(ctx, q, func(rows *sql.Rows) error {
		vals, dst := tables.ScanBuffer(itemWidth + 1)
		r := &storedItem{vals: vals[:itemWidth]}
		dst[itemWidth] = &r.id
		err := rows.Scan(dst...)
		out[tables.TextOf(r.vals[1])] = r
		return err
	}, sqlItemsOf, service)
	return out, err
}

// itemWriter changes rows of config_items, and with them the full-text index and the
// digest of all items.
type itemWriter struct {
	ctx context.Context //nolint:containedctx // lives for one transaction only
	w   *tables.Writer
	st  *tables.State
}

func (r *itemWriter) insert(it *conf.Item, c Change) error {
	vals := itemRow(it, c)
	d, err := r.w.Dig.Row(itemTable, vals)
	if err != nil {
		return err
	}
	id, err := r.w.Insert(r.ctx, sqlItemInsert, vals...)
	if err != nil {
		return err
	}
	r.st.Items.Add(d)
	r.st.ItemCount++
	return r.insertText(id, it)
}

func (r *itemWriter) insertText(id int64, it *conf.Item) error {
	value := clip(valueText(it.ValueJSON))
	return r.w.Exec(r.ctx, sqlFTSInsert, id, it.Service, it.Key, value, clip(it.Description), clip(it.HelpText), facets(it, value))
}

// update makes row that of it, if it is not yet.
func (r *itemWriter) update(row *storedItem, it *conf.Item, c Change) error {
	vals := itemRow(it, c)
	if slices.Equal(vals, row.vals) {
		return nil
	}
	old, err := r.w.Dig.Row(itemTable, row.vals)
	if err != nil {
		return err
	}
	now, err := r.w.Dig.Row(itemTable, vals)
	if err != nil {
		return err
	}
	r.st.Items.Sub(old)
	r.st.Items.Add(now)
	if err := r.w.Exec(r.ctx, sqlItemUpdate, vals[2], vals[3], vals[4], vals[5], vals[6], vals[8], vals[9], row.id); err != nil {
		return err
	}
	if slices.Equal(vals[:8], row.vals[:8]) {
		return nil // nothing of it is searched
	}
	if err := r.w.Exec(r.ctx, sqlFTSDelete, row.id); err != nil {
		return err
	}
	return r.insertText(row.id, it)
}

func (r *itemWriter) remove(row *storedItem) error {
	d, err := r.w.Dig.Row(itemTable, row.vals)
	if err != nil {
		return err
	}
	r.st.Items.Sub(d)
	r.st.ItemCount--
	if err := r.w.Exec(r.ctx, sqlItemDelete, row.id); err != nil {
		return err
	}
	return r.w.Exec(r.ctx, sqlFTSDelete, row.id)
}

// refresh changes the rows of a service's items that differ, and no others. changes are
// what edits changed since, nil: the history has them.
func (x *Index) refresh(ctx context.Context, st *tables.State, service string, rec *tables.StoredRecord, changes StaleKeys) error {
	stored, err := storedItems(ctx, x.Writer, service)
	if err != nil {
		return err
	}
	complete := changes == nil
	if complete {
		if changes, err = lastChanges(ctx, x.Writer, service); err != nil {
			return err
		}
	}
	w := itemWriter{ctx, x.Writer, st}
	items := x.items(rec)
	for i := range items {
		it := &items[i]
		row := stored[it.Key]
		delete(stored, it.Key)
		c, changed := changes[it.Key]
		if row != nil {
			if !changed {
				c = Change{tables.TextOf(row.vals[8]), tables.TextOf(row.vals[9])}
			}
			if err := w.update(row, it, c); err != nil {
				return err
			}
			continue
		}
		if !changed && !complete {
			// The schema splits the document in another way: the key is as old as
			// in the history.
			if changes, err = lastChanges(ctx, x.Writer, service); err != nil {
				return err
			}
			complete = true
			c, changed = changes[it.Key]
		}
		if !changed {
			c = Change{rec.Record.UpdatedAt, rec.Record.UpdatedBy}
		}
		if err := w.insert(it, c); err != nil {
			return err
		}
	}
	for _, key := range conf.SortedKeys(stored) {
		if err := w.remove(stored[key]); err != nil {
			return err
		}
	}
	return nil
}
