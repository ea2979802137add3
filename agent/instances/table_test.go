package instances

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// clock is the wall clock of a test.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func (c *clock) advance(d time.Duration) { c.at = c.at.Add(d) }

func newTable(t *testing.T, term uint64) (*Table, *clock) {
	t.Helper()
	c := &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	table := New(c.now)
	table.Begin(term)
	return table, c
}

func report(instance string, version, seq uint64) *conf.Report {
	return &conf.Report{
		Instance: instance, Node: instance, Service: "stt", Epoch: "e1", Version: version, Status: conf.InstanceRead,
		ReportOrder: conf.ReportOrder{Term: 1, Boot: "b1", Seq: seq},
	}
}

func hear(t *testing.T, table *Table, kind string, r *conf.Report) {
	t.Helper()
	if err := table.Hear(kind, r); err != nil {
		t.Fatal(err)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestReportsAreStates(t *testing.T) {
	t.Parallel()
	table, c := newTable(t, 1)
	changed := table.Changed("stt")
	hear(t, table, KindMember, report("a", 7, 1))
	if !isClosed(changed) {
		t.Error("nobody is told of the first report")
	}
	changed = table.Changed("stt")
	c.advance(30 * time.Second)
	hear(t, table, KindMember, report("a", 7, 2))
	if isClosed(changed) {
		t.Error("a report that says the same wakes readers")
	}
	if at := table.Of("stt")[0].At; !at.Equal(c.at) {
		t.Errorf("heard at %s", at)
	}
	for what, r := range map[string]*conf.Report{
		"an earlier one": report("a", 6, 1), "the same again": report("a", 6, 2),
		"another term": {Instance: "a", Node: "a", Service: "stt", Version: 6, ReportOrder: conf.ReportOrder{Term: 2, Boot: "b1", Seq: 9}},
	} {
		hear(t, table, KindMember, r)
		if got := table.Of("stt"); len(got) != 1 || got[0].Version != 7 {
			t.Errorf("%s: %+v", what, got)
		}
	}
	restarted := report("a", 8, 1)
	restarted.Boot = "b0" // less than the one before: the order of names says nothing
	hear(t, table, KindMember, restarted)
	hear(t, table, KindMember, report("a", 7, 99)) // late, of the process before
	if got := table.Of("stt")[0]; got.Version != 8 || !isClosed(changed) {
		t.Errorf("after a restart: %+v", got)
	}
}

func TestLostAndGone(t *testing.T) {
	t.Parallel()
	table, c := newTable(t, 1)
	all := []Member{{Node: "a"}}
	hear(t, table, KindMember, report("a", 7, 1))
	hear(t, table, KindObserver, report("o", 7, 1))
	c.advance(lostAfter - time.Second)
	hear(t, table, KindMember, report("a", 7, 2))
	c.advance(time.Second)
	changed := table.Changed("stt")
	table.sweep(all)
	if got := table.Of("stt"); got[0].Lost || !got[1].Lost || !isClosed(changed) {
		t.Errorf("%+v", got)
	}
	changed = table.Changed("stt")
	hear(t, table, KindObserver, report("o", 7, 2))
	if table.Of("stt")[1].Lost || !isClosed(changed) {
		t.Error("it is heard again, and lost")
	}
	changed = table.Changed("stt")
	table.sweep(nil)
	if got := table.Of("stt"); len(got) != 1 || got[0].Instance != "o" || !isClosed(changed) {
		t.Errorf("a removed member stays: %+v", got)
	}
	c.advance(goneAfter)
	table.sweep(all)
	if got := table.Of("stt"); len(got) != 0 {
		t.Errorf("a day later: %+v", got)
	}
}

func TestTermForgets(t *testing.T) {
	t.Parallel()
	table, _ := newTable(t, 1)
	hear(t, table, KindMember, report("a", 7, 1))
	changed := table.Changed("stt")
	table.Begin(2)
	if len(table.Of("stt")) != 0 || !isClosed(changed) || table.Term() != 2 {
		t.Error("a term knows what the one before has heard")
	}
	hear(t, table, KindMember, report("a", 7, 2)) // for term 1
	if len(table.Of("stt")) != 0 {
		t.Error("a report for another term counts")
	}
	table.Begin(0)
	r := report("a", 7, 3)
	r.Term = 0
	hear(t, table, KindMember, r)
	if len(table.Of("stt")) != 0 {
		t.Error("an agent that does not lead listens")
	}
}

func TestKindsAreApart(t *testing.T) {
	t.Parallel()
	table, c := newTable(t, 1)
	hear(t, table, KindMember, report("a", 7, 1))
	hear(t, table, KindObserver, report("a", 9, 1))
	hear(t, table, KindMQTT, report("a", 8, 1)) // an observer that has a token is believed first
	got := table.Of("stt")
	if len(got) != 2 || got[0].Version != 7 || got[0].Kind != KindMember || got[1].Version != 9 || got[1].Kind != KindObserver {
		t.Errorf("%+v", got)
	}
	c.advance(lostAfter)
	table.sweep([]Member{{Node: "a"}, {Node: "m"}, {Node: "m2"}})
	hear(t, table, KindMQTT, report("a", 8, 1))
	if got := table.Of("stt"); got[1].Kind != KindMQTT || got[1].Version != 8 {
		t.Errorf("%+v", got)
	}
}

func TestTableIsBounded(t *testing.T) {
	t.Parallel()
	table, c := newTable(t, 1)
	for i := range maxPerService {
		hear(t, table, KindObserver, report(fmt.Sprint("o", i), 7, 1))
	}
	if err := table.Hear(KindObserver, report("late", 7, 1)); conf.CodeOf(err) != conf.CodeRateLimited {
		t.Errorf("one too many: %v", err)
	}
	hear(t, table, KindObserver, report("o1", 8, 2)) // who is there may speak
	hear(t, table, KindMember, report("m", 7, 1))    // and so may a member
	c.advance(lostAfter)
	table.sweep([]Member{{Node: "a"}, {Node: "m"}, {Node: "m2"}})
	hear(t, table, KindObserver, report("late", 7, 1))
	if n := len(table.Of("stt")); n != maxPerService+1 {
		t.Errorf("%d instances", n)
	}
	for i := range maxServices + 1 {
		r := report("m2", 7, 1)
		r.Service = fmt.Sprint("s", i)
		if err := table.Hear(KindMember, r); (err != nil) != (i == maxServices) {
			t.Errorf("service %d of one member: %v", i, err)
		}
	}
}

func TestFeed(t *testing.T) {
	t.Parallel()
	table, _ := newTable(t, 1)
	hear(t, table, KindMember, report("a", 7, 1))
	got := table.Since(t.Context(), 1, 0, 0)
	if fmt.Sprint(got) != "{1 1 [stt]}" {
		t.Errorf("%v", got)
	}
	hear(t, table, KindMember, report("a", 7, 2))
	if got := table.Since(t.Context(), 1, got.Position, 0); len(got.Services) != 0 {
		t.Errorf("nothing changed: %v", got)
	}
	done := make(chan Changes)
	go func() { done <- table.Since(t.Context(), 1, got.Position, time.Minute) }()
	r := report("b", 7, 1)
	r.Service = "tts"
	hear(t, table, KindMember, r)
	if got := <-done; fmt.Sprint(got.Services) != "[tts]" {
		t.Errorf("%v", got)
	}
	if got := table.Since(t.Context(), 9, 99, 0); len(got.Services) != 2 {
		t.Errorf("of another term: %v", got)
	}
}

func TestKeyUse(t *testing.T) {
	t.Parallel()
	table, c := newTable(t, 1)
	a, b := report("a", 7, 1), report("b", 7, 1)
	at := conf.FormatTime(c.at)
	a.Reads = []conf.KeyRead{{Key: "port", At: at}, {Key: "", At: at}, {Key: "bad", At: "yesterday"}}
	b.Reads = []conf.KeyRead{{Key: "port", At: conf.FormatTime(c.at.Add(1000 * time.Hour))}}
	hear(t, table, KindMember, a)
	hear(t, table, KindMember, b)
	want := "[{ 1 2026-01-02T03:00:00+00:00} {port 2 2026-01-02T03:00:00+00:00}]"
	if got := fmt.Sprint(table.KeyUse("stt")); got != want {
		t.Errorf("got %s", got)
	}
}
