package search

import (
	"context"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// refresh changes the rows of a service's items that differ, and no others.
func (x *Index) refresh(ctx context.Context, st *tables.State, service string, rec *tables.StoredRecord) error {
	stored, err := storedItems(ctx, x.Writer, service)
	if err != nil {
		return err
	}
	changes := x.stale[service]
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
