package store

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestDiffering(t *testing.T) {
	for _, c := range []struct{ a, b, onlyA, onlyB string }{
		{`{}`, `{}`, `{}`, `{}`},
		{`{"a":1}`, `{"a":1}`, `{}`, `{}`},
		{`{"a":1,"b":2,"c":3}`, `{"a":1,"b":5,"c":3}`, `{"b":2}`, `{"b":5}`},
		{`{"a":1}`, `{"b":1}`, `{"a":1}`, `{"b":1}`},
		{`{}`, `{"a":{"x":[1,{"y":"}],"}]}}`, `{}`, `{"a":{"x":[1,{"y":"}],"}]}}`},
		{`{"a\"b":"c\\","d":[]}`, `{"a\"b":"c\\","d":[1]}`, `{"d":[]}`, `{"d":[1]}`},
		{`{"":true,"é":null}`, `{"":true,"é":0}`, `{"é":null}`, `{"é":0}`},
		// Not in canonical form: left as they are.
		{`{"b":1,"a":1}`, `{"a":1,"b":1}`, `{"b":1,"a":1}`, `{"a":1,"b":1}`},
		{`{"a":1,"a":2}`, `{"a":2}`, `{"a":1,"a":2}`, `{"a":2}`},
	} {
		onlyA, onlyB, _ := differing(json.RawMessage(c.a), json.RawMessage(c.b))
		if string(onlyA) != c.onlyA || string(onlyB) != c.onlyB {
			t.Errorf("%s and %s: %s and %s", c.a, c.b, onlyA, onlyB)
		}
	}
}

func FuzzMembers(f *testing.F) {
	f.Add([]byte(`{"a":{"b":[1,"}"]},"c":"\\"}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		ms, ok := members(doc)
		if !ok || !json.Valid(doc) {
			return // it must only not panic
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(doc, &want); err != nil {
			t.Fatal(err)
		}
		all := []byte{'{'}
		for _, m := range ms {
			all = m.appendTo(all)
		}
		if all = append(all, '}'); string(all) != string(doc) {
			t.Errorf("%s comes back as %s", doc, all)
		}
	})
}

// What memory knows of a service is what a reader of the file finds, and what
// applying entry by entry, with a savepoint for each, gives.
func TestHeadsAreWhatIsStored(t *testing.T) {
	d := newDriver(t, openNew(t))
	e := &driver{tb: t, s: openNew(t)}
	careful := func(entries []Entry) {
		b, err := e.s.applyBatch(context.Background(), entries, true)
		if err != nil {
			t.Fatal(err)
		}
		e.s.state.Store(&b.tx.st)
		e.s.mark(b.tx.marks) // and no heads
	}
	careful([]Entry{{Index: 1, Term: 1, Command: &command.Genesis{Epoch: testEpoch, At: "2026-01-02T03:04:05.001000+00:00", NodeID: "node-1", Reason: "test"}}})
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
			stored, err := d.s.Record(t.Context(), r.Service)
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
	same(t, "with heads and without", a["items"], b["items"])
	same(t, "with heads and without", a["history"], b["history"])
}

// A search knows all that was applied before it, over a restart too.
func TestItemsFollow(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	for i := range 3 * behindAtOnce {
		d.ok(d.edit(command.ActionPut, put(fmt.Sprintf("svc-%d", i), 0, `{"k":"first","other":1}`)))
	}
	find := func(s *Store, word string, want int) {
		t.Helper()
		page, err := s.Search(t.Context(), conf.SearchRequest{Query: word})
		if err != nil || page.Total != want {
			t.Errorf("%q: %d found, %v, want %d", word, page.Total, err, want)
		}
	}
	find(s, "first", 3*behindAtOnce)
	e := d.edit(command.ActionPut, put("svc-1", 1, `{"k":"second","other":1}`))
	d.ok(e)
	d.ok(d.edit(command.ActionDelete, tombstone("svc-2", 1)))
	sc := d.edit(command.ActionSchema)
	sc.Schemas = []command.Schema{schemaOf("svc-3", `{"k":{"d":"described"}}`)}
	d.ok(sc)
	if n := len(s.behind); n != 3 {
		t.Errorf("%d services are behind, want 3", n)
	}
	_ = s.Close()
	s = openAt(t, s.opts.Path)
	if len(s.behind) == 0 {
		t.Error("after a restart nothing is behind")
	}
	find(s, "second", 1)
	find(s, "first", 3*behindAtOnce-2)
	find(s, "described", 1)
	for _, it := range items(t, s) {
		if it.Service == "svc-1" && (it.Key == "k") != (it.UpdatedAt == e.At) {
			t.Errorf("%s is of %s, the edit was at %s", it.Key, it.UpdatedAt, e.At)
		}
	}
	if err := s.Merge(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	if s = openAt(t, s.opts.Path); len(s.behind) != 0 {
		t.Errorf("%d services are behind after all was done", len(s.behind))
	}
}

// Upkeep is for what changed: an idle store is left alone.
func TestTend(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	wal := func() int64 {
		st, err := os.Stat(s.walPath())
		if err != nil {
			t.Fatal(err)
		}
		return st.Size()
	}
	tend := func() {
		t.Helper()
		if err := s.Tend(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	d.ok(d.edit(command.ActionPut, put("a", 0, `{"k":1}`)))
	tend()
	if len(s.behind) > 0 {
		t.Error("the items of a change are behind")
	}
	s.tended.since = time.Now().Add(-tendEvery) // a while later
	tend()
	if st := s.state.Load(); s.tended.index != st.index || s.tended.items != st.items {
		t.Errorf("after a while: %+v", s.tended)
	}
	before := wal()
	for range 3 {
		tend()
	}
	if after := wal(); after != before {
		t.Errorf("the WAL of an idle store went from %d to %d bytes", before, after)
	}
	d.ok(d.edit(command.ActionPut, put("a", 1, `{"k":2}`)))
	s.written.Store(tendOver)
	tend()
	if s.tended.index != d.index {
		t.Error("much was written, and no checkpoint made")
	}
}
