package query

import (
	"context"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// logQuery is how a page of a log is read. The index is named, because the
// planner knows nothing of how rows are spread. Each index is followed by the
// rowid, which is the order of the log, so what one value selects needs no sort.
// What asks for a time or for several things reads the index that has all of the
// columns in it: a million of its entries take less time than the rows of a few
// thousand would.
type logQuery struct {
	table, index, order string
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
// columns that are asked for, and a page deep in the log costs no rows.
func (l *logQuery) page(columns string) string {
	return "SELECT " + columns + " FROM (SELECT id AS found FROM " + l.from() + " ORDER BY " + l.order + " LIMIT ? OFFSET ?) CROSS JOIN " +
		l.table + " ON id = found ORDER BY " + l.order
}

func historyQuery(hf conf.HistoryFilter) *logQuery {
	l := &logQuery{table: "config_history", order: "id DESC"}
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
	if hf.Service != "" {
		l.Add("service = ?", hf.Service)
	}
	if hf.Key != "" {
		l.Add("key = ?", hf.Key)
	}
	if hf.User != "" {
		l.Add("changed_by = ?", hf.User)
	}
	if hf.Version != 0 {
		l.Add("version = ?", int64(hf.Version)) //nolint:gosec // a stored version fits
	}
	if hf.Since != "" {
		l.Add("changed_at >= ?", hf.Since)
	}
	if hf.Until != "" {
		l.Add("changed_at <= ?", hf.Until)
	}
	return l
}

const historyColumns = "id, service, key, old_value_json, new_value_json, version, action, changed_at, coalesce(changed_by, ''), coalesce(change_reason, '')"

// History lists changes of keys, the newest first: in the order of the log, or of
// the times when a time or a user is asked for.
func (s *Queries) History(ctx context.Context, hf conf.HistoryFilter) (conf.HistoryPage, error) {
	l := historyQuery(hf)
	limit, offset := tables.Window(hf.Limit, hf.Offset)
	page := conf.HistoryPage{Results: []conf.HistoryEntry{}}
	err := s.read(ctx, "read the history", func(q tables.Querier) error {
		if err := q.QueryRowContext(ctx, l.count(), l.Args...).Scan(&page.Total); err != nil {
			return err
		}
		rows, err := q.QueryContext(ctx, l.page(historyColumns), append(l.Args, limit, offset)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var e conf.HistoryEntry
			var was, is []byte
			if err := rows.Scan(&e.ID, &e.Service, &e.Key, &was, &is, &e.Version, &e.Action, &e.ChangedAt, &e.ChangedBy, &e.ChangeReason); err != nil {
				return err
			}
			e.OldValue, e.NewValue = was, is
			page.Results = append(page.Results, e)
		}
		return rows.Err()
	})
	return page, err
}

func accessQuery(af conf.AccessFilter) *logQuery {
	l := &logQuery{table: "access_log", order: "id DESC"}
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
	if af.User != "" {
		l.Add("user_id = ?", af.User)
	}
	if af.Service != "" {
		l.Add("service = ?", af.Service)
	}
	if af.Action != "" {
		l.Add("action = ?", af.Action)
	}
	if af.Since != "" {
		l.Add("timestamp >= ?", af.Since)
	}
	if af.Until != "" {
		l.Add("timestamp <= ?", af.Until)
	}
	return l
}

const accessColumns = "id, coalesce(user_id, ''), action, coalesce(service, ''), coalesce(key, ''), success, coalesce(reason, ''), timestamp"

// AccessLog lists who did what, the newest first: in the order of the log, or of
// the times when more is asked for than a user or a service.
func (s *Queries) AccessLog(ctx context.Context, af conf.AccessFilter) (conf.AccessPage, error) {
	l := accessQuery(af)
	limit, offset := tables.Window(af.Limit, af.Offset)
	page := conf.AccessPage{Results: []conf.Access{}}
	err := s.read(ctx, "read the access log", func(q tables.Querier) error {
		if err := q.QueryRowContext(ctx, l.count(), l.Args...).Scan(&page.Total); err != nil {
			return err
		}
		rows, err := q.QueryContext(ctx, l.page(accessColumns), append(l.Args, limit, offset)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var a conf.Access
			if err := rows.Scan(&a.ID, &a.UserID, &a.Action, &a.Service, &a.Key, &a.Success, &a.Reason, &a.Timestamp); err != nil {
				return err
			}
			page.Results = append(page.Results, a)
		}
		return rows.Err()
	})
	return page, err
}
