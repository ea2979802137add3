package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Pages are bounded here as well as at the edge.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

func window(limit, offset int) (int, int) {
	if limit <= 0 {
		limit = defaultLimit
	}
	return min(limit, maxLimit), max(offset, 0)
}

// filter collects conditions and the arguments that they need.
type filter struct {
	conds []string
	args  []any
}

func (f *filter) add(cond string, arg any) {
	f.conds = append(f.conds, cond)
	f.args = append(f.args, arg)
}

func (f *filter) where() string {
	if f.conds == nil {
		return ""
	}
	return " WHERE " + strings.Join(f.conds, " AND ")
}

// logQuery is how a page of a log is read. The index is named, because the
// planner knows nothing of how rows are spread. Each index is followed by the
// rowid, which is the order of the log, so what one value selects needs no sort.
// What asks for a time or for several things reads the index that has all of the
// columns in it: a million of its entries take less time than the rows of a few
// thousand would.
type logQuery struct {
	table, index, order string
	filter
}

// from is the part behind FROM; the log as a whole needs no index.
func (l *logQuery) from() string {
	if l.index == "" {
		return l.table + l.where()
	}
	return l.table + " INDEXED BY " + l.index + l.where()
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
		l.add("service = ?", hf.Service)
	}
	if hf.Key != "" {
		l.add("key = ?", hf.Key)
	}
	if hf.User != "" {
		l.add("changed_by = ?", hf.User)
	}
	if hf.Version != 0 {
		l.add("version = ?", int64(hf.Version)) //nolint:gosec // a stored version fits
	}
	if hf.Since != "" {
		l.add("changed_at >= ?", hf.Since)
	}
	if hf.Until != "" {
		l.add("changed_at <= ?", hf.Until)
	}
	return l
}

const historyColumns = "id, service, key, old_value_json, new_value_json, version, action, changed_at, coalesce(changed_by, ''), coalesce(change_reason, '')"

// History lists changes of keys, the newest first: in the order of the log, or of
// the times when a time or a user is asked for.
func (s *Store) History(ctx context.Context, hf conf.HistoryFilter) (conf.HistoryPage, error) {
	l := historyQuery(hf)
	limit, offset := window(hf.Limit, hf.Offset)
	page := conf.HistoryPage{Results: []conf.HistoryEntry{}}
	err := s.read(ctx, "read the history", func(q querier) error {
		if err := q.QueryRowContext(ctx, l.count(), l.args...).Scan(&page.Total); err != nil {
			return err
		}
		rows, err := q.QueryContext(ctx, l.page(historyColumns), append(l.args, limit, offset)...)
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
		l.add("user_id = ?", af.User)
	}
	if af.Service != "" {
		l.add("service = ?", af.Service)
	}
	if af.Action != "" {
		l.add("action = ?", af.Action)
	}
	if af.Since != "" {
		l.add("timestamp >= ?", af.Since)
	}
	if af.Until != "" {
		l.add("timestamp <= ?", af.Until)
	}
	return l
}

const accessColumns = "id, coalesce(user_id, ''), action, coalesce(service, ''), coalesce(key, ''), success, coalesce(reason, ''), timestamp"

// AccessLog lists who did what, the newest first: in the order of the log, or of
// the times when more is asked for than a user or a service.
func (s *Store) AccessLog(ctx context.Context, af conf.AccessFilter) (conf.AccessPage, error) {
	l := accessQuery(af)
	limit, offset := window(af.Limit, af.Offset)
	page := conf.AccessPage{Results: []conf.Access{}}
	err := s.read(ctx, "read the access log", func(q querier) error {
		if err := q.QueryRowContext(ctx, l.count(), l.args...).Scan(&page.Total); err != nil {
			return err
		}
		rows, err := q.QueryContext(ctx, l.page(accessColumns), append(l.args, limit, offset)...)
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

// VersionValues reads the stored values that a service had at a version.
func (s *Store) VersionValues(ctx context.Context, service string, version uint64) (json.RawMessage, error) {
	var values json.RawMessage
	err := s.read(ctx, "read a version of "+service, func(q querier) error {
		r, err := readRow(ctx, q, newDigester(), tableVersions, service, int64(version)) //nolint:gosec // a stored version fits
		if err != nil {
			return err
		}
		if r != nil && r.vals[12] == int64(0) {
			values = json.RawMessage(r.text(2))
			return nil
		}
		var first, last sql.NullInt64
		err = q.QueryRowContext(ctx, "SELECT min(version), max(version) FROM config_versions WHERE service = ?", service).Scan(&first, &last)
		if err != nil {
			return err
		}
		gone := conf.Errorf(conf.CodeNotFound, "%s has no version %d", service, version)
		switch {
		case r != nil:
			return conf.Errorf(conf.CodeNotFound, "version %d of %s is its deletion", version, service).WithHint("restore the one before it")
		case !last.Valid:
			return gone.WithHint("nothing is stored of %s", service)
		}
		return gone.WithHint("the versions %d to %d are kept", first.Int64, last.Int64)
	})
	return values, err
}

// Versions describes the kept versions of a service, the newest first; limit 0
// is the default. A tombstone is among them.
func (s *Store) Versions(ctx context.Context, service string, limit int) ([]conf.Metadata, error) {
	limit, _ = window(limit, 0)
	out := []conf.Metadata{}
	err := s.read(ctx, "read the versions of "+service, func(q querier) error {
		rows, err := q.QueryContext(ctx, "SELECT version, updated_at, coalesce(updated_by, ''), config_epoch, checksum, issued_at, signature, key_id "+
			"FROM config_versions WHERE service = ? ORDER BY version DESC LIMIT ?", service, limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var m conf.Metadata
			if err := rows.Scan(&m.Version, &m.UpdatedAt, &m.UpdatedBy, &m.Epoch, &m.Checksum, &m.IssuedAt, &m.Signature, &m.KeyID); err != nil {
				return err
			}
			out = append(out, m)
		}
		return rows.Err()
	})
	return out, err
}

func profileOf(r *row) (conf.Profile, error) {
	p := conf.Profile{Name: r.text(0), Description: r.text(1), UpdatedAt: r.text(3), UpdatedBy: r.text(4)}
	if err := json.Unmarshal([]byte(r.text(2)), &p.Services); err != nil {
		return p, corrupt("the profile %s: %w", p.Name, err)
	}
	return p, nil
}

// Profiles lists all profiles by name.
func (s *Store) Profiles(ctx context.Context) ([]conf.Profile, error) {
	out := []conf.Profile{}
	err := s.read(ctx, "read the profiles", func(q querier) error {
		found := map[string]conf.Profile{}
		err := eachRow(ctx, q, tableProfiles, newDigester(), func(vals []any, d [sha256.Size]byte) error {
			p, err := profileOf(&row{vals, d})
			found[p.Name] = p
			return err
		})
		for _, name := range conf.SortedKeys(found) {
			out = append(out, found[name])
		}
		return err
	})
	return out, err
}

// Profile reads one profile.
func (s *Store) Profile(ctx context.Context, name string) (conf.Profile, error) {
	var p conf.Profile
	err := s.read(ctx, "read a profile", func(q querier) error {
		r, err := readRow(ctx, q, newDigester(), tableProfiles, name)
		if err != nil {
			return err
		}
		if r == nil {
			return conf.Errorf(conf.CodeNotFound, "no profile %q", name).WithHint("list the profiles that exist: holdfast profile list")
		}
		p, err = profileOf(r)
		return err
	})
	return p, err
}

// Schemas lists all schemas by service.
func (s *Store) Schemas(ctx context.Context) ([]conf.SchemaInfo, error) {
	out := []conf.SchemaInfo{}
	err := s.read(ctx, "read the schemas", func(q querier) error {
		found := map[string]conf.SchemaInfo{}
		err := eachRow(ctx, q, tableSchemas, newDigester(), func(vals []any, d [sha256.Size]byte) error {
			r := &row{vals, d}
			found[r.text(0)] = conf.SchemaInfo{
				Service: r.text(0), Schema: json.RawMessage(r.text(1)), Hash: r.text(2), UpdatedAt: r.text(3), UpdatedBy: r.text(4),
			}
			return nil
		})
		for _, service := range conf.SortedKeys(found) {
			out = append(out, found[service])
		}
		return err
	})
	return out, err
}
