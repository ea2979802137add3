package search

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// What a query may cost.
const (
	maxQuery = 1024
	maxWords = 16
)

const (
	sqlItems  = "SELECT id, service, key, value_json, type, complexity, description, coalesce(help_text, ''), is_secret, updated_at, updated_by FROM config_items"
	itemOrder = " ORDER BY service, key LIMIT ? OFFSET ?"
)

var itemTypes = []conf.Type{
	conf.TypeString, conf.TypeInteger, conf.TypeFloat, conf.TypeBoolean, conf.TypeEnum, conf.TypePath, conf.TypeSecret,
}

// Query is a search as expressions of the full-text index. Both are "" for a search
// without words; they have no character of the query outside of a string.
type Query struct {
	req      conf.SearchRequest
	all, key string

	// SortBelow is the number of matches up to which sorting them is cheaper than
	// walking all items in their order.
	SortBelow int
}

// Page reads the results. Items whose service and key have all the words, and whose
// key has one, come first; then by service and key. Total is exact.
func (m *Query) Page(ctx context.Context, q tables.Querier) (page conf.SearchResponse, err error) {
	page.Results = []conf.Item{}
	limit, offset := tables.Window(m.req.Limit, m.req.Offset)
	if m.all == "" {
		err = m.list(ctx, q, limit, offset, &page)
		return page, err
	}
	total, err := m.count(ctx, q, m.all)
	if err != nil || total == 0 {
		return page, err
	}
	page.Total = total
	inKey := total
	if m.key != m.all {
		if inKey, err = m.count(ctx, q, m.key); err != nil {
			return page, err
		}
	}
	if offset < inKey {
		if err := m.page(ctx, q, m.key, inKey, limit, offset, &page); err != nil {
			return page, err
		}
	}
	limit -= len(page.Results)
	rest := total - inKey
	if offset = max(0, offset-inKey); limit == 0 || offset >= rest {
		return page, nil
	}
	expr := m.all
	if inKey > 0 {
		expr = "(" + m.all + ") NOT (" + m.key + ")"
	}
	err = m.page(ctx, q, expr, rest, limit, offset, &page)
	return page, err
}

// Parse checks a request.
func Parse(req conf.SearchRequest) (*Query, error) {
	m := &Query{req: req, SortBelow: 5000}
	if len(req.Query) > maxQuery {
		return nil, conf.Errorf(conf.CodeInvalid, "the query is longer than %d bytes", maxQuery).WithHint("search for fewer words")
	}
	var extra []string
	if c := req.Complexity; c != nil {
		if *c != conf.Simple && *c != conf.Advanced {
			return nil, conf.Errorf(conf.CodeInvalid, "bad complexity_filter").WithHint("use simple or advanced")
		}
		extra = append(extra, "facets : "+ftsString(prefixComplexity+facet(string(*c))))
	}
	if t := req.Type; t != nil {
		if !slices.Contains(itemTypes, *t) {
			return nil, conf.Errorf(conf.CodeInvalid, "bad type_filter").WithHint("use string, integer, float, boolean, enum, path or secret")
		}
		extra = append(extra, "facets : "+ftsString(prefixType+facet(string(*t))))
	}
	query := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(req.Query, "\uFFFD"))
	words := strings.Fields(query)
	if len(words) > maxWords {
		return nil, conf.Errorf(conf.CodeInvalid, "the query has more than %d words", maxWords).WithHint("search for fewer words")
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

// anywhere returns the expressions for a word in any column, in the service or
// the key, and in the key.
func anywhere(word string) (all, named, inKey string) {
	if n := utf8.RuneCountInString(word); n < 3 {
		key, other := prefixKey+word, prefixOther+word
		if n == 1 {
			key, other = prefixKey+key, prefixOther+other
		}
		all = "(facets : " + ftsString(key) + " OR facets : " + ftsString(other) + ")"
		return all, all, "(facets : " + ftsString(key) + ")"
	}
	str := ftsString(word)
	return "({service key value description help} : " + str + ")", "({service key} : " + str + ")", "(key : " + str + ")"
}

// ftsString quotes s as a string of the full-text query language.
func ftsString(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

func (m *Query) count(ctx context.Context, q tables.Querier, expr string) (n int, err error) {
	if m.req.Service != nil {
		err = q.QueryRowContext(ctx, "SELECT count(*) FROM config_items WHERE service = ? AND +id IN (SELECT rowid FROM items_fts WHERE items_fts MATCH ?)", *m.req.Service, expr).Scan(&n)
		return n, err
	}
	err = q.QueryRowContext(ctx, "SELECT count(*) FROM items_fts WHERE items_fts MATCH ?", expr).Scan(&n)
	return n, err
}

// page reads n matches in order. The plus prevents the planner from reading every
// match and sorting them, which is faster only for few.
func (m *Query) page(ctx context.Context, q tables.Querier, expr string, n, limit, offset int, page *conf.SearchResponse) error {
	where, args := " INDEXED BY sqlite_autoindex_config_items_1 WHERE +id", []any{expr}
	switch {
	case m.req.Service != nil:
		where, args = " WHERE service = ? AND +id", []any{*m.req.Service, expr}
	case n <= m.SortBelow:
		where = " WHERE id"
	}
	return readItems(ctx, q, page, sqlItems+where+" IN (SELECT rowid FROM items_fts WHERE items_fts MATCH ?)"+itemOrder, append(args, limit, offset)...)
}

// list reads the results of a search without words, from the index that has the
// filter first and then the order.
func (m *Query) list(ctx context.Context, q tables.Querier, limit, offset int, page *conf.SearchResponse) error {
	var f tables.Filter
	index := "sqlite_autoindex_config_items_1"
	if m.req.Complexity != nil {
		index = "idx_config_items_by_complexity"
		f.Add("complexity = ?", string(*m.req.Complexity))
	}
	if m.req.Type != nil {
		index = "idx_config_items_by_type"
		f.Add("type = ?", string(*m.req.Type))
	}
	if m.req.Service != nil {
		index = "sqlite_autoindex_config_items_1"
		f.Add("service = ?", *m.req.Service)
	}
	from := " INDEXED BY " + index + f.Where()
	if err := q.QueryRowContext(ctx, "SELECT count(*) FROM config_items"+from, f.Args...).Scan(&page.Total); err != nil {
		return err
	}
	return readItems(ctx, q, page, sqlItems+from+itemOrder, append(f.Args, limit, offset)...)
}

func readItems(ctx context.Context, q tables.Querier, page *conf.SearchResponse, query string, args ...any) error {
	return tables.Select(ctx, q, func(rows *sql.Rows) error {
		var it conf.Item
		var id int64
		err := rows.Scan(&id, &it.Service, &it.Key, &it.ValueJSON, &it.Type, &it.Complexity, &it.Description, &it.HelpText, &it.IsSecret, &it.UpdatedAt, &it.UpdatedBy)
		it.ID = &id
		page.Results = append(page.Results, it)
		return err
	}, query, args...)
}
