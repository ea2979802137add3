package store

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/apply"
	"github.com/holdfast-config/holdfast/replication/store/search"
)

// The record cache has what a reader of the file finds, and what applying entry by
// entry, with a savepoint for each, results in.
func TestRecordCacheIsWhatIsStored(t *testing.T) {
	d := newDriver(t, openNew(t))
	e := &driver{tb: t, s: openNew(t)}
	e.s.applier.Cache, e.s.applier.WithSavepoints = nil, true
	careful := func(entries []apply.Entry) {
		if _, _, err := e.s.Apply(context.Background(), entries); err != nil {
			t.Fatal(err)
		}
	}
	careful([]apply.Entry{{Index: 1, Term: 1, Command: &command.Genesis{Epoch: testEpoch, At: "2026-01-02T03:04:05.001000+00:00", NodeID: "node-1", Reason: "test"}}})
	for i, c := range story(d, 300) {
		entries := d.entries(c)
		res, recs, err := d.s.Apply(t.Context(), entries)
		if err != nil {
			t.Fatal(err)
		}
		careful(entries)
		if d.s.Digest() != e.s.Digest() {
			t.Fatalf("entry %d: digests differ", i)
		}
		for _, r := range recs {
			stored, err := d.s.Queries.Record(t.Context(), r.Service)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(stored, r); diff != "" {
				t.Fatalf("entry %d, %v (-stored +given):\n%s", i, res, diff)
			}
		}
	}
	if err := d.s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	a, b := content(t, d.s), content(t, e.s)
	same(t, "with the cache and without", a["items"], b["items"])
	same(t, "with the cache and without", a["history"], b["history"])
}

// A search knows all that was applied before it, over a restart too.
func TestItemsFollow(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	for i := range 3 * search.RefreshAtOnce {
		d.ok(d.edit(command.ActionPut, put(fmt.Sprintf("svc-%d", i), 0, `{"k":"first","other":1}`)))
	}
	find := func(s *Store, word string, want int) {
		t.Helper()
		page, err := s.Search(t.Context(), conf.SearchRequest{Query: word})
		if err != nil || page.Total != want {
			t.Errorf("%q: %d found, %v, want %d", word, page.Total, err, want)
		}
	}
	find(s, "first", 3*search.RefreshAtOnce)
	e := d.edit(command.ActionPut, put("svc-1", 1, `{"k":"second","other":1}`))
	d.ok(e)
	d.ok(d.edit(command.ActionDelete, tombstone("svc-2", 1)))
	sc := d.edit(command.ActionSchema)
	sc.Schemas = []command.Schema{schemaOf("svc-3", `{"k":{"d":"described"}}`)}
	d.ok(sc)
	if n := s.index.Stale(); n != 3 {
		t.Errorf("%d services are stale, want 3", n)
	}
	_ = s.Close()
	s = openAt(t, s.file.path)
	if s.index.Stale() == 0 {
		t.Error("after a restart nothing is stale")
	}
	find(s, "second", 1)
	find(s, "first", 3*search.RefreshAtOnce-2)
	find(s, "described", 1)
	for _, it := range items(t, s) {
		if it.Service == "svc-1" && (it.Key == "k") != (it.UpdatedAt == e.At) {
			t.Errorf("%s is of %s, the edit was at %s", it.Key, it.UpdatedAt, e.At)
		}
	}
	if err := s.mergeSearchIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	if s = openAt(t, s.file.path); s.index.Stale() != 0 {
		t.Errorf("%d services are stale after all was done", s.index.Stale())
	}
}

// Upkeep is for what changed: an idle store is left alone.
func TestTend(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	wal := func() int64 {
		st, err := os.Stat(s.file.walPath())
		if err != nil {
			t.Fatal(err)
		}
		return st.Size()
	}
	tend := func() {
		t.Helper()
		if err := s.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	d.ok(d.edit(command.ActionPut, put("a", 0, `{"k":1}`)))
	tend()
	if s.index.Stale() > 0 {
		t.Error("the items of a change are stale")
	}
	s.maintenance.done.since = time.Now().Add(-maintainEvery) // a while later
	tend()
	if st := s.state.Load(); s.maintenance.done.index != st.Index || s.maintenance.done.items != st.Items {
		t.Errorf("after a while: %+v", s.maintenance.done)
	}
	before := wal()
	for range 3 {
		tend()
	}
	if after := wal(); after != before {
		t.Errorf("the WAL of an idle store went from %d to %d bytes", before, after)
	}
	d.ok(d.edit(command.ActionPut, put("a", 1, `{"k":2}`)))
	s.maintenance.written.Store(maintainOver)
	tend()
	if s.maintenance.done.index != d.index {
		t.Error("much was written, and no checkpoint made")
	}
}
