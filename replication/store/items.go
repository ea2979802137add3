package store

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/holdfast-config/holdfast/replication/conf"
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
func itemRow(it *conf.Item, at, by string) []any {
	return []any{it.Service, it.Key, it.ValueJSON, string(it.Type), string(it.Complexity), it.Description, it.HelpText, int64(0), at, null(by)}
}

func insertItem(ctx context.Context, w *writer, dig *digester, st *state, it *conf.Item, at, by string) error {
	row := itemRow(it, at, by)
	d, err := dig.row("config_items", row)
	if err != nil {
		return err
	}
	id, err := w.insert(ctx, sqlItemInsert, row...)
	if err != nil {
		return err
	}
	st.items.add(d)
	st.itemCount++
	return insertText(ctx, w, id, it)
}

func insertText(ctx context.Context, w *writer, id int64, it *conf.Item) error {
	value := clip(valueText(it.ValueJSON))
	return w.exec(ctx, sqlFTSInsert, id, it.Service, it.Key, value, clip(it.Description), clip(it.HelpText), facets(it, value))
}

// maxText is how much of a text can be found. A megabyte of value would cost
// each change half a second, and nobody searches in it.
const maxText = 16 << 10

func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "")
}

// valueText is what a person searches for: a string without its quotes and escapes.
func valueText(valueJSON string) string {
	if strings.HasPrefix(valueJSON, `"`) {
		var s string
		if json.Unmarshal([]byte(valueJSON), &s) == nil {
			return s
		}
	}
	return valueJSON
}

// Marks in the column facets. The trigram index cannot find less than three
// characters, so what is shorter stands there behind control characters, which
// no query holds: a filter is one trigram, and so is the start of a word.
const (
	markComplexity = "\x01c"
	markType       = "\x01t"
	markKey        = "\x02" // starts of the words of the key
	markOther      = "\x03" // starts of the words of the service and of the value
	wordsOfValue   = 16
)

func facets(it *conf.Item, value string) string {
	var b strings.Builder
	b.WriteString(markComplexity + facet(string(it.Complexity)) + markType + facet(string(it.Type)))
	starts(&b, markKey, it.Key, -1)
	starts(&b, markOther, it.Service, -1)
	starts(&b, markOther, value, wordsOfValue)
	return b.String()
}

// facet is the one letter that stands for a complexity or a type.
func facet(name string) string {
	switch name {
	case string(conf.TypeSecret): // its first letter is taken
		return "x"
	case "":
		return "-"
	default:
		return name[:1]
	}
}

// starts writes the first two characters of up to max words of text.
func starts(b *strings.Builder, mark, text string, max int) {
	seen := map[string]bool{}
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		_, n := utf8.DecodeRuneInString(word)
		_, m := utf8.DecodeRuneInString(word[n:])
		if w := word[:n+m]; !seen[w] {
			if len(seen) == max {
				return
			}
			seen[w] = true
			b.WriteString(mark)
			b.WriteString(mark)
			b.WriteString(w)
		}
	}
}

// change is when a key was changed for the last time, and by whom.
type change struct{ at, by string }

// lastChanges reads from history what config_items says of each key's change.
func lastChanges(ctx context.Context, q querier, service string) (behind, error) {
	// With max(), the other columns are those of the row that has the maximum.
	rows, err := q.QueryContext(ctx, "SELECT key, changed_at, coalesce(changed_by, ''), max(id) FROM config_history "+
		"INDEXED BY idx_config_history_service WHERE service = ? GROUP BY key", service)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := behind{}
	for rows.Next() {
		var key string
		var c change
		var id int64
		if err := rows.Scan(&key, &c.at, &c.by, &id); err != nil {
			return nil, err
		}
		out[key] = c
	}
	return out, rows.Err()
}

// deriveItems makes config_items and its index again from the covered rows,
// inside the writer's transaction.
func (s *Store) deriveItems(ctx context.Context, st *state) error {
	if err := s.w.exec(ctx, "DELETE FROM config_items"); err != nil {
		return err
	}
	if err := s.w.exec(ctx, "INSERT INTO items_fts (items_fts) VALUES ('delete-all')"); err != nil {
		return err
	}
	st.items, st.itemCount = sum{}, 0
	services, err := texts(ctx, s.w, "SELECT service FROM service_configs WHERE deleted = 0 ORDER BY service")
	if err != nil {
		return err
	}
	for _, service := range services {
		r, err := readRecord(ctx, s.w, s.dig, service)
		if err != nil {
			return err
		}
		items, err := s.project(service, r.Schema, r.Config)
		if err != nil {
			s.log.Warn("the document does not fit its schema, search will not find it", "service", service, "err", err)
			continue
		}
		last, err := lastChanges(ctx, s.w, service)
		if err != nil {
			return err
		}
		for i := range items {
			it := &items[i]
			it.Service = service
			c, ok := last[it.Key]
			if !ok {
				c = change{r.UpdatedAt, r.UpdatedBy}
			}
			if err := insertItem(ctx, s.w, s.dig, st, it, c.at, c.by); err != nil {
				return err
			}
		}
	}
	return s.w.exec(ctx, sqlItemsAt, int64(st.index)) //nolint:gosec // fits
}

// repair makes the derived rows again, after cause.
func (s *Store) repair(ctx context.Context, cause any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.broken != nil:
		return s.broken
	case s.w == nil:
		return conf.Errorf(conf.CodeInternal, "repair the search items: the store is closed")
	}
	s.log.Warn("the search items are damaged, making them again", "path", s.opts.Path, "cause", cause)
	return s.fault("repair the search items", s.repairItems(context.WithoutCancel(ctx)))
}

// repairItems is deriveItems in a transaction of its own, for who holds the lock.
func (s *Store) repairItems(ctx context.Context) error {
	old := s.state.Load()
	st := *old
	err := s.w.transact(ctx, func() error {
		if err := s.deriveItems(ctx, &st); err != nil {
			return err
		}
		return s.w.writeMeta(ctx, s.dig, &st, old)
	})
	if err != nil {
		return err
	}
	s.state.Store(&st)
	clear(s.behind)
	return nil
}

// isIndexDamage says whether err came from inside the full-text index.
func isIndexDamage(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code() == sqlite3.SQLITE_CORRUPT_VTAB
}

// itemsDigest sums up config_items as it is.
func itemsDigest(ctx context.Context, q querier) (sum, int64, error) {
	rows, err := q.QueryContext(ctx, "SELECT "+itemColumns+" FROM config_items NOT INDEXED")
	if err != nil {
		return sum{}, 0, err
	}
	defer rows.Close()
	vals := make([]any, itemWidth)
	dst := make([]any, itemWidth)
	for i := range vals {
		dst[i] = &vals[i]
	}
	dig := newDigester()
	var (
		all sum
		n   int64
		d   [sha256.Size]byte
	)
	for rows.Next() {
		if err := rows.Scan(dst...); err != nil {
			return sum{}, 0, err
		}
		if d, err = dig.row("config_items", vals); err != nil {
			return sum{}, 0, err
		}
		all.add(d)
		n++
	}
	return all, n, rows.Err()
}

// texts reads one column of text.
func texts(ctx context.Context, q querier, query string, args ...any) ([]string, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, rows.Err()
}
