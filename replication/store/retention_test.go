package store

import (
	"bytes"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

var logRows = flag.Int("logrows", 20_000, "rows of the access log and of the history in TestLargeLogs")

func accessRows(n, from int) []conf.Access {
	var rows []conf.Access
	for i := range n {
		rows = append(rows, conf.Access{UserID: "ann", Action: "read", Service: "router", Success: true, Timestamp: at(from + i)})
	}
	return rows
}

func (d *driver) accessTotal() int {
	d.tb.Helper()
	page, err := d.s.Queries.AccessLog(d.tb.Context(), conf.AccessFilter{})
	if err != nil {
		d.tb.Fatal(err)
	}
	return page.Total
}

func TestABatchCountsOnce(t *testing.T) {
	d := newDriver(t, openNew(t))
	b := func(source string, seq uint64, n int) *command.Audit {
		return &command.Audit{Rows: accessRows(n, int(seq)), Source: source, Seq: seq}
	}
	for _, tc := range []struct {
		c    *command.Audit
		want int
	}{
		{b("n1/a", 1, 3), 3},
		{b("n1/a", 1, 3), 3}, // the answer was lost, and it was sent again
		{b("n2/b", 1, 1), 4},
		{b("n1/a", 4, 2), 6},
		{b("n1/a", 3, 2), 6},
		{b("n1/a", 2, 2), 6},
		{b("n1/a", 5, 0), 6},
		{b("n1/a", 5, 1), 6},
		{&command.Audit{Rows: accessRows(1, 0)}, 7},
		{&command.Audit{Rows: accessRows(1, 0)}, 8}, // no source: it is not a repetition
	} {
		d.ok(tc.c)
		if got := d.accessTotal(); got != tc.want {
			t.Fatalf("after %s %d: %d rows, want %d", tc.c.Source, tc.c.Seq, got, tc.want)
		}
	}
	if seq, none := auditSeq(t, d.s, "n1/a"), auditSeq(t, d.s, "n9"); seq != 5 || none != 0 {
		t.Errorf("%d %d", seq, none)
	}
	// A member that restored a snapshot has what was applied.
	other := openNew(t)
	if err := other.Restore(t.Context(), bytes.NewReader(streamOf(t, d.s))); err != nil {
		t.Fatal(err)
	}
	newDriver(t, other).unchanged(b("n1/a", 5, 1))
}

// auditSeq is the number of the last batch of a queue that was applied, 0 for none.
func auditSeq(t *testing.T, s *Store, source string) uint64 {
	t.Helper()
	r, err := tables.Read(t.Context(), s.reads, tables.NewDigester(), tables.AuditSources, source)
	if err != nil {
		t.Fatal(err)
	}
	if r == nil {
		return 0
	}
	return tables.UintOf(r.Vals[1])
}

func TestPrune(t *testing.T) {
	a, b := openNew(t), openNew(t)
	da, db := newDriver(t, a), newDriver(t, b)
	rows := accessRows(10, 0)
	rows[3].Timestamp, rows[7].Timestamp = rows[0].Timestamp, at(99) // clocks differ
	cmds := []command.Command{
		&command.Audit{Rows: rows, Source: "n1/a", Seq: 1}, &command.Audit{Rows: accessRows(1, 20), Source: "n2/b", Seq: 1},
		da.edit(command.ActionPut, put("router", 0, `{"a":1,"b":2}`)), da.edit(command.ActionPut, put("router", 1, `{"a":2,"b":3}`)),
	}
	da.apply(cmds...)
	hist := history(t, a, conf.HistoryFilter{})
	for _, c := range []struct {
		p       *command.Prune
		access  int
		history int
	}{
		{&command.Prune{At: at(50), Access: at(0), Limit: 100}, 11, 4},
		{&command.Prune{At: at(50), Access: at(5), Limit: 2}, 9, 4},
		{&command.Prune{At: at(50), Access: at(5), Limit: 100}, 6, 4},
		{&command.Prune{At: at(50), Access: at(5), Limit: 100}, 6, 4},
		{&command.Prune{At: at(50), History: hist[0].ChangedAt, Limit: 1}, 6, 3},
		{&command.Prune{At: at(50), Access: at(1000), History: "2999-01-01T00:00:00+00:00", Limit: 100}, 1, 1}, // the newest stays
	} {
		before, err := a.Queries.Prunable(t.Context(), c.p.Access, c.p.History)
		if err != nil {
			t.Fatal(err)
		}
		was, hadHistory := da.accessTotal(), len(history(t, a, conf.HistoryFilter{}))
		da.ok(c.p)
		cmds = append(cmds, c.p)
		now, left := da.accessTotal(), len(history(t, a, conf.HistoryFilter{}))
		if now != c.access || left != c.history {
			t.Fatalf("%+v: %d and %d rows are left, want %d and %d", c.p, now, left, c.access, c.history)
		}
		if changed := was != now || hadHistory != left; changed != before {
			t.Errorf("%+v: Prunable said %t", c.p, before)
		}
		if err := a.Verify(t.Context()); err != nil {
			t.Fatalf("the state digest did not follow: %v", err)
		}
	}
	if seq := auditSeq(t, a, "n1/a"); seq != 0 {
		t.Error("the queue of an agent that is without batches for long is kept")
	}
	db.apply(cmds...) // in one batch
	same(t, "another batching", content(t, a), content(t, b))

	// Of two that differ in how they came by their rows, the ids stay the same.
	c := openNew(t)
	if err := c.Restore(t.Context(), bytes.NewReader(streamOf(t, a))); err != nil {
		t.Fatal(err)
	}
	dc := newDriver(t, c)
	more := &command.Audit{Rows: accessRows(3, 2000)}
	da.ok(more)
	dc.ok(more)
	same(t, "after a snapshot", content(t, a), content(t, c))

	if err := a.w.Exec(t.Context(), "UPDATE access_log SET user_id = 'nobody' WHERE id = (SELECT min(id) FROM access_log)"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Apply(t.Context(), da.entries(&command.Prune{At: at(9), Access: at(9999), Limit: 9})); conf.CodeOf(err) != conf.CodeCorrupt {
		t.Errorf("a damaged row was pruned as if it were what was written: %v", err)
	}
}

// fillLogs writes rows that no digest covers, four seconds apart: a million of
// them are 46 days.
func fillLogs(t *testing.T, s *Store, n int) {
	t.Helper()
	const when = "strftime('%Y-%m-%dT%H:%M:%S+00:00', 1767225600 + i * 4, 'unixepoch')"
	with := fmt.Sprintf(" WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d) SELECT ", n-1)
	for _, q := range []string{
		"BEGIN",
		"INSERT INTO access_log (user_id, action, service, success, reason, timestamp, digest)" + with +
			"'user-' || (i % 7), CASE i % 5 WHEN 0 THEN 'write' WHEN 1 THEN 'unauthorized' ELSE 'read' END, 'service-' || (i % 50), 1, 'GET', " + when + ", x'' FROM n",
		"INSERT INTO config_history (service, key, new_value_json, changed_at, changed_by, version, action, digest)" + with +
			"'service-' || (i % 50), 'key-' || (i % 11), '1', " + when + ", 'user-' || (i % 7), i / 50, 'put', x'' FROM n",
		"COMMIT",
	} {
		if _, err := s.w.Conn.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLargeLogs asks for 30 days in every way. Run it with -logrows 1000000.
func TestLargeLogs(t *testing.T) {
	s := openNew(t)
	newDriver(t, s)
	fillLogs(t, s, *logRows)
	end := time.Unix(1767225600+int64(*logRows)*4, 0)
	since, until := conf.FormatTime(end.Add(-30*24*time.Hour)), conf.FormatTime(end)
	const user, service = "user-3", "service-3"
	ask := map[string]func() (int, error){}
	for name, f := range map[string]conf.AccessFilter{
		"all": {}, "user": {User: user}, "action": {Action: "write"}, "service": {Service: service}, "user and action": {User: user, Action: "read"},
	} {
		for _, days := range []bool{false, true} {
			f := f
			if days {
				f.Since, f.Until = since, until
			}
			ask[fmt.Sprintf("access %s, 30 days %t", name, days)] = func() (int, error) { p, err := s.Queries.AccessLog(t.Context(), f); return len(p.Results), err }
		}
	}
	for name, f := range map[string]conf.HistoryFilter{
		"all": {}, "user": {User: user}, "service": {Service: service}, "key": {Key: "key-3"}, "service and key": {Service: service, Key: "key-3"},
		"version": {Version: 3}, "user and service": {User: user, Service: service},
	} {
		for _, days := range []bool{false, true} {
			f := f
			if days {
				f.Since, f.Until = since, until
			}
			ask[fmt.Sprintf("history %s, 30 days %t", name, days)] = func() (int, error) { p, err := s.Queries.History(t.Context(), f); return len(p.Results), err }
		}
	}
	const slow = 2 * time.Second // a machine of any speed does a million in well under this
	slowest, worst := "", time.Duration(0)
	for name, f := range ask {
		var n int
		var err error
		took := time.Hour
		for try := 0; try < 3 && took > slow; try++ { // the machine may be busy with something else
			start := time.Now()
			n, err = f()
			took = min(took, time.Since(start))
		}
		if err != nil || n == 0 && name != "history version, 30 days true" {
			t.Errorf("%s: %d rows, %v", name, n, err)
		}
		if took > worst {
			slowest, worst = name, took
		}
		t.Logf("%-40s %4d rows in %v", name, n, took)
	}
	if worst > slow {
		t.Errorf("%s took %v", slowest, worst)
	}
}
