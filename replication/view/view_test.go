package view

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestMain(m *testing.M) { os.Exit(base.NoLeaks(m)) }

type doc struct{ body []byte }

func render(r *conf.Record) doc { return doc{fmt.Appendf(nil, "%s@%d", r.Service, r.Version)} }

func rec(service, epoch string, version uint64) *conf.Record {
	return &conf.Record{Service: service, Epoch: epoch, Version: version, IssuedAt: "2026-01-02T03:04:05+00:00", Config: []byte(`{}`)}
}

func version(t *testing.T, v *View[doc], service string) uint64 {
	t.Helper()
	e, ok := v.Get(service)
	if !ok {
		t.Fatalf("%s is missing", service)
	}
	if want := render(e.Record).body; !bytes.Equal(e.Doc.body, want) {
		t.Fatalf("document %q beside a record that renders to %q", e.Doc.body, want)
	}
	return e.Record.Version
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestEmpty(t *testing.T) {
	v := New(render)
	if _, ok := v.Get("router"); ok {
		t.Fatal("an empty view has an entry")
	}
	s := v.Load()
	if s.Len() != 0 || s.Index != 0 || s.Source != "" || s.Epoch != "" {
		t.Fatalf("empty snapshot: %+v", s)
	}
	s.Range(func(*Entry[doc]) bool { t.Fatal("Range over nothing"); return true })
}

func TestAdvanceReplacesAndWakes(t *testing.T) {
	v := New(render)
	v.Reset(SourceReplica, "e1", 5, []*conf.Record{rec("a", "e1", 1), rec("b", "e1", 1)})
	a, _ := v.Get("a")
	b, _ := v.Get("b")
	before := v.Load()
	v.Advance(6, []*conf.Record{rec("a", "e1", 2)})
	if got := version(t, v, "a"); got != 2 {
		t.Fatalf("version %d, want 2", got)
	}
	if !isClosed(a.Changed()) || !isClosed(before.Changed()) {
		t.Fatal("a change woke nobody")
	}
	if now, _ := v.Get("b"); isClosed(b.Changed()) || now != b {
		t.Fatal("a change of a touched b")
	}
	if e, _ := before.Get("a"); e.Record.Version != 1 {
		t.Fatal("an old snapshot changed")
	}
	if s := v.Load(); s.Index != 6 || s.Epoch != "e1" || s.Source != SourceReplica || s.Len() != 2 {
		t.Fatalf("snapshot %+v", s)
	}
}

func TestTombstoneStaysAndOldVersionIsIgnored(t *testing.T) {
	v := New(render)
	v.Advance(1, []*conf.Record{rec("a", "e1", 3)})
	gone := rec("a", "e1", 4)
	gone.Deleted = true
	v.Advance(2, []*conf.Record{gone})
	v.Advance(3, []*conf.Record{rec("a", "e1", 3)})
	e, ok := v.Get("a")
	if !ok || e.Record.Exists() || e.Record.Version != 4 {
		t.Fatalf("entry after a replayed message: %+v", e)
	}
	if v.Load().Index != 3 || v.Load().Len() != 1 {
		t.Fatal("the tombstone is not counted, or the index stood still")
	}
}

func TestOrderInsideAnEpoch(t *testing.T) {
	at := func(version uint64, issued string) *conf.Record {
		r := rec("a", "e1", version)
		r.IssuedAt = issued
		return r
	}
	cases := []struct {
		name    string
		next    *conf.Record
		changes bool
		quiet   bool
	}{
		{"higher version", at(8, "2026-01-01T00:00:00+00:00"), true, false},
		{"lower version issued later", at(6, "2027-01-01T00:00:00+00:00"), false, false},
		{"issued again later", at(7, "2026-01-02T03:04:05.000001+00:00"), true, true},
		{"issued earlier, by a clock that was corrected", at(7, "2026-01-02T03:04:04.999999+00:00"), true, true},
		{"the same", at(7, "2026-01-02T03:04:05+00:00"), false, false},
		{"another epoch with a lower version", rec("a", "e2", 1), true, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v := New(render)
			v.Advance(9, []*conf.Record{at(7, "2026-01-02T03:04:05+00:00")})
			e, _ := v.Get("a")
			v.Advance(10, []*conf.Record{c.next})
			now, _ := v.Get("a")
			if (now != e) != c.changes || isClosed(e.Changed()) != (c.changes && !c.quiet) {
				t.Fatalf("changed %v, want %v; woken %v", now != e, c.changes, isClosed(e.Changed()))
			}
			if c.changes && v.Load().Epoch != c.next.Epoch {
				t.Fatalf("epoch %q", v.Load().Epoch)
			}
		})
	}
}

func TestSchemaChangeOfSameVersionIsAChange(t *testing.T) {
	v := New(render)
	v.Advance(1, []*conf.Record{rec("a", "e1", 0)})
	r := rec("a", "e1", 0)
	r.Schema = []byte(`{"type":"object"}`)
	v.Advance(2, []*conf.Record{r})
	if e, _ := v.Get("a"); e.Record != r {
		t.Fatal("the new schema did not come through")
	}
}

func TestIndexNeverFalls(t *testing.T) {
	v := New(render)
	v.Reset(SourceLKG, "e1", 10, nil)
	v.Advance(4, nil)
	v.Reset(SourceReplica, "e1", 7, nil)
	if s := v.Load(); s.Index != 10 || s.Source != SourceReplica {
		t.Fatalf("index %d source %s", s.Index, s.Source)
	}
	v.Reset(SourceReplica, "e2", 3, nil)
	if got := v.Load().Index; got != 3 {
		t.Fatalf("index %d in a new epoch, want 3", got)
	}
}

func TestResetKeepsEqualEntries(t *testing.T) {
	v := New(render)
	v.Reset(SourceLKG, "e1", 4, []*conf.Record{rec("a", "e1", 1), rec("b", "e1", 2), rec("c", "e1", 5)})
	a, _ := v.Get("a")
	b, _ := v.Get("b")
	c, _ := v.Get("c")
	// The replica has a as it is, b newer, c older, d as well.
	v.Reset(SourceReplica, "e1", 4, []*conf.Record{rec("a", "e1", 1), rec("b", "e1", 3), rec("c", "e1", 4), rec("d", "e1", 1)})
	if now, _ := v.Get("a"); now != a || isClosed(a.Changed()) {
		t.Fatal("an equal record made a new entry")
	}
	if version(t, v, "b") != 3 || !isClosed(b.Changed()) {
		t.Fatal("b did not change")
	}
	if version(t, v, "c") != 5 || isClosed(c.Changed()) {
		t.Fatal("c went back")
	}
	if version(t, v, "d") != 1 || v.Load().Len() != 4 {
		t.Fatal("d did not appear")
	}
}

func TestResetToAnotherEpochReplacesEverything(t *testing.T) {
	v := New(render)
	v.Reset(SourceReplica, "e1", 40, []*conf.Record{rec("a", "e1", 9), rec("b", "e1", 9), rec("c", "e1", 9)})
	b, _ := v.Get("b")
	c, _ := v.Get("c")
	v.Reset(SourceReplica, "e2", 2, []*conf.Record{rec("c", "e2", 1)})
	if _, ok := v.Get("b"); ok || !isClosed(b.Changed()) || !isClosed(c.Changed()) {
		t.Fatal("a service of the old epoch is still there, or its waiters sleep")
	}
	var got []string
	v.Load().Range(func(e *Entry[doc]) bool { got = append(got, e.Record.Service); return true })
	if len(got) != 1 || got[0] != "c" || version(t, v, "c") != 1 || v.Load().Len() != 1 {
		t.Fatalf("services %v", got)
	}
}

func TestRangeIsSortedAndStops(t *testing.T) {
	v := New(render)
	var recs []*conf.Record
	for _, i := range rand.Perm(1000) {
		recs = append(recs, rec(fmt.Sprintf("s%04d", i), "e1", 1))
	}
	v.Advance(1, recs[:600])
	check := func(n int) {
		t.Helper()
		last, count := "", 0
		v.Load().Range(func(e *Entry[doc]) bool {
			if e.Record.Service <= last {
				t.Fatalf("%s after %s", e.Record.Service, last)
			}
			last = e.Record.Service
			count++
			return true
		})
		if count != n || v.Load().Len() != n {
			t.Fatalf("%d entries, Len %d, want %d", count, v.Load().Len(), n)
		}
	}
	check(600)
	v.Advance(2, recs[500:])
	check(1000)
	calls := 0
	v.Load().Range(func(*Entry[doc]) bool { calls++; return calls < 3 })
	if calls != 3 {
		t.Fatalf("Range went on after false: %d calls", calls)
	}
}

func TestSameServiceTwiceInOneBatch(t *testing.T) {
	v := New(render)
	v.Advance(1, []*conf.Record{rec("a", "e1", 1), rec("a", "e1", 2)})
	v.Advance(2, []*conf.Record{rec("a", "e1", 3), rec("a", "e1", 4)})
	e, _ := v.Get("a")
	if e.Record.Version != 4 || isClosed(e.Changed()) || v.Load().Len() != 1 {
		t.Fatalf("version %d, len %d", e.Record.Version, v.Load().Len())
	}
}

func TestMissing(t *testing.T) {
	v := New(render)
	v.Advance(1, []*conf.Record{rec("a", "e1", 1)})
	if !isClosed(v.Missing("a")) {
		t.Fatal("a is there: whoever waits for it must not sleep")
	}
	wait := v.Missing("b")
	v.Advance(2, []*conf.Record{rec("a", "e1", 2)})
	if isClosed(wait) {
		t.Fatal("a change of a value woke who waits for a new service")
	}
	v.Advance(3, []*conf.Record{rec("b", "e1", 1)})
	if !isClosed(wait) {
		t.Fatal("b appeared and nobody woke")
	}
}

// wait blocks until the newest snapshot is later than the log index after, or of
// another epoch, and returns it; or the newest one, with the error of ctx.
func wait(ctx context.Context, v *View[doc], after uint64) (*Snapshot[doc], error) {
	s := v.Load()
	epoch := s.Epoch
	for s.Index <= after && s.Epoch == epoch {
		select {
		case <-s.Changed():
			s = v.Load()
		case <-ctx.Done():
			return v.Load(), ctx.Err()
		}
	}
	return s, nil
}

func TestWait(t *testing.T) {
	v := New(render)
	v.Reset(SourceReplica, "e1", 3, nil)
	if s, err := wait(t.Context(), v, 2); err != nil || s.Index != 3 {
		t.Fatalf("index %d, %v", s.Index, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := wait(ctx, v, 3); !errors.Is(err, context.Canceled) || s.Index != 3 {
		t.Fatalf("index %d, %v", s.Index, err)
	}
	done := make(chan uint64)
	go func() {
		s, _ := wait(t.Context(), v, 1<<40)
		done <- s.Index
	}()
	// Whether the waiter sleeps already or not, a new epoch ends its wait: the
	// epoch is changed until it has been seen.
	for i := uint64(1); ; i++ {
		v.Reset(SourceReplica, fmt.Sprintf("n%d", i), 1, nil)
		select {
		case <-done:
			return
		default:
		}
	}
}

func TestGetDoesNotAllocate(t *testing.T) {
	v := filled(10_000)
	name := "service-4711"
	if n := testing.AllocsPerRun(1000, func() {
		if _, ok := v.Get(name); !ok {
			t.Fatal("missing")
		}
	}); n != 0 {
		t.Fatalf("Get allocates %v times", n)
	}
}

// TestConcurrentReadersAndWaiters runs readers, waiters for one service and
// waiters for any change beside a writer. Nobody may see a version fall or a
// document of another version, and everybody must end at the newest.
func TestConcurrentReadersAndWaiters(t *testing.T) {
	const services, rounds = 50, 2000
	v := New(render)
	final := map[string]uint64{}
	var stop atomic.Bool
	var wg sync.WaitGroup
	name := func(i int) string { return fmt.Sprintf("s%d", i) }
	check := func(seen map[string]uint64, e *Entry[doc]) {
		s := e.Record.Service
		if e.Record.Version < seen[s] {
			t.Errorf("%s went back from %d to %d", s, seen[s], e.Record.Version)
		}
		if !bytes.Equal(e.Doc.body, render(e.Record).body) {
			t.Errorf("%s: document %q at version %d", s, e.Doc.body, e.Record.Version)
		}
		seen[s] = e.Record.Version
	}
	for range 4 {
		wg.Go(func() {
			seen := map[string]uint64{}
			for !stop.Load() {
				if e, ok := v.Get(name(rand.IntN(services))); ok {
					check(seen, e)
				}
			}
		})
		wg.Go(func() {
			var last uint64
			seen := map[string]uint64{}
			for last < rounds {
				s, err := wait(t.Context(), v, last)
				if err != nil || s.Index <= last {
					t.Errorf("woke at %d after %d: %v", s.Index, last, err)
					return
				}
				last = s.Index
				s.Range(func(e *Entry[doc]) bool { check(seen, e); return true })
			}
		})
	}
	for i := range services {
		wg.Go(func() {
			seen := map[string]uint64{}
			for {
				e, ok := v.Get(name(i))
				if !ok {
					<-v.Missing(name(i))
					continue
				}
				check(seen, e)
				if e.Record.Version == rounds {
					return
				}
				<-e.Changed()
			}
		})
	}
	for i := uint64(1); i < rounds; i++ {
		s := name(rand.IntN(services))
		final[s] = i
		v.Advance(i, []*conf.Record{rec(s, "e1", i)})
		if i%100 == 0 {
			v.Reset(SourceReplica, "e1", i, []*conf.Record{rec(s, "e1", i), rec(name(0), "e1", 1)})
		}
	}
	last := make([]*conf.Record, services)
	for i := range last {
		last[i] = rec(name(i), "e1", rounds)
	}
	v.Advance(rounds, last)
	stop.Store(true)
	wg.Wait()
}

func filled(n int) *View[doc] {
	v := New(render)
	recs := make([]*conf.Record, n)
	for i := range recs {
		recs[i] = rec(fmt.Sprintf("service-%d", i), "e1", 1)
	}
	v.Reset(SourceReplica, "e1", 1, recs)
	return v
}

// TestAdvanceCostsWhatChanged compares bytes copied, which do not depend on how
// busy the machine is: a change among 10,000 services copies about what one among 10 does.
func TestAdvanceCostsWhatChanged(t *testing.T) {
	cost := func(n int) int64 {
		v := filled(n)
		r := testing.Benchmark(func(b *testing.B) { advance(b, v, n) })
		return r.AllocedBytesPerOp()
	}
	small, large := cost(10), cost(10_000)
	if float64(large) > 1.5*float64(small) {
		t.Fatalf("one change copies %d bytes among 10 services and %d among 10,000", small, large)
	}
}

func advance(b *testing.B, v *View[doc], n int) {
	b.ReportAllocs()
	index := v.Load().Index
	for i := uint64(1); b.Loop(); i++ {
		v.Advance(index+i, []*conf.Record{rec("service-"+fmt.Sprint(i%uint64(n)), "e1", index+i)})
	}
}

func BenchmarkAdvance(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { advance(b, filled(n), n) })
	}
}

func BenchmarkGet(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			v := filled(n)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					v.Get("service-7")
				}
			})
		})
	}
}

// A version that is signed again is shown, and wakes only those who wait for the
// snapshot.
func TestReissueWakesNobody(t *testing.T) {
	v := New(render)
	v.Reset(SourceReplica, "e1", 5, []*conf.Record{rec("a", "e1", 1), rec("b", "e1", 1)})
	again := func(at string) *conf.Record {
		r := rec("a", "e1", 1)
		r.IssuedAt, r.Signature, r.KeyID = at, "new", "other"
		return r
	}
	first, _ := v.Get("a")
	snap := v.Load()
	v.Advance(6, []*conf.Record{again("2026-01-02T03:04:06+00:00")})
	second, _ := v.Get("a")
	if isClosed(first.Changed()) || !isClosed(snap.Changed()) || second == first || second.Record.Signature != "new" {
		t.Fatalf("woken %t, %+v", isClosed(first.Changed()), second.Record)
	}
	// A change wakes those too who wait since before the signature, also when both
	// come at once.
	v.Advance(8, []*conf.Record{again("2026-01-02T03:04:07+00:00"), rec("a", "e1", 2)})
	third, _ := v.Get("a")
	if !isClosed(first.Changed()) || !isClosed(second.Changed()) || isClosed(third.Changed()) || third.Record.Version != 2 {
		t.Fatal("a change after a signature woke nobody")
	}
	v.Reset(SourceReplica, "e2", 9, []*conf.Record{rec("b", "e2", 1)})
	if !isClosed(third.Changed()) {
		t.Fatal("the end of the service woke nobody")
	}
}

// Since gives exactly the entries that differ, whatever came in between.
func TestSince(t *testing.T) {
	v := New(render)
	rng := rand.New(rand.NewPCG(3, 4))
	versions := map[string]uint64{}
	kept := []*Snapshot[doc]{v.Load()}
	for i := range 60 {
		var recs []*conf.Record
		for range rng.IntN(4) {
			name := fmt.Sprintf("service-%d", rng.IntN(20*(1+i/6)))
			versions[name]++
			recs = append(recs, rec(name, "e1", versions[name]))
		}
		if i == 40 { // an epoch that drops most of it
			clear(versions)
			versions["service-1"] = 1
			v.Reset(SourceReplica, "e2", uint64(i), []*conf.Record{rec("service-1", "e2", 1)})
		} else if i < 40 {
			v.Advance(uint64(i), recs)
		}
		kept = append(kept, v.Load())
	}
	other := New(render)
	other.Advance(1, []*conf.Record{rec("service-1", "e1", 1)})
	kept = append(kept, nil, other.Load())
	for _, old := range kept {
		for _, now := range kept[:len(kept)-2] {
			want, got := map[string]*Entry[doc]{}, map[string]*Entry[doc]{}
			now.Range(func(e *Entry[doc]) bool {
				if old != nil {
					if was, ok := old.Get(e.Record.Service); ok && was == e {
						return true
					}
				}
				want[e.Record.Service] = e
				return true
			})
			now.Since(old, func(e *Entry[doc]) bool {
				if got[e.Record.Service] != nil {
					t.Fatalf("%s came twice", e.Record.Service)
				}
				got[e.Record.Service] = e
				return true
			})
			if !maps.Equal(want, got) {
				t.Fatalf("%d entries, want %d", len(got), len(want))
			}
		}
	}
	n := 0
	kept[30].Since(nil, func(*Entry[doc]) bool { n++; return n < 3 })
	if n != 3 {
		t.Fatalf("went on after false: %d", n)
	}
}

func BenchmarkSince(b *testing.B) {
	for _, n := range []int{10, 10000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			v := New(render)
			var recs []*conf.Record
			for i := range n {
				recs = append(recs, rec(fmt.Sprintf("service-%d", i), "e1", 1))
			}
			v.Reset(SourceReplica, "e1", 1, recs)
			old := v.Load()
			v.Advance(2, []*conf.Record{rec("service-7", "e1", 2)})
			now := v.Load()
			for b.Loop() {
				found := 0
				now.Since(old, func(*Entry[doc]) bool { found++; return true })
				if found != 1 {
					b.Fatal(found)
				}
			}
		})
	}
}

// A secret that is sealed again makes no version; readers get it all the same.
func TestResealedIsNews(t *testing.T) {
	v := New(render)
	a := rec("a", "e", 1)
	a.Secrets = []conf.SealedSecret{{Key: "k", Value: "old", KeyID: "m1"}}
	v.Advance(1, []*conf.Record{a})
	e, _ := v.Get("a")
	same := *a
	same.Secrets = []conf.SealedSecret{{Key: "k", Value: "old", KeyID: "m1"}}
	v.Advance(2, []*conf.Record{&same})
	if again, _ := v.Get("a"); again != e {
		t.Error("an equal record replaced the entry")
	}
	b := *a
	b.Secrets = []conf.SealedSecret{{Key: "k", Value: "new", KeyID: "m2"}}
	v.Advance(3, []*conf.Record{&b})
	if again, _ := v.Get("a"); again.Record.Secrets[0].Value != "new" {
		t.Error("the view keeps the old seal")
	}
}

// What is rendered again is another entry, and who waits for it wakes; nothing else does.
func TestRefresh(t *testing.T) {
	v := New(render)
	a, b := rec("a", "e", 1), rec("b", "e", 1)
	v.Reset(SourceReplica, "e", 7, []*conf.Record{a, b})
	was, _ := v.Get("a")
	other, _ := v.Get("b")
	snap := v.Load()
	v.Rerender(func(*conf.Record) bool { return false })
	if v.Load() != snap {
		t.Error("a snapshot without news")
	}
	v.Rerender(func(r *conf.Record) bool { return r == a })
	if now, _ := v.Get("a"); now == was || now.Record != a || !isClosed(was.Changed()) || isClosed(now.Changed()) {
		t.Error("a was not rendered anew")
	}
	if now, _ := v.Get("b"); now != other || isClosed(other.Changed()) {
		t.Error("b was rendered anew")
	}
	if now := v.Load(); now.Index != 7 || now.Epoch != "e" || now.Source != SourceReplica || now.Len() != 2 || !isClosed(snap.Changed()) {
		t.Errorf("the snapshot is %+v", now)
	}
}

// At a start all processors render, each record once.
func TestFirstResetRendersAtOnce(t *testing.T) {
	if runtime.GOMAXPROCS(0) < 2 {
		base.Missing(t, "this machine has one processor")
	}
	recs := make([]*conf.Record, 200)
	for i := range recs {
		recs[i] = rec(fmt.Sprintf("s%03d", i), "e", 1)
	}
	var calls atomic.Int64
	second := make(chan struct{})
	v := New(func(r *conf.Record) doc {
		switch calls.Add(1) {
		case 1:
			<-second // comes on another goroutine
		case 2:
			close(second)
		}
		return render(r)
	})
	v.Reset(SourceLKG, "e", 7, recs)
	for _, r := range recs {
		version(t, v, r.Service)
	}
	if n := calls.Load(); n != int64(len(recs)) {
		t.Errorf("%d records are rendered %d times", len(recs), n)
	}
	v.Reset(SourceReplica, "e", 8, recs)
	if n := calls.Load(); n != int64(len(recs)) {
		t.Errorf("what has not changed is rendered again: %d times", n)
	}
}
