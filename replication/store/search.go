package store

import (
	"context"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// What a query may cost. sortBelow is the number of matches up to which sorting
// them is cheaper than walking all items in their order.
const (
	maxQuery  = 1024
	maxWords  = 16
	sortBelow = 5000
)

const sqlItems = "SELECT id, service, key, value_json, type, complexity, description, coalesce(help_text, ''), is_secret, updated_at, updated_by FROM config_items"

// Search finds items. Each word of the query must appear, in any case, in the
// service, the key, the first 16 KiB of the value, the description or the help; a
// word of one or two characters at the start of a word of the service, the key
// or the value.
// Items whose service and key have all the words, and whose key has one, come
// first; then by service and key. Total is exact.
func (s *Store) Search(ctx context.Context, req conf.SearchRequest) (conf.SearchResponse, error) {
	m, err := parseSearch(req)
	if err != nil {
		return conf.SearchResponse{}, err
	}
	if err := s.catchUp(ctx); err != nil && conf.CodeOf(err) != conf.CodeLocked && conf.CodeOf(err) != conf.CodeStorageFull {
		return conf.SearchResponse{}, err // else what is there has to do
	}
	page, err := s.search(ctx, req, m)
	if isIndexDamage(err) {
		if err = s.repair(ctx, err); err == nil {
			page, err = s.search(ctx, req, m)
		}
	}
	return page, err
}

func (s *Store) search(ctx context.Context, req conf.SearchRequest, m match) (conf.SearchResponse, error) {
	page := conf.SearchResponse{Results: []conf.Item{}}
	limit, offset := window(req.Limit, req.Offset)
	err := s.read(ctx, "search", func(q querier) error {
		if m.all == "" {
			return listItems(ctx, q, req, limit, offset, &page)
		}
		total, err := m.count(ctx, q, m.all)
		if err != nil || total == 0 {
			return err
		}
		page.Total = total
		inKey := total
		if m.key != m.all {
			if inKey, err = m.count(ctx, q, m.key); err != nil {
				return err
			}
		}
		if offset < inKey {
			if err := m.page(ctx, q, m.key, inKey, limit, offset, &page); err != nil {
				return err
			}
		}
		limit -= len(page.Results)
		rest := total - inKey
		if offset = max(0, offset-inKey); limit == 0 || offset >= rest {
			return nil
		}
		expr := m.all
		if inKey > 0 {
			expr = "(" + m.all + ") NOT (" + m.key + ")"
		}
		return m.page(ctx, q, expr, rest, limit, offset, &page)
	})
	return page, err
}

// match is a search as expressions of the full-text index. Both are "" when no
// word is asked for; they hold no character of the query outside of a string.
type match struct {
	all, key string
	service  *string
}

func parseSearch(req conf.SearchRequest) (match, error) {
	m := match{service: req.Service}
	if len(req.Query) > maxQuery {
		return m, conf.Errorf(conf.CodeInvalid, "the query is longer than %d bytes", maxQuery).WithHint("search for fewer words")
	}
	var extra []string
	if req.Complexity != nil {
		switch *req.Complexity {
		case conf.Simple, conf.Advanced:
			extra = append(extra, "facets : "+ftsString(markComplexity+facet(string(*req.Complexity))))
		default:
			return m, conf.Errorf(conf.CodeInvalid, "bad complexity_filter").WithHint("use simple or advanced")
		}
	}
	if req.Type != nil {
		switch *req.Type {
		case conf.TypeString, conf.TypeInteger, conf.TypeFloat, conf.TypeBoolean, conf.TypeEnum, conf.TypePath, conf.TypeSecret:
			extra = append(extra, "facets : "+ftsString(markType+facet(string(*req.Type))))
		default:
			return m, conf.Errorf(conf.CodeInvalid, "bad type_filter").WithHint("use string, integer, float, boolean, enum, path or secret")
		}
	}
	query := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(req.Query, "\uFFFD"))
	words := strings.Fields(query)
	if len(words) > maxWords {
		return m, conf.Errorf(conf.CodeInvalid, "the query has more than %d words", maxWords).WithHint("search for fewer words")
	}
	if len(words) == 0 {
		return m, nil
	}
	var all, named, inKey []string
	for _, w := range words {
		a, n, k := anywhere(w)
		all, named, inKey = append(all, a), append(named, n), append(inKey, k)
	}
	m.all = strings.Join(append(all, extra...), " AND ")
	if len(words) == 1 {
		m.key = strings.Join(append(inKey, extra...), " AND ")
	} else {
		m.key = strings.Join(append(append(named, "("+strings.Join(inKey, " OR ")+")"), extra...), " AND ")
	}
	return m, nil
}

// anywhere gives the expressions for a word in any column, in the service or
// the key, and in the key.
func anywhere(word string) (all, named, inKey string) {
	if n := utf8.RuneCountInString(word); n < 3 {
		key, other := markKey+word, markOther+word
		if n == 1 {
			key, other = markKey+key, markOther+other
		}
		all = "(facets : " + ftsString(key) + " OR facets : " + ftsString(other) + ")"
		return all, all, "(facets : " + ftsString(key) + ")"
	}
	str := ftsString(word)
	return "({service key value description help} : " + str + ")", "({service key} : " + str + ")", "(key : " + str + ")"
}

// ftsString quotes s as a string of the full-text query language.
func ftsString(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

func (m match) count(ctx context.Context, q querier, expr string) (n int, err error) {
	if m.service != nil {
		err = q.QueryRowContext(ctx, "SELECT count(*) FROM config_items WHERE service = ? AND +id IN (SELECT rowid FROM items_fts WHERE items_fts MATCH ?)", *m.service, expr).Scan(&n)
		return n, err
	}
	err = q.QueryRowContext(ctx, "SELECT count(*) FROM items_fts WHERE items_fts MATCH ?", expr).Scan(&n)
	return n, err
}

func (m match) page(ctx context.Context, q querier, expr string, n, limit, offset int, page *conf.SearchResponse) error {
	query, args := m.pageQuery(expr, n)
	return readItems(ctx, q, page, query, append(args, limit, offset)...)
}

// pageQuery reads matches in order. The plus keeps the planner from looking every
// match up and sorting them, which is right only when there are few.
func (m match) pageQuery(expr string, n int) (string, []any) {
	const order = " IN (SELECT rowid FROM items_fts WHERE items_fts MATCH ?) ORDER BY service, key LIMIT ? OFFSET ?"
	switch {
	case m.service != nil:
		return sqlItems + " WHERE service = ? AND +id" + order, []any{*m.service, expr}
	case n <= sortBelow:
		return sqlItems + " WHERE id" + order, []any{expr}
	default:
		return sqlItems + " INDEXED BY sqlite_autoindex_config_items_1 WHERE +id" + order, []any{expr}
	}
}

// listQuery builds the part behind FROM for a search without words, with the
// index that has the filter first and then the order.
func listQuery(req conf.SearchRequest) (string, filter) {
	var f filter
	index := "sqlite_autoindex_config_items_1"
	switch {
	case req.Service != nil:
	case req.Type != nil:
		index = "idx_config_items_by_type"
	case req.Complexity != nil:
		index = "idx_config_items_by_complexity"
	}
	if req.Service != nil {
		f.add("service = ?", *req.Service)
	}
	if req.Type != nil {
		f.add("type = ?", string(*req.Type))
	}
	if req.Complexity != nil {
		f.add("complexity = ?", string(*req.Complexity))
	}
	return " INDEXED BY " + index + f.where(), f
}

func listItems(ctx context.Context, q querier, req conf.SearchRequest, limit, offset int, page *conf.SearchResponse) error {
	from, f := listQuery(req)
	if err := q.QueryRowContext(ctx, "SELECT count(*) FROM config_items"+from, f.args...).Scan(&page.Total); err != nil {
		return err
	}
	return readItems(ctx, q, page, sqlItems+from+" ORDER BY service, key LIMIT ? OFFSET ?", append(f.args, limit, offset)...)
}

func readItems(ctx context.Context, q querier, page *conf.SearchResponse, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var it conf.Item
		var id int64
		err := rows.Scan(&id, &it.Service, &it.Key, &it.ValueJSON, &it.Type, &it.Complexity, &it.Description, &it.HelpText, &it.IsSecret, &it.UpdatedAt, &it.UpdatedBy)
		if err != nil {
			return err
		}
		it.ID = &id
		page.Results = append(page.Results, it)
	}
	return rows.Err()
}
