package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/query"
	"github.com/holdfast-config/holdfast/replication/store/tables"
	"github.com/holdfast-config/holdfast/testenv/base"
)

// Queries, snapshots and upkeep beside a writer: each sees one moment.
func TestQueriesBesideWrites(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := openNew(t)
	d := newDriver(t, s)
	d.ok(d.edit(command.ActionPut, put("pair-a", 0, `{"n":0}`), put("pair-b", 0, `{"n":0}`)))
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var rounds [6]atomic.Int64
	idle := func() bool {
		for i := range rounds {
			if rounds[i].Load() == 0 && !t.Failed() {
				return true
			}
		}
		return false
	}
	work := func(i int, f func() error) {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := f(); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(i, err)
					return
				}
				rounds[i].Add(1)
			}
		})
	}
	work(0, func() error {
		recs := map[string]*conf.Record{}
		if err := s.Queries.Records(ctx, func(r *conf.Record) error { recs[r.Service] = r; return nil }); err != nil {
			return err
		}
		if a, b := recs["pair-a"], recs["pair-b"]; !bytes.Equal(a.Config, b.Config) || a.Version != b.Version {
			return fmt.Errorf("torn: %s and %s", a.Config, b.Config)
		}
		return nil
	})
	work(1, func() error {
		page, err := s.Search(ctx, conf.SearchRequest{Query: "pair"})
		if err != nil {
			return err
		}
		if len(page.Results) != 2 || page.Results[0].ValueJSON != page.Results[1].ValueJSON {
			return fmt.Errorf("torn: %+v", page)
		}
		return nil
	})
	work(2, func() error {
		page, err := s.Queries.History(ctx, conf.HistoryFilter{Service: "pair-a"})
		if err == nil && page.Total < len(page.Results) {
			err = fmt.Errorf("total %d of %d", page.Total, len(page.Results))
		}
		return err
	})
	work(3, func() error { return s.checkpoint(ctx) })
	work(4, func() error { return s.Verify(ctx) })
	work(5, func() error {
		_, _ = s.Applied()
		_ = s.Digest()
		return s.CheckFiles()
	})
	for v := uint64(1); v < 150 || idle(); v++ {
		doc := fmt.Sprintf(`{"n":%d}`, v)
		d.ok(d.edit(command.ActionPut, put("pair-a", v, doc), put("pair-b", v, doc)))
		if v%50 == 0 {
			sn, err := s.Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if index, _ := s.Applied(); sn.Index() != index || sn.st.Digest != s.state.Load().Digest {
				t.Errorf("snapshot of %d, applied %d", sn.Index(), index)
			}
			_ = sn.Close()
		}
	}
	stop()
	wg.Wait()
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	_ = s.Close()
}

// A person with the sqlite3 tool sees consistent data while the agent writes.
func TestSQLiteToolReadsBesideWrites(t *testing.T) {
	tool, err := exec.LookPath("sqlite3")
	if err != nil {
		base.Missing(t, "the sqlite3 tool: %v", err)
	}
	s := openNew(t)
	d := newDriver(t, s)
	d.ok(d.edit(command.ActionPut, put("a", 0, `{"n":0,"twice":0}`), put("b", 0, `{"n":0,"twice":0}`)))
	if err := s.mergeSearchIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Everything in one statement, and so in one read transaction. Items follow
	// with each Merge: all of them to one and the same moment.
	const query = `SELECT count(*),
		(SELECT count(*) FROM config_items i JOIN config_items n ON n.key = 'n' AND i.value_json IS NOT CAST(n.value_json * (1 + (i.key = 'twice')) AS TEXT)),
		(SELECT count(DISTINCT version) FROM service_configs),
		(SELECT count(*) FROM config_history h JOIN service_configs s USING (service) WHERE h.version > s.version),
		(SELECT count(*) FROM meta)
		FROM config_items`
	stop, done := make(chan struct{}), make(chan struct{})
	var runs atomic.Int64
	go func() {
		defer close(done)
		for ; ; runs.Add(1) {
			select {
			case <-stop:
				return
			default:
			}
			out, err := exec.Command(tool, "-readonly", s.file.path, query).CombinedOutput()
			if got := strings.TrimSpace(string(out)); err != nil || got != "4|0|1|0|1" {
				t.Errorf("sqlite3 says %q, %v", got, err)
			}
		}
	}()
	for v := uint64(1); v < 300 || runs.Load() < 5; v++ {
		doc := fmt.Sprintf(`{"n":%d,"twice":%d}`, v, 2*v)
		d.ok(d.edit(command.ActionPut, put("a", v, doc), put("b", v, doc)))
		if err := s.mergeSearchIndex(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	<-done
	if err := s.CheckFiles(); err != nil {
		t.Errorf("the tool took the WAL away: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	d.ok(d.edit(command.ActionPut, put("a", 0, `{"k":1}`)))
	want := content(t, s)
	var pages int
	if err := s.w.QueryRowContext(t.Context(), "PRAGMA page_count").Scan(&pages); err != nil {
		t.Fatal(err)
	}
	limit := func(n int) {
		t.Helper()
		if _, err := s.w.Conn.ExecContext(t.Context(), fmt.Sprint("PRAGMA max_page_count = ", n)); err != nil {
			t.Fatal(err)
		}
	}
	limit(pages)
	big := d.entries(d.edit(command.ActionPut, put("b", 0, `{"k":`+tables.Quote(strings.Repeat("x", 1<<20))+`}`)), d.edit(command.ActionPut, put("c", 0, `{}`)))
	for range 2 {
		_, _, err := s.Apply(t.Context(), big)
		if conf.CodeOf(err) != conf.CodeStorageFull || conf.HintOf(err) == "" {
			t.Fatalf("%v", err)
		}
	}
	same(t, "content", want, content(t, s))
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	limit(1 << 20)
	res, recs, err := s.Apply(t.Context(), big)
	if err != nil || len(recs) != 2 || res[1].Err != nil {
		t.Errorf("with space again: %+v, %v", res, err)
	}
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRestoreOnAFullDisk(t *testing.T) {
	from, _ := filled(t, 100)
	data := streamOf(t, from)
	s := openNew(t)
	d := newDriver(t, s)
	d.ok(d.edit(command.ActionPut, put("a", 0, `{"k":1}`)))
	want := content(t, s)
	if _, err := s.w.Conn.ExecContext(t.Context(), "PRAGMA max_page_count = 60"); err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(t.Context(), bytes.NewReader(data)); conf.CodeOf(err) != conf.CodeStorageFull {
		t.Fatalf("%v", err)
	}
	same(t, "content", want, content(t, s))
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLogPages(t *testing.T) {
	s, _ := filled(t, 200)
	ctx := t.Context()
	all := history(t, s, conf.HistoryFilter{Limit: 1000})
	if len(all) < 100 || len(all) >= 1000 {
		t.Fatalf("%d rows of history", len(all))
	}
	mid := all[len(all)/2].ChangedAt
	for name, f := range map[string]conf.HistoryFilter{
		"all": {}, "service": {Service: "service-1"}, "key": {Key: "a"}, "service and key": {Service: "service-2", Key: "nested"},
		"user": {User: "ann"}, "nobody": {User: "bob"}, "version": {Service: "service-1", Version: 2}, "version of all": {Version: 2},
		"since": {Since: mid}, "until": {Until: mid}, "between": {Since: all[len(all)-20].ChangedAt, Until: mid, User: "ann", Service: "service-1"},
		"no service": {Service: "zzz"},
	} {
		var want []conf.HistoryEntry
		for _, e := range all {
			if (f.Service == "" || e.Service == f.Service) && (f.Key == "" || e.Key == f.Key) && (f.User == "" || e.ChangedBy == f.User) &&
				(f.Version == 0 || e.Version == f.Version) && (f.Since == "" || e.ChangedAt >= f.Since) && (f.Until == "" || e.ChangedAt <= f.Until) {
				want = append(want, e)
			}
		}
		var got []conf.HistoryEntry
		f.Limit = 9
		for {
			f.Offset = len(got)
			page, err := s.Queries.History(ctx, f)
			if err != nil || page.Results == nil {
				t.Fatal(name, page, err)
			}
			if page.Total != len(want) {
				t.Errorf("%s: total %d, want %d", name, page.Total, len(want))
			}
			if got = append(got, page.Results...); len(page.Results) < f.Limit {
				break
			}
		}
		same(t, name, want, got)
	}
	page, err := s.Queries.AccessLog(ctx, conf.AccessFilter{Limit: 1000})
	if err != nil || page.Total < 50 || page.Total != len(page.Results) {
		t.Fatalf("%d rows of access log, %v", page.Total, err)
	}
	for i := 1; i < len(page.Results); i++ {
		if page.Results[i].ID >= page.Results[i-1].ID {
			t.Fatal("not the newest first")
		}
	}
	mid = page.Results[len(page.Results)/2].Timestamp
	for name, f := range map[string]conf.AccessFilter{
		"user": {User: "bob"}, "action": {Action: "unauthorized"}, "service": {Service: "service-1"}, "since": {Since: mid}, "until": {Until: mid},
		"several": {User: "ann", Action: "write", Service: "service-1", Since: mid},
	} {
		var want []conf.Access
		for _, e := range page.Results {
			if (f.Service == "" || e.Service == f.Service) && (f.Action == "" || e.Action == f.Action) && (f.User == "" || e.UserID == f.User) &&
				(f.Since == "" || e.Timestamp >= f.Since) && (f.Until == "" || e.Timestamp <= f.Until) {
				want = append(want, e)
			}
		}
		f.Limit = 1000
		got, err := s.Queries.AccessLog(ctx, f)
		if err != nil || got.Total != len(want) {
			t.Errorf("%s: %v, total %d, want %d", name, err, got.Total, len(want))
		}
		same(t, name, want, got.Results)
	}
}

func TestLogPlans(t *testing.T) {
	s := openNew(t)
	queries := map[string]*recorder{}
	run := func(name string, ask func(q *query.Queries) error) {
		r := &recorder{Querier: s.reads}
		read := func(_ context.Context, _ string, f func(q tables.Querier) error) error { return f(r) }
		if err := ask(query.New(read, s.state.Load)); err != nil || len(r.counts) != 1 || len(r.pages) != 1 {
			t.Fatalf("%s: %d counts and %d pages were read, %v", name, len(r.counts), len(r.pages), err)
		}
		queries[name] = r
	}
	for _, f := range []conf.HistoryFilter{
		{},
		{Service: "a"},
		{Key: "k"},
		{Service: "a", Key: "k"},
		{User: "u"},
		{Since: "t"},
		{Until: "t"},
		{Service: "a", Since: "t", Until: "u"},
		{User: "u", Since: "t"},
		{Service: "a", Version: 2},
		{Version: 2},
		{Service: "a", Key: "k", User: "u", Since: "t", Version: 2},
	} {
		run(fmt.Sprintf("history %+v", f), func(q *query.Queries) error { _, err := q.History(t.Context(), f); return err })
	}
	for _, f := range []conf.AccessFilter{{}, {User: "u"}, {Action: "a"}, {Service: "s"}, {Since: "t", Until: "u"}, {User: "u", Since: "t"}, {User: "u", Service: "s", Action: "a"}} {
		run(fmt.Sprintf("access %+v", f), func(q *query.Queries) error { _, err := q.AccessLog(t.Context(), f); return err })
	}
	indexed := regexp.MustCompile(`FROM (\w+)(?: INDEXED BY (\w+))?`)
	for name, r := range queries {
		count, page := r.counts[0], r.pages[0]
		from := indexed.FindStringSubmatch(count.query)
		table, index := from[1], from[2]
		p := plan(t, s, page.query, page.args...)
		for line := range strings.Lines(p) {
			line = strings.TrimSpace(line)
			if line == "SCAN "+table && len(count.args) > 0 {
				t.Errorf("%s reads the whole table:\n%s", name, p)
			}
			// Finding the ids must not sort; putting one page in order may. A key
			// without its service is the exception: it sorts ids, not rows. In the
			// index of all columns it sorts what has one and the same time.
			if strings.HasPrefix(line, "CO-ROUTINE") || strings.HasPrefix(line, "MATERIALIZE") {
				rest := p[strings.Index(p, line)+len(line):]
				inner, _, _ := strings.Cut(rest, "SCAN (")
				inner, _, _ = strings.Cut(inner, "SCAN found")
				inner = strings.ReplaceAll(inner, "USE TEMP B-TREE FOR LAST TERM OF ORDER BY", "")
				if strings.Contains(inner, "TEMP B-TREE") && !strings.Contains(index, "key") {
					t.Errorf("%s sorts the log:\n%s", name, p)
				}
			}
		}
		c := plan(t, s, count.query, count.args...)
		if index != "" && (len(count.args) == 1 || strings.HasSuffix(index, "_all")) && !strings.Contains(c, "COVERING") {
			t.Errorf("the count of %s reads rows:\n%s", name, c)
		}
	}
}

// What goes wrong below is logged where an operator looks for it.
func TestRepairIsLogged(t *testing.T) {
	s, _ := filled(t, 20)
	path := s.file.path
	if err := s.mergeSearchIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.w.Exec(t.Context(), "UPDATE config_items SET description = 'x'"); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	var log bytes.Buffer
	opts := testOptions(path)
	opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !strings.Contains(log.String(), "making them again") {
		t.Errorf("log: %s", log.String())
	}
}
