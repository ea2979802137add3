package search

import (
	"context"
	"slices"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// refresh changes the rows of a service's items that differ, and no others.
func (x *Index) refresh(ctx context.Context, st *tables.State, service string, rec *tables.StoredRecord) error {
	stored, err := storedItems(ctx, x.Writer, service)
	if err != nil {
		return err
	}
	r := refresher{ctx: ctx, w: x.Writer, st: st, rec: rec.Record, service: service, changes: x.stale[service]}
	if r.changes == nil {
		if err := r.readHistory(); err != nil {
			return err
		}
	}
	items := x.items(rec)
	for i := range items {
		row := stored[items[i].Key]
		delete(stored, items[i].Key)
		if err := r.put(&items[i], row); err != nil {
			return err
		}
	}
	for _, key := range conf.SortedKeys(stored) {
		if err := r.remove(stored[key]); err != nil {
			return err
		}
	}
	return nil
}

// refresher is one refresh.
type refresher struct {
	ctx     context.Context //nolint:containedctx // lives for one refresh only
	w       *tables.Writer
	st      *tables.State
	rec     *conf.Record
	service string
	changes StaleKeys
	asked   bool // changes are those of the history
}

// readHistory reads who changed each key last, and when.
func (r *refresher) readHistory() error {
	last, err := lastChanges(r.ctx, r.w, r.service)
	r.changes, r.asked = last, true
	return err
}

// put brings the row of it up to date; row is nil when there is none.
func (r *refresher) put(it *conf.Item, row *itemStored) error {
	c, changed := r.changes[it.Key]
	if row == nil {
		if !changed && !r.asked {
			// Only the schema splits the document in another way: the key is as
			// old as history says.
			if err := r.readHistory(); err != nil {
				return err
			}
			c, changed = r.changes[it.Key]
		}
		if !changed {
			c = Change{r.rec.UpdatedAt, r.rec.UpdatedBy}
		}
		return insertItem(r.ctx, r.w, r.st, it, c)
	}
	was := Change{tables.TextOf(row.vals[8]), tables.TextOf(row.vals[9])}
	if !changed {
		c = was
	}
	vals := itemRow(it, c)
	if slices.Equal(vals, row.vals) {
		return nil
	}
	old, err := r.w.Dig.Row("config_items", row.vals)
	if err != nil {
		return err
	}
	now, err := r.w.Dig.Row("config_items", vals)
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
	return insertText(r.ctx, r.w, row.id, it)
}

func (r *refresher) remove(row *itemStored) error {
	d, err := r.w.Dig.Row("config_items", row.vals)
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

// itemStored is a row of config_items.
type itemStored struct {
	vals []any
	id   int64
}

func storedItems(ctx context.Context, q tables.Querier, service string) (map[string]*itemStored, error) {
	rows, err := q.QueryContext(ctx, sqlItemsOf, service)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[string]*itemStored{}
	for rows.Next() {
		vals, dst := tables.ScanBuffer(itemWidth + 1)
		r := &itemStored{vals: vals[:itemWidth]}
		dst[itemWidth] = &r.id
		if err := rows.Scan(dst...); err != nil {
			return nil, err
		}
		out[tables.TextOf(r.vals[1])] = r
	}
	return out, rows.Err()
}
