package search

import (
	"context"
	"crypto/sha256"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// itemColumns are the content of config_items, as its digest covers it.
const (
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

func insertItem(ctx context.Context, w *tables.Writer, st *tables.State, it *conf.Item, c Change) error {
	row := itemRow(it, c)
	d, err := w.Dig.Row("config_items", row)
	if err != nil {
		return err
	}
	id, err := w.Insert(ctx, sqlItemInsert, row...)
	if err != nil {
		return err
	}
	st.Items.Add(d)
	st.ItemCount++
	return insertText(ctx, w, id, it)
}

func insertText(ctx context.Context, w *tables.Writer, id int64, it *conf.Item) error {
	value := clip(valueText(it.ValueJSON))
	return w.Exec(ctx, sqlFTSInsert, id, it.Service, it.Key, value, clip(it.Description), clip(it.HelpText), facets(it, value))
}

// Change is when a key was changed for the last time, and by whom.
type Change struct{ At, By string }

// lastChanges reads from history what config_items says of each key's change.
func lastChanges(ctx context.Context, q tables.Querier, service string) (StaleKeys, error) {
	// With max(), the other columns are those of the row that has the maximum.
	rows, err := q.QueryContext(ctx, "SELECT key, changed_at, coalesce(changed_by, ''), max(id) FROM config_history "+
		"INDEXED BY idx_config_history_service WHERE service = ? GROUP BY key", service)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := StaleKeys{}
	for rows.Next() {
		var key string
		var c Change
		var id int64
		if err := rows.Scan(&key, &c.At, &c.By, &id); err != nil {
			return nil, err
		}
		out[key] = c
	}
	return out, rows.Err()
}

// Digest sums up config_items as it is.
func Digest(ctx context.Context, q tables.Querier) (tables.Sum, int64, error) {
	rows, err := q.QueryContext(ctx, "SELECT "+itemColumns+" FROM config_items NOT INDEXED")
	if err != nil {
		return tables.Sum{}, 0, err
	}
	defer rows.Close()
	vals, dst := tables.ScanBuffer(itemWidth)
	dig := tables.NewDigester()
	var (
		all tables.Sum
		n   int64
		d   [sha256.Size]byte
	)
	for rows.Next() {
		if err := rows.Scan(dst...); err != nil {
			return tables.Sum{}, 0, err
		}
		if d, err = dig.Row("config_items", vals); err != nil {
			return tables.Sum{}, 0, err
		}
		all.Add(d)
		n++
	}
	return all, n, rows.Err()
}
