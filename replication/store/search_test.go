package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/search"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

func ptr[T any](v T) *T { return &v }

// found lists matches as service/key, and the total.
func found(tb testing.TB, s *Store, req conf.SearchRequest) ([]string, int) {
	tb.Helper()
	page, err := s.Search(tb.Context(), req)
	if err != nil {
		tb.Fatalf("%+v: %v", req, err)
	}
	out := []string{}
	for _, it := range page.Results {
		out = append(out, it.Service+"/"+it.Key)
	}
	return out, page.Total
}

// expected is Search by looking at every item.
func expected(all []conf.Item, req conf.SearchRequest) []string {
	starts := func(text, word string, max int) bool {
		words := strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
		if max > 0 && len(words) > max {
			words = words[:max]
		}
		return slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, word) })
	}
	words := strings.Fields(strings.ToLower(req.Query))
	var first, rest []conf.Item
	for _, it := range all {
		if req.Service != nil && it.Service != *req.Service || req.Type != nil && it.Type != *req.Type || req.Complexity != nil && it.Complexity != *req.Complexity {
			continue
		}
		service, key, value := strings.ToLower(it.Service), strings.ToLower(it.Key), strings.ToLower(plainText(it.ValueJSON))
		matches, named, inKey := true, true, false
		for _, w := range words {
			var k, n, a bool
			if utf8.RuneCountInString(w) < 3 {
				k = starts(key, w, 0)
				a = k || starts(service, w, 0) || starts(value, w, 16)
				n = a
			} else {
				k = strings.Contains(key, w)
				n = k || strings.Contains(service, w)
				a = n || strings.Contains(value, w) || strings.Contains(strings.ToLower(it.Description), w) || strings.Contains(strings.ToLower(it.HelpText), w)
			}
			matches, named, inKey = matches && a, named && n, inKey || k
		}
		switch {
		case !matches:
		case named && inKey:
			first = append(first, it)
		default:
			rest = append(rest, it)
		}
	}
	out := []string{}
	for _, part := range [][]conf.Item{first, rest} {
		slices.SortFunc(part, func(a, b conf.Item) int { return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Key, b.Key)) })
		for _, it := range part {
			out = append(out, it.Service+"/"+it.Key)
		}
	}
	return out
}

func searchable(tb testing.TB, services int) (*Store, *driver, []conf.Item) {
	tb.Helper()
	s := openNew(tb)
	d := newDriver(tb, s)
	rng := rand.New(rand.NewPCG(5, 5))
	words := []string{"base.en", "Größe", "ÉCOLE", "value", "the threshold", `q"uote'd`, "a*b", "x", "99", "-5", "AND", "日本語テキスト", `back\slash`, "new\nline", ""}
	for i := range services {
		var doc strings.Builder
		doc.WriteByte('{')
		for k := range 6 {
			if k > 0 {
				doc.WriteByte(',')
			}
			w := words[rng.IntN(len(words))]
			switch k {
			case 0:
				fmt.Fprintf(&doc, `"port":%d`, rng.IntN(300))
			case 1:
				fmt.Fprintf(&doc, `"on":%t`, rng.IntN(2) == 0)
			default:
				fmt.Fprintf(&doc, `"%s_%d":%s`, benchWords[rng.IntN(len(benchWords))], k, tables.Quote(w))
			}
		}
		doc.WriteByte('}')
		e := d.edit(command.ActionPut, put(fmt.Sprintf("svc-%03d", i), 0, doc.String()))
		e.Schemas = []command.Schema{schemaOf(e.Updates[0].Service, fmt.Sprintf(`{"port":{"c":"advanced","d":"The port of service %d","h":"Größer than 1024 <b>"},"on":{"d":"Switch"}}`, i))}
		d.ok(e)
	}
	// Items that changed and went must be found as they are, not as they were.
	for i := 0; i < services; i += 3 {
		d.ok(d.edit(command.ActionPut, put(fmt.Sprintf("svc-%03d", i), 1, `{"port":1,"model_9":"replaced text"}`)))
	}
	return s, d, items(tb, s)
}

func TestSearchFindsWhatIsThere(t *testing.T) {
	s, _, all := searchable(t, 60)
	requests := []conf.SearchRequest{{}, {Query: "   "}}
	for _, q := range []string{
		"port", "PORT", "threshold", "größe", "GRÖSSE", "école", "the", "svc-01", "svc", "base.en", "se.e", `q"uote`, `"`, `""`, `"""`, "a*b", "*", "AND", "OR", "NOT",
		"value AND", "NEAR(a b)", "key:port", "{key}", "port*", "^port", "port + on", "(", ")", "a)b", "x", "99", "9", "on", "o", "日本", "日本語", "テキスト", "日",
		`back\slash`, `\`, "-5", "--", ";", "'", "%", "_", "po rt", "port svc-01", "svc-01 port", "of service 7", "replaced", "replaced text model", "model_9", "zzz", "\x01ca", "\x01ti", "\x02\x02po", "a\x00b", "1", "true",
	} {
		requests = append(requests, conf.SearchRequest{Query: q})
	}
	n := 0
	for _, base := range requests {
		for _, f := range []func(*conf.SearchRequest){
			func(*conf.SearchRequest) {},
			func(r *conf.SearchRequest) { r.Service = ptr("svc-007") },
			func(r *conf.SearchRequest) { r.Complexity = ptr(conf.Advanced) },
			func(r *conf.SearchRequest) { r.Type = ptr(conf.TypeBoolean) },
			func(r *conf.SearchRequest) { r.Type, r.Complexity = ptr(conf.TypeInteger), ptr(conf.Advanced) },
			func(r *conf.SearchRequest) {
				r.Type, r.Complexity, r.Service = ptr(conf.TypeString), ptr(conf.Simple), ptr("svc-012")
			},
			func(r *conf.SearchRequest) { r.Service = ptr("no-such-service") },
		} {
			req := base
			f(&req)
			plain := req
			plain.Query = strings.Map(func(r rune) rune {
				if unicode.IsControl(r) {
					return ' '
				}
				return r
			}, req.Query)
			want := expected(all, plain)
			req.Limit = 1000
			got, total := found(t, s, req)
			if total != len(want) {
				t.Errorf("%q: total %d, want %d", req.Query, total, len(want))
			}
			same(t, fmt.Sprintf("%q %v", req.Query, req), want, got)
			n += len(got)

			// Pages put together are the whole.
			var paged []string
			for len(paged) < len(want) {
				req.Limit, req.Offset = 7, len(paged)
				got, _ := found(t, s, req)
				if len(got) == 0 {
					break
				}
				paged = append(paged, got...)
			}
			if !slices.Equal(paged, want) && len(want) > 0 {
				t.Errorf("%q: pages give %v, want %v", req.Query, paged, want)
			}
		}
	}
	if n < 1000 {
		t.Errorf("only %d matches in all: the test proves too little", n)
	}
}

// Few matches are sorted, many are read in order: the same comes out.
func TestSearchWalksWhenThereAreMany(t *testing.T) {
	s, _, all := searchable(t, 40)
	items(t, s)
	for _, q := range []string{"svc", "port", "the threshold", "po"} {
		want := expected(all, conf.SearchRequest{Query: q})
		for _, offset := range []int{0, 3, 17} {
			var pages [2]conf.SearchResponse
			for i, sortBelow := range []int{1 << 20, 0} {
				m, err := search.Parse(conf.SearchRequest{Query: q, Limit: 1000, Offset: offset})
				if err != nil {
					t.Fatal(err)
				}
				m.SortBelow = sortBelow
				if pages[i], err = m.Page(t.Context(), s.reads); err != nil {
					t.Fatal(err)
				}
			}
			same(t, q, pages[0], pages[1])
			if got := len(pages[0].Results); got != max(0, len(want)-offset) {
				t.Errorf("%q from %d: %d matches, want %d", q, offset, got, max(0, len(want)-offset))
			}
		}
	}
}

// plainText is a value without its quotes and escapes.
func plainText(valueJSON string) string {
	var s string
	if json.Unmarshal([]byte(valueJSON), &s) == nil {
		return s
	}
	return valueJSON
}

func TestSearchResult(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	e := d.edit(command.ActionPut, put("stt-worker", 0, `{"vad_threshold":0.5}`))
	e.Schemas = []command.Schema{schemaOf("stt-worker", `{"vad_threshold":{"t":"float","c":"advanced","d":"When speech begins","h":"0 to 1"}}`)}
	d.ok(e)
	page, err := s.Search(t.Context(), conf.SearchRequest{Query: "speech"})
	if err != nil || len(page.Results) != 1 || page.Results[0].ID == nil {
		t.Fatalf("%+v, %v", page, err)
	}
	page.Results[0].ID = nil
	same(t, "item", conf.SearchResponse{Total: 1, Results: []conf.Item{{
		Service: "stt-worker", Key: "vad_threshold", ValueJSON: "0.5", Type: conf.TypeFloat, Complexity: conf.Advanced,
		Description: "When speech begins", HelpText: "0 to 1", UpdatedAt: e.At, UpdatedBy: ptr("ann"),
	}}}, page)
}

func TestSearchRefuses(t *testing.T) {
	s := openNew(t)
	for _, req := range []conf.SearchRequest{
		{Query: strings.Repeat("x", 1024+1)},
		{Query: strings.Repeat("x ", 16+1)},
		{Type: ptr(conf.Type("number"))},
		{Complexity: ptr(conf.Complexity(""))},
	} {
		if _, err := s.Search(t.Context(), req); conf.CodeOf(err) != conf.CodeInvalid || conf.HintOf(err) == "" {
			t.Errorf("%.20q: %v", req.Query, err)
		}
	}
	// As long as it may be, of what is worst for the index.
	for _, q := range []string{strings.Repeat("x", 1024), strings.TrimSpace(strings.Repeat(`"`+"\xff ", 16))} {
		if _, err := s.Search(t.Context(), conf.SearchRequest{Query: q, Limit: 99999, Offset: -5}); err != nil {
			t.Errorf("%.20q: %v", q, err)
		}
	}
}

// plan is EXPLAIN QUERY PLAN.
func plan(tb testing.TB, s *Store, query string, args ...any) string {
	tb.Helper()
	rows, err := s.reads.QueryContext(tb.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		tb.Fatal(query, err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			tb.Fatal(err)
		}
		out = append(out, detail)
	}
	if err := rows.Err(); err != nil {
		tb.Fatal(err)
	}
	return strings.Join(out, "\n")
}

// noTableScan fails when a plan reads a table from its beginning without an index.
func noTableScan(tb testing.TB, name, plan string, sorted bool) {
	tb.Helper()
	for line := range strings.Lines(plan) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "SCAN") && !strings.Contains(line, "INDEX") && line != "SCAN (subquery-1)" && !strings.HasPrefix(line, "SCAN items_fts VIRTUAL TABLE") {
			tb.Errorf("%s reads a whole table:\n%s", name, plan)
		}
		if strings.Contains(line, "TEMP B-TREE") && !sorted {
			tb.Errorf("%s sorts:\n%s", name, plan)
		}
	}
}

// recorder is a Querier that records what is asked.
type recorder struct {
	tables.Querier
	counts, pages []recorded
}

type recorded struct {
	query string
	args  []any
}

func (r *recorder) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	r.pages = append(r.pages, recorded{query, args})
	return r.Querier.QueryContext(ctx, query, args...)
}

func (r *recorder) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	r.counts = append(r.counts, recorded{query, args})
	return r.Querier.QueryRowContext(ctx, query, args...)
}

func TestSearchPlans(t *testing.T) {
	s, _, _ := searchable(t, 20)
	items(t, s)
	run := func(req conf.SearchRequest, sortBelow int) *recorder {
		t.Helper()
		r := &recorder{Querier: s.reads}
		m, err := search.Parse(req)
		if err != nil {
			t.Fatal(err)
		}
		m.SortBelow = sortBelow
		if _, err := m.Page(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if len(r.counts) == 0 || len(r.pages) == 0 {
			t.Fatalf("%+v: %d counts and %d pages were read", req, len(r.counts), len(r.pages))
		}
		return r
	}
	for _, req := range []conf.SearchRequest{
		{},
		{Service: ptr("a")},
		{Type: ptr(conf.TypeString)},
		{Complexity: ptr(conf.Simple)},
		{Type: ptr(conf.TypeString), Complexity: ptr(conf.Simple)},
		{Service: ptr("a"), Type: ptr(conf.TypeString)},
	} {
		r := run(req, 0)
		for _, q := range r.pages {
			noTableScan(t, q.query, plan(t, s, q.query, q.args...), false)
		}
		for _, q := range r.counts {
			p := plan(t, s, q.query, q.args...)
			noTableScan(t, q.query, p, false)
			if req.Service == nil && !strings.Contains(p, "COVERING") {
				t.Errorf("%s reads rows:\n%s", q.query, p)
			}
		}
	}
	for name, req := range map[string]conf.SearchRequest{"word": {Query: "port"}, "short": {Query: "po"}, "filtered": {Query: "the threshold", Complexity: ptr(conf.Simple)}, "service": {Query: "port", Service: ptr("svc-001")}} {
		for _, sortBelow := range []int{1 << 20, 0} {
			for _, q := range run(req, sortBelow).pages {
				p := plan(t, s, q.query, q.args...)
				noTableScan(t, name, p, sortBelow > 0 && req.Service == nil)
				if !strings.Contains(p, "items_fts VIRTUAL TABLE INDEX") {
					t.Errorf("%s does not use the full-text index:\n%s", name, p)
				}
			}
		}
	}
}

// The index is derived: damage in it is repaired and costs nothing else.
func TestDamagedIndexIsRepaired(t *testing.T) {
	for _, sql := range []string{
		"UPDATE items_fts_data SET block = x'00' WHERE id > 10",
		"UPDATE items_fts_data SET block = zeroblob(length(block)) WHERE id > 10",
		"DELETE FROM items_fts_data WHERE id > 10",
	} {
		t.Run(sql, func(t *testing.T) {
			s, d, all := searchable(t, 20)
			path := s.file.path
			_ = s.Close()
			damageIndex(t, path, sql)
			s = openAt(t, path)
			got := items(t, s)
			for i := range got {
				got[i].ID, all[i].ID = nil, nil
			}
			same(t, "items", all, got)
			want := expected(all, conf.SearchRequest{Query: "port"})
			if got, _ := found(t, s, conf.SearchRequest{Query: "port"}); !slices.Equal(got, want) {
				t.Errorf("found %v, want %v", got, want)
			}

			// While it is open, each operation that meets the damage repairs it.
			d.s = s
			for name, meet := range map[string]func() error{
				"search": func() error {
					_, err := s.Search(t.Context(), conf.SearchRequest{Query: "port"})
					return err
				},
				"merge":  func() error { return s.mergeSearchIndex(t.Context()) },
				"verify": func() error { return s.Verify(t.Context()) },
			} {
				for i := range 20 { // as many segments as Merge works on
					r, err := s.Queries.Record(t.Context(), "svc-001")
					if err != nil {
						t.Fatal(err)
					}
					d.ok(d.edit(command.ActionPut, put("svc-001", r.Version, fmt.Sprintf(`{"port":%d}`, i))))
				}
				all := items(t, s)
				damageIndex(t, path, sql)
				if err := meet(); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				want := expected(all, conf.SearchRequest{Query: "port"})
				if got, _ := found(t, s, conf.SearchRequest{Query: "port"}); !slices.Equal(got, want) {
					t.Errorf("after %s: found %v, want %v", name, got, want)
				}
				if err := s.Verify(t.Context()); err != nil {
					t.Errorf("after %s: %v", name, err)
				}
			}
		})
	}
}

func damageIndex(t *testing.T, path, sql string) {
	t.Helper()
	s := &file{path: path, busyTimeout: time.Second}
	w, err := tables.OpenWriter(t.Context(), strings.Replace(s.dsn(false), "_defensive=1", "_defensive=0", 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestMergeKeepsSearchRight(t *testing.T) {
	s, d, _ := searchable(t, 30)
	for i := range 100 {
		name := fmt.Sprintf("svc-%03d", i%30)
		r, err := s.Queries.Record(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		d.ok(d.edit(command.ActionPut, put(name, r.Version, fmt.Sprintf(`{"port":%d,"model_9":"round %d"}`, i, i))))
		if i%40 == 39 {
			if err := s.checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	all := items(t, s)
	for _, q := range []string{"port", "round 7", "model", "9", "replaced", "svc-00"} {
		req := conf.SearchRequest{Query: q, Limit: 1000}
		got, _ := found(t, s, req)
		same(t, q, expected(all, req), got)
	}
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}
