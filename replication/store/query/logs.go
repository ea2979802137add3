package query

import (
	"context"
	"database/sql"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// logQuery is how a page of a log is read. It names the index, because the planner has
// no statistics of the rows. Each index ends with the rowid, which is the order of the
// log, so a filter by one value needs no sort. A filter by time or by several values
// reads the index with all columns: a million of its entries take less time than the
// rows of a few thousand.
type logQuery struct {
	table, columns, index, order string
	tables.Filter
}

// from is the part behind FROM; the log as a whole needs no index.
func (l *logQuery) from() string {
	if l.index == "" {
		return l.table + l.Where()
	}
	return l.table + " INDEXED BY " + l.index + l.Where()
}

func (l *logQuery) count() string { return "SELECT count(*) FROM " + l.from() }

// page finds the ids first: they come from the index alone where it has all the
// columns of the filter, and a page deep in the log reads no other rows.
func (l *logQuery) page() string {
	return "SELECT " + l.columns + " FROM (SELECT id AS found FROM " + l.from() + " ORDER BY " + l.order + " LIMIT ? OFFSET ?) CROSS JOIN " +
		l.table + " ON id = found ORDER BY " + l.order
}

func historyQuery(hf conf.HistoryFilter) *logQuery {
	l := &logQuery{table: "config_history", columns: historyColumns, order: "id DESC"}
	switch {
	case hf == (conf.HistoryFilter{Limit: hf.Limit, Offset: hf.Offset}):
	case hf == (conf.HistoryFilter{Since: hf.Since, Until: hf.Until, Limit: hf.Limit, Offset: hf.Offset}):
		l.index, l.order = "idx_config_history_time", "changed_at DESC, id DESC"
	case hf.User != "" || hf.Since != "" || hf.Until != "" || hf.Version != 0 && hf.Service == "":
		l.index, l.order = "idx_config_history_all", "changed_at DESC, id DESC"
	case hf.Key != "":
		l.index = "idx_config_history_key"
	default:
		l.index = "idx_config_history_service"
	}
	l.AddText("service = ?", hf.Service)
	l.AddText("key = ?", hf.Key)
	l.AddText("changed_by = ?", hf.User)
	if hf.Version != 0 {
		l.Add("version = ?", int64(hf.Version)) //nolint:gosec // a stored version fits
	}
	l.AddText("changed_at >= ?", hf.Since)
	l.AddText("changed_at <= ?", hf.Until)
	return l
}

const historyColumns = "id, service, key, old_value_json, new_value_json, version, action, changed_at, coalesce(changed_by, ''), coalesce(change_reason, '')"

// History lists changes of keys, the newest first: in the order of the log, or of
// the times when a time or a user is asked for.
func (s *Queries) History(ctx context.Context, hf conf.HistoryFilter) (conf.HistoryPage, error) {
	entries, total, err := readLog(ctx, s, "read the history", historyQuery(hf), hf.Limit, hf.Offset, func(rows *sql.Rows, e *conf.HistoryEntry) error {
		var was, is []byte
		err := rows.Scan(&e.ID, &e.Service, &e.Key, &was, &is, &e.Version, &e.Action, &e.ChangedAt, &e.ChangedBy, &e.ChangeReason)
		e.OldValue, e.NewValue = was, is
		return err
	})
	return conf.HistoryPage{Results: entries, Total: total}, err
}

// readLog reads a page of a log, and counts the rows of all pages.
func readLog[T any](ctx context.Context, s *Queries, what string, l *logQuery, limit, offset int, one func(rows *sql.Rows, v *T) error) (page []T, total int, err error) {
	page = []T{}
	limit, offset = tables.Window(limit, offset)
	err = s.read(ctx, what, func(q tables.Querier) error {
		if err := q.QueryRowContext(ctx, l.count(), l.Args...).Scan(&total); err != nil {
			return err
		}
		page, err = scan(ctx, q, one, l.page(), append(l.Args, limit, offset)...)
		return err
	})
	return page, total, err
}

func accessQuery(af conf.AccessFilter) *logQuery {
	l := &logQuery{table: "access_log", columns: accessColumns, order: "id DESC"}
	switch (conf.AccessFilter{User: af.User, Service: af.Service, Action: af.Action, Since: af.Since, Until: af.Until}) {
	case conf.AccessFilter{}:
	case conf.AccessFilter{User: af.User}:
		l.index = "idx_access_log_user"
	case conf.AccessFilter{Service: af.Service}:
		l.index = "idx_access_log_service"
	case conf.AccessFilter{Since: af.Since, Until: af.Until}:
		l.index, l.order = "idx_access_log_time", "timestamp DESC, id DESC"
	default:
		l.index, l.order = "idx_access_log_all", "timestamp DESC, id DESC"
	}
	l.AddText("user_id = ?", af.User)
	l.AddText("service = ?", af.Service)
	l.AddText("action = ?", af.Action)
	l.AddText("timestamp >= ?", af.Since)
	l.AddText("timestamp <= ?", af.Until)
	return l
}

const accessColumns = "id, coalesce(user_id, ''), action, coalesce(service, ''), coalesce(key, ''), success, coalesce(reason, ''), timestamp"

// AccessLog lists who did what, the newest first: in the order of the log, or of
// the times when more is asked for than a user or a service.
func (s *Queries) AccessLog(ctx context.Context, af conf.AccessFilter) (conf.AccessPage, error) {
	rows, total, err := readLog(ctx, s, "read the access log", accessQuery(af), af.Limit, af.Offset, func(rows *sql.Rows, a *conf.Access) error {
		return rows.Scan(&a.ID, &a.UserID, &a.Action, &a.Service, &a.Key, &a.Success, &a.Reason, &a.Timestamp)
	})
	return conf.AccessPage{Results: rows, Total: total}, err
}

// Prunable reports whether a Prune with these times would remove anything; an
// empty time asks for nothing.
func (s *Queries) Prunable(ctx context.Context, accessBefore, historyBefore string) (found bool, err error) {
	err = s.read(ctx, "look for old rows", func(q tables.Querier) error {
		for l, before := range map[*tables.RetainedTable]string{tables.RetainedAccess: accessBefore, tables.RetainedHistory: historyBefore} {
			if before == "" {
				continue
			}
			ids, err := tables.Column[int64](ctx, q, l.Find, before, 1)
			if err != nil {
				return err
			}
			found = found || len(ids) > 0
		}
		return nil
	})
	return found, err
}
