package search

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"slices"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// Items follow after the acknowledgement: making them costs as much as all the
// rest of a change, and only a search reads them. The table items_state has the index
// up to which all items are there, 0 when a schema changed since, so that what is
// stale is found again after a start.
const (
	sqlAllStale     = "UPDATE items_state SET idx = 0"
	sqlUpToDateAt   = "INSERT OR REPLACE INTO items_state (id, idx) VALUES (1, ?)"
	sqlUpToDate     = "SELECT coalesce((SELECT idx FROM items_state WHERE id = 1), 0)"
	sqlMerge        = "INSERT INTO items_fts (items_fts, rank) VALUES ('merge', ?)"
	sqlTotalChanges = "SELECT total_changes()"

	maxStaleTracked = 512 // services whose changed keys are in memory
	mergePages      = 200 // pages of the full-text index that one step merges
)

// RefreshAtOnce is how many services one Refresh brings up to date.
const RefreshAtOnce = 64

// Index keeps the search items and their full-text index. Its methods are called by
// the holder of Writer only.
type Index struct {
	Writer  *tables.Writer
	Log     *slog.Logger
	Project Project

	stale map[string]StaleKeys // services whose items are to be brought up to date
}

// NewIndex returns the index of a database.
func NewIndex(w *tables.Writer, log *slog.Logger, p Project) *Index {
	return &Index{Writer: w, Log: log, Project: p, stale: map[string]StaleKeys{}}
}

// StaleItem is a service whose items may differ from its document, with the keys that
// an edit changed, when and by whom.
type StaleItem struct {
	Service string
	Keys    []string
	Change  Change
}

// StaleKeys are the keys of a service that edits changed, or nil when only the
// history has them.
type StaleKeys map[string]Change

// Project derives the items of a document from its schema (nil when the service has
// none). It must depend on its arguments only.
type Project func(service string, schema, config json.RawMessage) ([]conf.Item, error)

// Items is p without secrets, in the order of the keys.
func (p Project) Items(service string, schema, config json.RawMessage) ([]conf.Item, error) {
	items, err := p(service, schema, config)
	if err != nil {
		return nil, err
	}
	items = slices.Clone(items)
	items = slices.DeleteFunc(items, func(i conf.Item) bool { return i.IsSecret })
	slices.SortFunc(items, func(a, b conf.Item) int { return cmp.Compare(a.Key, b.Key) })
	for i := 1; i < len(items); i++ {
		if items[i].Key == items[i-1].Key {
			return nil, conf.Errorf(conf.CodeInvalid, "the key %s appears twice", items[i].Key)
		}
	}
	return items, nil
}

// MarkAllStale records that a schema changed, in the transaction of that change.
func MarkAllStale(ctx context.Context, w *tables.Writer) error { return w.Exec(ctx, sqlAllStale) }

// Create prepares the index of a new database.
func (x *Index) Create(ctx context.Context) error {
	// MergeStep merges the full-text index. Without calls of it, a change merges the
	// segments when there are this many.
	for _, set := range []string{"'automerge', 0", "'crisismerge', 64"} {
		if err := x.Writer.Exec(ctx, "INSERT INTO items_fts (items_fts, rank) VALUES ("+set+")"); err != nil {
			return err
		}
	}
	return x.Writer.Exec(ctx, sqlUpToDateAt, int64(0))
}

// Stale is the number of services whose items are to be brought up to date.
func (x *Index) Stale() int { return len(x.stale) }

// ClearStale forgets what is stale: all items are derived again.
func (x *Index) ClearStale() { clear(x.stale) }

// AddStale adds what a batch made stale.
func (x *Index) AddStale(items []StaleItem) {
	for _, m := range items {
		keys, known := x.stale[m.Service]
		switch {
		case known && keys == nil:
		case !known && len(x.stale) >= maxStaleTracked:
			x.stale[m.Service] = nil
		default:
			if keys == nil {
				keys = StaleKeys{}
				x.stale[m.Service] = keys
			}
			for _, k := range m.Keys {
				keys[k] = m.Change
			}
		}
	}
}

// FindStale looks up after a start which items are stale.
func (x *Index) FindStale(ctx context.Context, st *tables.State) error {
	var at int64
	if err := x.Writer.QueryRowContext(ctx, sqlUpToDate).Scan(&at); err != nil {
		return err
	}
	if at == int64(st.Index) { //nolint:gosec // fits
		return nil
	}
	services, err := tables.Column[string](ctx, x.Writer, "SELECT service FROM service_configs WHERE idx > ?", at)
	for _, service := range services {
		x.stale[service] = nil
	}
	return err
}

// Refresh brings the items of some services up to date, in one transaction, and
// returns the state after it. cached has records that need not be read.
func (x *Index) Refresh(ctx context.Context, old *tables.State, cached map[string]*tables.StoredRecord) (*tables.State, error) {
	names := conf.SortedKeys(x.stale)
	some := len(names) > RefreshAtOnce
	if some {
		names = names[:RefreshAtOnce]
	}
	st := *old
	err := x.Writer.Transact(ctx, func() error {
		for _, service := range names {
			rec := cached[service]
			if rec == nil {
				var err error
				if rec, err = tables.ReadStored(ctx, x.Writer, x.Writer.Dig, service); err != nil {
					return err
				}
			}
			if err := x.refresh(ctx, &st, service, rec, x.stale[service]); err != nil {
				return err
			}
		}
		if !some {
			if err := x.Writer.Exec(ctx, sqlUpToDateAt, int64(st.Index)); err != nil { //nolint:gosec // fits
				return err
			}
		}
		return x.Writer.WriteMeta(ctx, &st, old)
	})
	if err != nil {
		return nil, err
	}
	for _, service := range names {
		delete(x.stale, service)
	}
	return &st, nil
}

// Derive makes config_items and its full-text index again from the covered rows,
// inside of a transaction. The caller writes st, and clears what is stale after COMMIT.
func (x *Index) Derive(ctx context.Context, st *tables.State) error {
	w := x.Writer
	if err := w.Exec(ctx, "DELETE FROM config_items"); err != nil {
		return err
	}
	if err := w.Exec(ctx, "INSERT INTO items_fts (items_fts) VALUES ('delete-all')"); err != nil {
		return err
	}
	st.Items, st.ItemCount = tables.Sum{}, 0
	services, err := tables.Column[string](ctx, w, "SELECT service FROM service_configs WHERE deleted = 0 ORDER BY service")
	if err != nil {
		return err
	}
	for _, service := range services {
		r, err := tables.ReadStored(ctx, w, w.Dig, service)
		if err != nil {
			return err
		}
		if err := x.refresh(ctx, st, service, r, nil); err != nil {
			return err
		}
	}
	return w.Exec(ctx, sqlUpToDateAt, int64(st.Index)) //nolint:gosec // fits
}

// items are the items that the document of rec has.
func (x *Index) items(rec *tables.StoredRecord) []conf.Item {
	if !rec.Stored || rec.Record.Deleted {
		return nil
	}
	items, err := x.Project.Items(rec.Record.Service, rec.Record.Schema, rec.Record.Config)
	if err != nil {
		x.Log.Warn("the document does not fit its schema, search will not find it", "service", rec.Record.Service, "err", err)
		return nil
	}
	for i := range items {
		items[i].Service = rec.Record.Service
	}
	return items
}

// MergeStep merges a part of the full-text index, in a transaction, and returns
// whether there is more.
func (x *Index) MergeStep(ctx context.Context) (more bool, err error) {
	before, after := 0, 0
	err = x.Writer.Transact(ctx, func() error {
		if err := x.Writer.QueryRowContext(ctx, sqlTotalChanges).Scan(&before); err != nil {
			return err
		}
		if err := x.Writer.Exec(ctx, sqlMerge, mergePages); err != nil {
			return err
		}
		return x.Writer.QueryRowContext(ctx, sqlTotalChanges).Scan(&after)
	})
	return after-before > 1, err // one is the command itself
}
