package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/apply"
)

func TestRestartKeepsEverything(t *testing.T) {
	s, _ := filled(t, 200)
	if err := s.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := content(t, s)
	path := s.file.path
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	same(t, "after a restart", want, content(t, openAt(t, path)))
}

// Nodes group the log into batches as it comes: the rows must not tell how.
func TestBatchesDoNotMatter(t *testing.T) {
	a, b := openNew(t), openNew(t)
	da, db := newDriver(t, a), newDriver(t, b)
	cmds := story(da, 200)
	var one, all []command.Result
	for _, c := range cmds {
		r, _ := da.apply(c)
		one = append(one, r...)
	}
	for chunk := range slices.Chunk(cmds, 17) {
		r, _ := db.apply(chunk...)
		all = append(all, r...)
	}
	same(t, "results", one, all)
	same(t, "content", content(t, a), content(t, b))
	if v, _ := a.SchemaVersion(); v < 5 {
		t.Errorf("only %d schema versions: the story proves too little", v)
	}
}

// What is kept step by step must be what is derived from nothing.
func TestItemsFollowAsIfDerived(t *testing.T) {
	s, d := filled(t, 150)
	for i, c := range story(d, 40) {
		d.apply(c)
		if i%4 != 0 {
			continue
		}
		want, digest := items(t, s), s.state.Load().Items
		if err := s.rederive(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := items(t, s)
		for i := range want {
			want[i].ID = nil
		}
		for i := range got {
			got[i].ID = nil
		}
		same(t, "items", want, got)
		if s.state.Load().Items != digest {
			t.Fatal("the digest of the items differs")
		}
	}
}

func TestEdit(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	res, recs := d.ok(d.edit(command.ActionPut, put("stt-worker", 0, `{"a":1,"b":"x <&> y"}`)))
	same(t, "result", command.Result{Index: 2, Versions: map[string]uint64{"stt-worker": 1}}, res)
	if len(recs) != 1 {
		t.Fatalf("%d records", len(recs))
	}
	stored, err := s.Queries.Record(t.Context(), "stt-worker")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "stored record", recs[0], stored)
	u := put("stt-worker", 0, `{"a":1,"b":"x <&> y"}`)
	same(t, "record", &conf.Record{
		Service: "stt-worker", Version: 1, Epoch: testEpoch, Values: u.Values, Config: u.Config, Checksum: u.Checksum,
		IssuedAt: u.IssuedAt, Signature: u.Signature, KeyID: u.KeyID, UpdatedAt: stored.UpdatedAt, UpdatedBy: "ann", Index: 2,
	}, stored)

	var text string
	if err := s.w.QueryRowContext(t.Context(), "SELECT config_json FROM service_configs").Scan(&text); err != nil {
		t.Fatal(err)
	}
	var sc conf.ServiceConfig
	if err := conf.DecodeStrict([]byte(text), 1<<20, &sc); err != nil {
		t.Fatal(err)
	}
	same(t, "config_json", conf.ServiceConfig{Service: "stt-worker", Config: u.Config, Version: 1, UpdatedAt: stored.UpdatedAt, Epoch: testEpoch}, sc)
}

func TestEditChangesOnlyWhatChanged(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	d.ok(d.edit(command.ActionPut, put("a", 0, `{"same":1,"change":1,"gone":true}`)))
	before := items(t, s)
	e := d.edit(command.ActionPatch, put("a", 1, `{"change":2,"new":"n","same":1}`))
	e.By, e.Reason = "bob", "a try"
	d.ok(e)
	after := items(t, s)
	byName := func(items []conf.Item) map[string]conf.Item {
		m := map[string]conf.Item{}
		for _, i := range items {
			m[i.Key] = i
		}
		return m
	}
	was, is := byName(before), byName(after)
	same(t, "the row of the same key", was["same"], is["same"])
	if got := is["change"]; *got.ID != *was["change"].ID || got.UpdatedAt != e.At || *got.UpdatedBy != "bob" || got.ValueJSON != "2" {
		t.Errorf("the row of the changed key: %+v", got)
	}
	if _, ok := is["gone"]; ok || len(is) != 3 {
		t.Errorf("items: %v", is)
	}
	rows := history(t, s, conf.HistoryFilter{Version: 2})
	for i := range rows {
		rows[i].ID = 0
	}
	entry := func(key string, was, is string) conf.HistoryEntry {
		h := conf.HistoryEntry{Service: "a", Key: key, NewValue: json.RawMessage(is), Version: 2, Action: "patch", ChangedAt: e.At, ChangedBy: "bob", ChangeReason: "a try"}
		if was != "" {
			h.OldValue = json.RawMessage(was)
		}
		return h
	}
	same(t, "history", []conf.HistoryEntry{entry("new", "", `"n"`), entry("gone", "true", "null"), entry("change", "1", "2")}, rows)
}

func TestTombstone(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	d.ok(d.edit(command.ActionPut, put("a", 0, `{"k":1}`)))
	_, recs := d.ok(d.edit(command.ActionDelete, tombstone("a", 1)))
	if r := recs[0]; !r.Deleted || r.Version != 2 || string(r.Config) != "{}" || r.Exists() {
		t.Errorf("tombstone: %+v", r)
	}
	if got := items(t, s); len(got) != 0 {
		t.Errorf("items are left: %v", got)
	}
	if h := history(t, s, conf.HistoryFilter{}); len(h) != 2 || string(h[0].NewValue) != "null" || h[0].Action != "delete" {
		t.Errorf("history: %+v", h)
	}
	// The version continues, so that older signed bytes cannot be replayed.
	res, _ := d.apply(d.edit(command.ActionPut, put("a", 0, `{"k":2}`)))
	if res[0].Err == nil || res[0].Err.Current != 2 {
		t.Errorf("version 1 again: %+v", res[0])
	}
	_, recs = d.ok(d.edit(command.ActionPut, put("a", 2, `{"k":2}`)))
	if r := recs[0]; r.Deleted || r.Version != 3 {
		t.Errorf("after the tombstone: %+v", r)
	}
	if _, err := s.Queries.VersionValues(t.Context(), "a", 2); conf.CodeOf(err) != conf.CodeNotFound {
		t.Errorf("values of the tombstone: %v", err)
	}
}

func TestRefusalsChangeNothing(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	d.ok(d.edit(command.ActionPut, put("a", 0, `{"k":1}`), put("b", 0, `{"k":1}`)))
	bad := schemaOf("c", `{"k":{"t":"bad"}}`)
	cases := map[string]struct {
		code    conf.Code
		current uint64
		edit    func(e *command.Edit)
	}{
		"conflict":      {conf.CodeConflict, 1, func(e *command.Edit) { e.Updates = append(e.Updates, put("b", 5, `{}`)) }},
		"new but there": {conf.CodeConflict, 1, func(e *command.Edit) { e.Updates = append(e.Updates, put("b", 0, `{}`)) }},
		"gone":          {conf.CodeConflict, 0, func(e *command.Edit) { e.Updates = append(e.Updates, put("z", 1, `{}`)) }},
		"other epoch":   {conf.CodeConflict, 0, func(e *command.Edit) { e.Epoch = "another" }},
		"version jump":  {conf.CodeInvalid, 0, func(e *command.Edit) { e.Updates[0].Version = 9 }},
		"twice":         {conf.CodeInvalid, 0, func(e *command.Edit) { e.Updates = append(e.Updates, put("a", 2, `{}`)) }},
		"no document":   {conf.CodeInvalid, 0, func(e *command.Edit) { e.Updates[0].Config = nil }},
		"schema twice":  {conf.CodeInvalid, 0, func(e *command.Edit) { e.Schemas = append(e.Schemas, schemaOf("n", `{"x":{}}`)) }},
		"cannot project": {conf.CodeInvalid, 0, func(e *command.Edit) {
			e.Schemas = append(e.Schemas, bad)
			e.Updates = append(e.Updates, put("c", 0, `{"k":1}`))
		}},
		"schema on value": {conf.CodeInvalid, 0, func(e *command.Edit) { e.Schemas = append(e.Schemas, schemaOf("b", `{"k":{"t":"bad"}}`)) }},
	}
	want := content(t, s)
	delete(want, "applied")
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			e := d.edit(command.ActionPut, put("a", 1, `{"k":2}`))
			e.ID = "the-id"
			e.Schemas = []command.Schema{schemaOf("n", `{}`)}
			e.Profiles = []command.Profile{{Name: "p"}}
			e.Audit = []conf.Access{{Action: "write", Timestamp: e.At}}
			c.edit(e)
			res, recs := d.apply(e)
			r := res[0]
			if r.Err == nil || r.Err.Code != c.code || r.Err.Current != c.current || r.Versions != nil || len(recs) != 0 {
				t.Fatalf("result %+v (%v), records %v, want %s with %d", r, r.Err, recs, c.code, c.current)
			}
			got := content(t, s)
			delete(got, "applied")
			same(t, "content", want, got)
			if index, _ := s.Applied(); index != d.index {
				t.Errorf("applied %d, want %d: a rejection is applied too", index, d.index)
			}
		})
	}
	// In a batch of other entries a rejection has no effect.
	res, recs := d.apply(d.edit(command.ActionPut, put("a", 1, `{"k":3}`)), d.edit(command.ActionPut, put("a", 1, `{"k":4}`)), d.edit(command.ActionPut, put("b", 1, `{"k":5}`)))
	if res[0].Err != nil || res[1].Err == nil || res[1].Err.Current != 2 || res[2].Err != nil {
		t.Errorf("results %+v", res)
	}
	if len(recs) != 2 || string(recs[0].Config) != `{"k":3}` {
		t.Errorf("records %+v", recs)
	}
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSameRequestTwice(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	e := d.edit(command.ActionPut, put("a", 0, `{"k":1}`))
	e.ID = "req"
	first, _ := d.ok(e)
	want := content(t, s)
	delete(want, "applied")
	again, recs := d.apply(e)
	first.Duplicate = true
	same(t, "result", first, again[0])
	if len(recs) != 0 {
		t.Errorf("records: %v", recs)
	}
	got := content(t, s)
	delete(got, "applied")
	same(t, "content", want, got)

	// In one batch, and after a rejection, which is not stored.
	e2 := d.edit(command.ActionPut, put("b", 4, `{"k":1}`))
	e2.ID = "req-2"
	ok := d.edit(command.ActionPut, put("b", 0, `{"k":1}`))
	ok.ID = "req-2"
	res, _ := d.apply(e2, ok, ok)
	if res[0].Err == nil || res[1].Err != nil || res[1].Duplicate || !res[2].Duplicate || res[2].Index != res[1].Index {
		t.Errorf("results %+v", res)
	}
}

func TestAppliedIndexIsSkipped(t *testing.T) {
	s, d := filled(t, 10)
	want := content(t, s)
	index, _ := s.Applied()
	e := d.edit(command.ActionPut, put("brand-new", 0, `{}`))
	for _, i := range []uint64{0, 1, index} {
		res, recs, err := s.Apply(t.Context(), []apply.Entry{{Index: i, Term: 9, Command: e}})
		if err != nil || !res[0].Duplicate || res[0].Index != i || len(recs) != 0 {
			t.Errorf("index %d: %+v, %v, %v", i, res, recs, err)
		}
	}
	same(t, "content", want, content(t, s))
	// Indexes have gaps, and entries without a command only move the position.
	res, _, err := s.Apply(t.Context(), []apply.Entry{{Index: index + 5, Term: 3}, {Index: index + 9, Term: 4, Command: e}})
	if err != nil || len(res) != 2 || res[1].Versions["brand-new"] != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	if i, term := s.Applied(); i != index+9 || term != 4 {
		t.Errorf("applied %d/%d", i, term)
	}
	if res, recs, err := s.Apply(t.Context(), nil); err != nil || len(res) != 0 || len(recs) != 0 {
		t.Errorf("an empty batch: %v, %v, %v", res, recs, err)
	}
}

func TestGenesis(t *testing.T) {
	s := openNew(t)
	d := &driver{tb: t, s: s}
	res, _ := d.apply(d.edit(command.ActionPut, put("a", 0, `{}`)))
	if res[0].Err == nil {
		t.Error("an edit before the genesis")
	}
	res, _ = d.apply(&command.Genesis{At: "t"}, &command.Genesis{Epoch: "one", At: "2026-01-01T00:00:00+00:00"}, &command.Genesis{Epoch: "two", At: "2026-01-02T00:00:00+00:00", SchemaVersion: 7})
	if res[0].Err == nil || res[1].Err != nil || res[2].Err != nil {
		t.Errorf("results %+v", res)
	}
	if e, at := s.Genesis(); e != "two" || at != "2026-01-02T00:00:00+00:00" || s.Epoch() != "two" {
		t.Errorf("epoch %s of %s", e, at)
	}
	if v, h := s.SchemaVersion(); v != 1 || h != testModelHash(maps.All(map[string][]byte{})) {
		t.Errorf("schema version %d %s", v, h)
	}
	d.ok(d.edit(command.ActionPut, put("a", 0, `{}`)))
	want := content(t, s)
	delete(want, "applied")
	res, _ = d.apply(&command.Genesis{Epoch: "two", At: "later"}, &command.Genesis{Epoch: "three", At: "later"})
	if res[0].Err != nil || res[1].Err == nil || res[1].Err.Code != conf.CodeConflict {
		t.Errorf("results %+v", res)
	}
	got := content(t, s)
	delete(got, "applied")
	same(t, "content", want, got)

	s = openNew(t)
	d = &driver{tb: t, s: s}
	d.ok(&command.Genesis{Epoch: "rebuilt", At: "t", SchemaVersion: 7})
	if v, _ := s.SchemaVersion(); v != 7 {
		t.Errorf("schema version %d, want 7", v)
	}
}

func TestSchemas(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	e := d.edit(command.ActionSchema)
	e.Schemas = []command.Schema{schemaOf("a", `{"k":{"d":"The old text","c":"advanced"}}`)}
	_, recs := d.ok(e)
	if r := recs[0]; r.Service != "a" || r.Version != 0 || r.Config != nil || r.Exists() || string(r.Schema) != `{"k":{"d":"The old text","c":"advanced"}}` {
		t.Errorf("a service without a document: %+v", r)
	}
	same(t, "Records", map[string]*conf.Record{"a": recs[0]}, records(t, s))
	v1, h1 := s.SchemaVersion()
	if v1 != 2 {
		t.Errorf("schema version %d, want 2", v1)
	}
	same1 := d.edit(command.ActionSchema)
	same1.Schemas = e.Schemas
	if _, recs := d.ok(same1); len(recs) != 0 {
		t.Error("the same schema again must change nothing")
	}
	if v, h := s.SchemaVersion(); v != v1 || h != h1 {
		t.Errorf("schema version %d %s after the same schema", v, h)
	}

	both := d.edit(command.ActionPut, put("a", 0, `{"k":1,"o":{"x":1}}`))
	both.Schemas = []command.Schema{schemaOf("a", `{"k":{"d":"The new text"},"o":{}}`)}
	_, recs = d.ok(both)
	if len(recs) != 1 || recs[0].Version != 1 || string(recs[0].Schema) != string(both.Schemas[0].Schema) {
		t.Errorf("records %+v", recs)
	}
	before := items(t, s)
	if len(before) != 2 || before[0].Description != "The new text" || before[1].Key != "o" {
		t.Fatalf("items %+v", before)
	}

	// A schema alone describes the items again, and changes neither version nor history.
	e = d.edit(command.ActionSchema)
	e.By = "carl"
	e.Schemas = []command.Schema{schemaOf("a", `{"k":{"d":"The newest text","h":"Help"}}`)}
	_, recs = d.ok(e)
	if len(recs) != 1 || recs[0].Version != 1 {
		t.Errorf("records %+v", recs)
	}
	after := items(t, s)
	if len(after) != 2 || after[0].Description != "The newest text" || after[0].UpdatedAt != before[0].UpdatedAt || *after[0].UpdatedBy != "ann" || after[1].Key != "o.x" {
		t.Errorf("items %+v", after)
	}
	if h := history(t, s, conf.HistoryFilter{}); len(h) != 2 {
		t.Errorf("history %+v", h)
	}
	infos, err := s.Queries.Schemas(t.Context())
	if err != nil || len(infos) != 1 || infos[0].UpdatedBy != "carl" || infos[0].Service != "a" {
		t.Errorf("schemas %+v, %v", infos, err)
	}
}

func TestSecretsAreNeverItems(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	e := d.edit(command.ActionPut, put("a", 0, `{"k":1,"token":"hunter2"}`))
	e.Schemas = []command.Schema{schemaOf("a", `{"k":{},"token":{"s":true}}`)}
	d.ok(e)
	if got := items(t, s); len(got) != 1 || got[0].Key != "k" {
		t.Errorf("items %+v", got)
	}
	if h := history(t, s, conf.HistoryFilter{}); len(h) != 1 || h[0].Key != "k" {
		t.Errorf("history %+v", h)
	}
}

func TestProfiles(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	doc := `{"b":"<&>` + "\u2028" + `","a":1}`
	e := d.edit(command.ActionProfileSave)
	e.Profiles = []command.Profile{{Name: "night", Description: "quiet", Services: map[string]json.RawMessage{"x": json.RawMessage(doc), "a": json.RawMessage(`{}`)}}, {Name: "day"}}
	d.ok(e)
	p, err := s.Queries.Profile(t.Context(), "night")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "profile", conf.Profile{Name: "night", Description: "quiet", Services: e.Profiles[0].Services, UpdatedAt: e.At, UpdatedBy: "ann"}, p)
	list, err := s.Queries.Profiles(t.Context())
	if err != nil || len(list) != 2 || list[0].Name != "day" {
		t.Errorf("profiles %+v, %v", list, err)
	}
	e = d.edit(command.ActionProfileDelete)
	e.ProfileDeletes = []string{"night", "never-there"}
	d.ok(e)
	if _, err := s.Queries.Profile(t.Context(), "night"); conf.CodeOf(err) != conf.CodeNotFound || conf.HintOf(err) == "" {
		t.Errorf("after the delete: %v", err)
	}
}

func TestVersionsAreKeptAndForgotten(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	var cmds []command.Command
	for v := range uint64(apply.KeepVersions + 5) {
		cmds = append(cmds, d.edit(command.ActionPut, put("a", v, fmt.Sprintf(`{"k":%d}`, v))))
	}
	for chunk := range slices.Chunk(cmds, 100) {
		d.apply(chunk...)
	}
	if _, err := s.Queries.VersionValues(t.Context(), "a", 5); conf.CodeOf(err) != conf.CodeNotFound || conf.HintOf(err) != "the versions 6 to 1005 are kept" {
		t.Errorf("a forgotten version: %v, hint %q", err, conf.HintOf(err))
	}
	v, err := s.Queries.VersionValues(t.Context(), "a", 6)
	if err != nil || string(v) != `{"k":5}` {
		t.Errorf("version 6: %s, %v", v, err)
	}
	list, err := s.Queries.Versions(t.Context(), "a", 3)
	if err != nil || len(list) != 3 || list[0].Version != 1005 || list[2].Version != 1003 || list[0].Checksum == "" || list[0].Epoch != testEpoch {
		t.Errorf("versions %+v, %v", list, err)
	}
	if _, err := s.Queries.VersionValues(t.Context(), "nobody", 1); conf.CodeOf(err) != conf.CodeNotFound {
		t.Errorf("a service that never was: %v", err)
	}
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRequestsAreForgotten(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	var cmds []command.Command
	for i := range apply.KeepRequests + 3 {
		e := d.edit(command.ActionProfileDelete)
		e.ID = fmt.Sprint("req-", i)
		cmds = append(cmds, e)
	}
	for chunk := range slices.Chunk(cmds, 1000) {
		d.apply(chunk...)
	}
	var n int
	var oldest string
	if err := s.w.QueryRowContext(t.Context(), "SELECT count(*), min(idx) || '' FROM requests").Scan(&n, &oldest); err != nil {
		t.Fatal(err)
	}
	if n != apply.KeepRequests || oldest != "5" {
		t.Errorf("%d requests from index %s", n, oldest)
	}
	res, _ := d.apply(cmds[0], cmds[len(cmds)-1])
	if res[0].Duplicate || !res[1].Duplicate {
		t.Errorf("results %+v", res)
	}
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRecordNotFound(t *testing.T) {
	s := openNew(t)
	if _, err := s.Queries.Record(t.Context(), "nobody"); !errors.Is(err, conf.ErrNotFound) || conf.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
	stop := errors.New("stop")
	d := newDriver(t, s)
	d.ok(d.edit(command.ActionPut, put("a", 0, `{}`), put("b", 0, `{}`)))
	n := 0
	if err := s.Queries.Records(t.Context(), func(*conf.Record) error { n++; return stop }); err != stop || n != 1 { //nolint:errorlint // must be it
		t.Errorf("%d calls, %v", n, err)
	}
}

// A row that changes under a running store must show, not be built upon.
func TestApplyStopsAtDamage(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	d.ok(d.edit(command.ActionPut, put("a", 0, `{"k":1}`)))
	if err := s.w.Exec(t.Context(), "UPDATE service_configs SET updated_by = 'mallory'"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Queries.Record(t.Context(), "a"); conf.CodeOf(err) != conf.CodeCorrupt {
		t.Errorf("Record: %v", err)
	}
	if err := s.Queries.Records(t.Context(), func(*conf.Record) error { return nil }); conf.CodeOf(err) != conf.CodeCorrupt {
		t.Errorf("Records: %v", err)
	}
	clear(s.applier.Cache) // what it has is not read
	for range 2 {
		_, _, err := s.Apply(t.Context(), []apply.Entry{{Index: 100, Term: 1, Command: d.edit(command.ActionPut, put("a", 1, `{"k":2}`))}})
		if conf.CodeOf(err) != conf.CodeCorrupt || conf.HintOf(err) == "" {
			t.Errorf("Apply: %v", err)
		}
	}
	if _, _, err := s.Apply(t.Context(), []apply.Entry{{Index: 101, Term: 1}}); conf.CodeOf(err) != conf.CodeCorrupt {
		t.Errorf("Apply after the fault: %v", err)
	}
	if index, _ := s.Applied(); index != 2 {
		t.Errorf("applied %d", index)
	}
}

func TestSignedEpochs(t *testing.T) {
	d := &driver{tb: t, s: openNew(t)}
	one := &conf.EpochChange{Previous: "zero", Epoch: "one", At: "2026-01-01T00:00:00+00:00", Signature: "s1", KeyID: "k"}
	two := &conf.EpochChange{Previous: "one", Epoch: "two", At: "2026-01-02T00:00:00+00:00", Signature: "s2", KeyID: "k"}
	d.ok(&command.Genesis{Epoch: "one", At: one.At, Signed: one})
	d.ok(&command.Genesis{Epoch: "two", At: two.At, Keep: true, Signed: two})
	res, _ := d.apply(&command.Genesis{Epoch: "one", At: two.At, Keep: true, Signed: one})
	if conf.CodeOf(res[0].Err) != conf.CodeConflict || d.s.Epoch() != "two" {
		t.Errorf("an epoch comes back: %v, epoch %s", res[0].Err, d.s.Epoch())
	}
	got, err := d.s.Queries.Epochs(t.Context())
	if err != nil || !slices.Equal(got, []conf.EpochChange{*one, *two}) {
		t.Errorf("%+v, %v", got, err)
	}
}
