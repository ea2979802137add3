package store

import (
	"context"
	"slices"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// mark says that the items of a service may not be those of its document any
// more, and which of them an edit changed, when and by whom.
type mark struct {
	service string
	keys    []string
	change  change
}

// Items follow after the acknowledgement: making them costs as much as all the
// rest of a change, and only a search reads them. Merge and Search bring them up
// to date. What is behind is known again after a start: the table items_state has the
// index up to which all items are there, 0 when a schema changed since.
const (
	sqlItemsBehind = "UPDATE items_state SET idx = 0"
	sqlItemsAt     = "INSERT OR REPLACE INTO items_state (id, idx) VALUES (1, ?)"
	sqlItemsSince  = "SELECT coalesce((SELECT idx FROM items_state WHERE id = 1), 0)"

	behindAtOnce = 64  // services that one transaction brings up to date
	behindMost   = 512 // services of which it is remembered which keys changed
)

// behind is what a service's items lack: the keys that edits changed, or nil
// when history has to tell.
type behind map[string]change

// mark notes what a batch left behind. The caller holds mu.
func (s *Store) mark(marks []mark) {
	for _, m := range marks {
		b, known := s.behind[m.service]
		switch {
		case known && b == nil:
		case !known && len(s.behind) >= behindMost:
			s.behind[m.service] = nil
		default:
			if b == nil {
				b = behind{}
				s.behind[m.service] = b
			}
			for _, k := range m.keys {
				b[k] = m.change
			}
		}
	}
}

// findBehind looks up after a start which items are behind.
func (s *Store) findBehind(ctx context.Context, st *state) error {
	var at int64
	if err := s.w.QueryRowContext(ctx, sqlItemsSince).Scan(&at); err != nil {
		return err
	}
	if at == int64(st.index) { //nolint:gosec // fits
		return nil
	}
	services, err := texts(ctx, s.w, "SELECT service FROM service_configs WHERE idx > ?", at)
	for _, service := range services {
		s.behind[service] = nil
	}
	return err
}

// catchUp brings the items up to date with all that is applied.
func (s *Store) catchUp(ctx context.Context) error {
	for {
		more, err := s.catchUpSome(ctx)
		if isIndexDamage(err) {
			return s.repair(ctx, err)
		}
		if err != nil || !more {
			return s.fault("bring the search items up to date", err)
		}
	}
}

func (s *Store) catchUpSome(ctx context.Context) (more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.behind) == 0 || s.w == nil || s.broken != nil || ctx.Err() != nil {
		return false, ctx.Err()
	}
	ctx = context.WithoutCancel(ctx)
	names := conf.SortedKeys(s.behind)
	if more = len(names) > behindAtOnce; more {
		names = names[:behindAtOnce]
	}
	old := s.state.Load()
	st := *old
	err = s.w.transact(ctx, func() error {
		for _, service := range names {
			if err := s.refresh(ctx, &st, service, s.behind[service]); err != nil {
				return err
			}
		}
		if !more {
			if err := s.w.exec(ctx, sqlItemsAt, int64(st.index)); err != nil { //nolint:gosec // fits
				return err
			}
		}
		return s.w.writeMeta(ctx, s.dig, &st, old)
	})
	if err != nil {
		return false, err
	}
	s.state.Store(&st)
	for _, service := range names {
		delete(s.behind, service)
	}
	return more, nil
}

// refresh changes the rows of a service's items that differ, and no others.
func (s *Store) refresh(ctx context.Context, st *state, service string, b behind) error {
	h := s.heads[service]
	if h == nil {
		var err error
		if h, err = readHead(ctx, s.w, s.dig, service); err != nil {
			return err
		}
	}
	var after []conf.Item
	if h.stored && !h.rec.Deleted {
		var err error
		if after, err = s.project(service, h.rec.Schema, h.rec.Config); err != nil {
			s.log.Warn("the document does not fit its schema, search will not find it", "service", service, "err", err)
		}
	}
	stored, err := storedItems(ctx, s.w, service)
	if err != nil {
		return err
	}
	r := refresher{ctx: ctx, s: s, st: st, service: service, behind: b, rec: h.rec}
	if b == nil {
		if err := r.askHistory(); err != nil {
			return err
		}
	}
	for i := range after {
		after[i].Service = service
		row := stored[after[i].Key]
		delete(stored, after[i].Key)
		if err := r.put(&after[i], row); err != nil {
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
	s       *Store
	st      *state
	service string
	rec     *conf.Record
	behind  behind
	asked   bool
}

// askHistory has the history tell of every key who changed it last, and when.
func (r *refresher) askHistory() error {
	last, err := lastChanges(r.ctx, r.s.w, r.service)
	r.behind, r.asked = last, true
	return err
}

// put brings the row of it up to date; row is nil when there is none.
func (r *refresher) put(it *conf.Item, row *itemStored) error {
	c, changed := r.behind[it.Key]
	if row == nil {
		if !changed && !r.asked {
			// Only the schema splits the document in another way: the key is as
			// old as history says.
			if err := r.askHistory(); err != nil {
				return err
			}
			c, changed = r.behind[it.Key]
		}
		if !changed {
			c = change{r.rec.UpdatedAt, r.rec.UpdatedBy}
		}
		return insertItem(r.ctx, r.s.w, r.s.dig, r.st, it, c.at, c.by)
	}
	was := change{textOf(row.vals[8]), textOf(row.vals[9])}
	if !changed {
		c = was
	}
	vals := itemRow(it, c.at, c.by)
	if slices.Equal(vals, row.vals) {
		return nil
	}
	old, err := r.s.dig.row("config_items", row.vals)
	if err != nil {
		return err
	}
	now, err := r.s.dig.row("config_items", vals)
	if err != nil {
		return err
	}
	r.st.items.sub(old)
	r.st.items.add(now)
	if err := r.s.w.exec(r.ctx, sqlItemUpdate, vals[2], vals[3], vals[4], vals[5], vals[6], vals[8], vals[9], row.id); err != nil {
		return err
	}
	if slices.Equal(vals[:8], row.vals[:8]) {
		return nil // nothing of it is searched
	}
	if err := r.s.w.exec(r.ctx, sqlFTSDelete, row.id); err != nil {
		return err
	}
	return insertText(r.ctx, r.s.w, row.id, it)
}

func (r *refresher) remove(row *itemStored) error {
	d, err := r.s.dig.row("config_items", row.vals)
	if err != nil {
		return err
	}
	r.st.items.sub(d)
	r.st.itemCount--
	if err := r.s.w.exec(r.ctx, sqlItemDelete, row.id); err != nil {
		return err
	}
	return r.s.w.exec(r.ctx, sqlFTSDelete, row.id)
}

// itemStored is a row of config_items.
type itemStored struct {
	vals []any
	id   int64
}

func storedItems(ctx context.Context, q querier, service string) (map[string]*itemStored, error) {
	rows, err := q.QueryContext(ctx, sqlItemsOf, service)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[string]*itemStored{}
	for rows.Next() {
		r := &itemStored{vals: make([]any, itemWidth)}
		dst := make([]any, itemWidth+1)
		for i := range r.vals {
			dst[i] = &r.vals[i]
		}
		dst[itemWidth] = &r.id
		if err := rows.Scan(dst...); err != nil {
			return nil, err
		}
		out[textOf(r.vals[1])] = r
	}
	return out, rows.Err()
}
