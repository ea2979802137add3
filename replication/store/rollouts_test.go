package store

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func (d *driver) record(service string) *conf.Record {
	d.tb.Helper()
	rec, err := d.s.Queries.Record(d.tb.Context(), service)
	if err != nil {
		d.tb.Fatal(err)
	}
	return rec
}

func signedVersion(version uint64, doc string) conf.SignedVersion {
	u := put("a", version-1, doc)
	return conf.SignedVersion{
		Version: version, Values: u.Values, Config: u.Config, Checksum: u.Checksum, IssuedAt: u.IssuedAt,
		Signature: fmt.Sprintf("c2ln%d", version), KeyID: u.KeyID, VersionSignature: fmt.Sprintf("dmVy%d", version),
	}
}

// start is a rollout of doc on top of rec, in three steps.
func (d *driver) start(rec *conf.Record, doc string) *command.Rollout {
	v := rec.Floor() + 1
	return &command.Rollout{
		Epoch: d.s.Epoch(), At: d.now(), By: "ann", Reason: "faster", Action: command.RolloutStart,
		Service: rec.Service, Rollout: fmt.Sprintf("%s-%d-0a1b2c", rec.Service, v), Candidate: v, Target: &conf.Target{Instances: []string{"one"}},
		Begin: &command.RolloutBegin{
			Prev: rec.Version, Candidate: signedVersion(v, doc), Revert: signedVersion(v+1, string(rec.Values)), Salt: "salt",
			Plan: conf.RolloutPlan{Steps: []conf.RolloutStep{{Count: 1}, {Percent: 50}, {Percent: 100}}, Deadline: "1m0s", Require: "auto", OnLost: "pause"},
		},
		Audit: []conf.Access{{UserID: "ann", Action: "write", Service: rec.Service, Success: true, Timestamp: d.now()}},
	}
}

// move is an action on the rollout that s started.
func (d *driver) move(s *command.Rollout, action string, step int) *command.Rollout {
	c := &command.Rollout{Epoch: s.Epoch, At: d.now(), By: "bob", Action: action, Service: s.Service, Rollout: s.Rollout, Candidate: s.Candidate, Step: step}
	if action == conf.RolloutAdvance {
		c.Target = &conf.Target{Below: uint64(step) + 1}
	}
	return c
}

// putOn is an edit of the next version of rec.
func (d *driver) putOn(rec *conf.Record, doc string) *command.Edit {
	u := put(rec.Service, rec.Version, doc)
	u.Version = rec.Floor() + 1
	return d.edit(command.ActionPut, u)
}

func replacing(e *command.Edit) *command.Edit { e.Replace = true; return e }

// A rollout from its start to its promotion: what the record has, what the history says, and
// that the versions are stored as they were signed.
func TestRolloutIsPromoted(t *testing.T) {
	d := newDriver(t, openNew(t))
	e := d.edit(command.ActionPut, put("a", 0, `{"model":"base","port":1}`))
	e.Schemas = []command.Schema{schemaOf("a", `{"model":{}}`)}
	e.Secrets = []command.Secret{{Service: "a", Key: "k", EncryptedValue: sealedText(1), KeyID: "m1"}}
	d.ok(e)
	stable := d.record("a")
	s := d.start(stable, `{"model":"small","port":1}`)
	s.ID = "ann/1"
	res, recs := d.ok(s)
	if res.Versions["a"] != 2 || len(recs) != 1 {
		t.Fatalf("%+v, %d records", res, len(recs))
	}
	want := *stable
	want.Staged = &conf.Staged{Floor: 3, Rollout: &conf.Rollout{
		ID: s.Rollout, Candidate: s.Begin.Candidate, Revert: s.Begin.Revert, Plan: s.Begin.Plan, Salt: "salt", StartedAt: s.At, StartedBy: "ann",
		Reason: "faster", StepAt: s.At, StepIdx: d.index, Targets: []conf.Target{*s.Target},
	}}
	same(t, "what the batch gave", &want, recs[0])
	same(t, "record", &want, d.record("a"))
	if again, _ := d.ok(s); !again.Duplicate || again.Versions["a"] != 2 {
		t.Errorf("the same request again: %+v", again)
	}

	d.ok(d.move(s, conf.RolloutAdvance, 0))
	pause := d.move(s, conf.RolloutPause, 0)
	pause.Reason = "one is lost"
	d.ok(pause)
	again := *pause
	again.Reason = "another"
	d.unchanged(&again)
	d.rejected(d.move(s, conf.RolloutPromote, 1), conf.CodeConflict, "paused: one is lost")
	d.rejected(d.move(s, conf.RolloutAdvance, 1), conf.CodeConflict, "paused: one is lost")
	if r := d.record("a").Staged.Rollout; r.Paused != "one is lost" || r.Step != 1 || len(r.Targets) != 2 || r.Targets[1].Below != 1 {
		t.Errorf("paused: %+v", r)
	}
	d.ok(d.move(s, conf.RolloutResume, 0))
	d.unchanged(d.move(s, conf.RolloutResume, 0))
	d.rejected(d.move(s, conf.RolloutAdvance, 0), conf.CodeConflict, "at step 1, not 0")
	d.rejected(d.move(s, conf.RolloutPromote, 0), conf.CodeConflict, "at step 1, not 0")
	d.ok(d.move(s, conf.RolloutAdvance, 1))
	d.rejected(d.move(s, conf.RolloutAdvance, 2), conf.CodeConflict, "last step")
	other := d.move(s, conf.RolloutPromote, 2)
	other.Candidate++
	d.rejected(other, conf.CodeConflict, "is running")
	other.Rollout = "a-9-0a1b2c"
	d.rejected(other, conf.CodeNotFound, "no rollout")

	res, recs = d.ok(d.move(s, conf.RolloutPromote, 2))
	promoted := d.record("a")
	want = *s.Begin.Candidate.Record(stable, s.At, "ann")
	want.Index, want.Staged = d.index, &conf.Staged{Floor: 3, Kept: &s.Begin.Revert}
	same(t, "promoted", &want, promoted)
	same(t, "what the batch gave", &want, recs[0])
	if res.Versions["a"] != 2 {
		t.Errorf("result %+v", res)
	}
	h := history(t, d.s, conf.HistoryFilter{Service: "a", Version: 2})
	if len(h) != 1 || h[0].Action != command.ActionRollout || h[0].Key != "model" || string(h[0].OldValue) != `"base"` || string(h[0].NewValue) != `"small"` ||
		h[0].ChangedBy != "ann" || h[0].ChangeReason != "faster" {
		t.Errorf("history %+v", h)
	}
	vs, err := d.s.Queries.Versions(t.Context(), "a", 0)
	if err != nil || len(vs) != 2 || vs[0].Version != 2 || vs[0].Signature != s.Begin.Candidate.Signature {
		t.Errorf("versions %+v, %v", vs, err)
	}
	end, err := d.s.Queries.Rollout(t.Context(), s.Rollout)
	if err != nil || end.State != conf.RolloutCompleted || end.By != "bob" || end.Rollout.Candidate.Version != 2 || end.Rollout.Candidate.Config != nil {
		t.Errorf("end %+v, %v", end, err)
	}
	d.rejected(d.move(s, conf.RolloutRollback, 0), conf.CodeConflict, "completed")
	if err := d.s.Verify(t.Context()); err != nil {
		t.Error(err)
	}

	// The next edit is above the revert, and of other content: the revert goes, and the floor.
	d.ok(d.putOn(promoted, `{"model":"tiny","port":1}`))
	if rec := d.record("a"); rec.Version != 4 || rec.Staged != nil {
		t.Errorf("after the next edit: version %d, %+v", rec.Version, rec.Staged)
	}
}

// A rollback makes the signed revert stable as it is. The history says what was taken back.
func TestRolloutIsRolledBack(t *testing.T) {
	d := newDriver(t, openNew(t))
	d.ok(d.edit(command.ActionPut, put("a", 0, `{"model":"base"}`)))
	stable := d.record("a")
	s := d.start(stable, `{"model":"small"}`)
	d.ok(s)
	back := d.move(s, conf.RolloutRollback, 0)
	back.Reason = "port in use"
	d.ok(back)
	want := *s.Begin.Revert.Record(stable, s.At, "ann")
	want.Index = d.index
	same(t, "rolled back", &want, d.record("a"))
	h := history(t, d.s, conf.HistoryFilter{Service: "a", Version: 3})
	if len(h) != 1 || h[0].Action != command.ActionRolloutRollback || string(h[0].OldValue) != `"small"` || string(h[0].NewValue) != `"base"` ||
		h[0].ChangedBy != "bob" || h[0].ChangeReason != "port in use" {
		t.Errorf("history %+v", h)
	}
	end, err := d.s.Queries.Rollout(t.Context(), s.Rollout)
	if err != nil || end.State != conf.RolloutRolledBack || end.Reason != "port in use" {
		t.Errorf("%+v, %v", end, err)
	}
	d.rejected(d.putOn(stable, `{"model":"tiny"}`), conf.CodeConflict, "another write")
	d.ok(d.putOn(d.record("a"), `{"model":"tiny"}`))
}

// While a rollout runs nothing else changes its service, but for what replaces it.
func TestNothingElseChangesTheService(t *testing.T) {
	d := newDriver(t, openNew(t))
	e := d.edit(command.ActionPut, put("a", 0, `{"x":1}`), put("b", 0, `{"x":1}`))
	e.Schemas = []command.Schema{schemaOf("a", `{"x":{}}`)}
	d.ok(e)
	s := d.start(d.record("a"), `{"x":2}`)
	d.ok(s)
	rec := d.record("a")
	secret := d.putOn(rec, `{"x":1}`)
	secret.Secrets = []command.Secret{{Service: "a", Key: "k", EncryptedValue: sealedText(1), KeyID: "m1"}}
	both := d.edit(command.ActionProfileActivate, put("b", 1, `{"x":3}`), d.putOn(rec, `{"x":3}`).Updates[0])
	schema := d.edit(command.ActionSchema)
	schema.Schemas = []command.Schema{schemaOf("a", `{"x":{"d":"other"}}`)}
	gone := tombstone("a", 1)
	gone.Version = 4
	for name, c := range map[string]*command.Edit{
		"edit": d.putOn(rec, `{"x":3}`), "secret": secret, "profile": both, "schema": schema, "delete": d.edit(command.ActionDelete, gone),
		"schema alone replaces nothing": replacing(schema),
	} {
		t.Run(name, func(t *testing.T) { d.rejected(c, conf.CodeRolloutActive, s.Rollout) })
	}
	d.rejected(d.start(rec, `{"x":3}`), conf.CodeRolloutActive, s.Rollout)
	wrong := replacing(d.edit(command.ActionPut, put("a", 1, `{"x":3}`))) // version 2 was given out
	d.rejected(wrong, conf.CodeInvalid, "does not follow 3")
	d.rejected(replacing(d.edit(command.ActionPut, put("a", 2, `{"x":3}`))), conf.CodeConflict, "another write")

	// What is none of it goes on.
	d.ok(d.edit(command.ActionPut, put("b", 1, `{"x":4}`)))
	unchanged := d.edit(command.ActionSchema)
	unchanged.Schemas = []command.Schema{schemaOf("a", `{"x":{}}`)}
	d.ok(unchanged)

	r := replacing(d.putOn(d.record("a"), `{"x":3}`))
	r.Schemas = schema.Schemas
	d.ok(r)
	if rec := d.record("a"); rec.Version != 4 || rec.Staged != nil || string(rec.Config) != `{"x":3}` {
		t.Errorf("replaced: %+v", rec)
	}
	end, err := d.s.Queries.Rollout(t.Context(), s.Rollout)
	if err != nil || end.State != conf.RolloutSuperseded || end.Reason != "replaced by version 4" || end.By != "ann" {
		t.Errorf("%+v, %v", end, err)
	}
}

func TestStartIsRejected(t *testing.T) {
	d := newDriver(t, openNew(t))
	d.ok(d.edit(command.ActionPut, put("a", 0, `{"x":1}`), put("gone", 0, `{"x":1}`)))
	d.ok(d.edit(command.ActionDelete, tombstone("gone", 1)))
	e := d.edit(command.ActionSchema)
	e.Schemas = []command.Schema{schemaOf("bare", `{}`), schemaOf("a", `{"y":{"t":"bad"}}`)}
	d.ok(e)
	rec := d.record("a")
	of := func(f func(*command.Rollout)) *command.Rollout {
		c := d.start(rec, `{"x":2}`)
		f(c)
		return c
	}
	values := of(func(c *command.Rollout) { c.Begin.Revert.Values = json.RawMessage(`{"x":2}`) })
	d.rejected(values, conf.CodeInvalid, "does not have the values of version 1")
	d.rejected(of(func(c *command.Rollout) { c.Begin.Revert.Config = json.RawMessage(`{"x":2}`) }), conf.CodeInvalid, "does not have the values")
	d.rejected(of(func(c *command.Rollout) { c.Epoch = "other" }), conf.CodeConflict, "epoch")
	d.rejected(of(func(c *command.Rollout) { c.Begin.Prev = 0 }), conf.CodeConflict, "another write")
	later := *rec
	later.Version = 2
	d.rejected(of(func(c *command.Rollout) { *c = *d.start(&later, `{"x":2}`); c.Begin.Prev = 1 }), conf.CodeInvalid, "do not follow 1")
	d.rejected(d.start(d.record("gone"), `{}`), conf.CodeInvalid, "no configuration")
	for _, name := range []string{"bare", "none"} {
		d.rejected(d.start(&conf.Record{Service: name, Values: json.RawMessage(`{}`)}, `{}`), conf.CodeInvalid, "no configuration")
	}
	d.rejected(d.start(rec, `{"y":2}`), conf.CodeInvalid, "does not fit its schema")
	s := d.start(rec, `{"x":2}`)
	d.ok(s)
	d.ok(d.move(s, conf.RolloutRollback, 0))
	d.rejected(of(func(c *command.Rollout) { *c = *d.start(d.record("a"), `{"x":2}`); c.Rollout = s.Rollout }), conf.CodeConflict, "before")
}

// The kept revert stays for as long as the service has what was promoted, whatever its
// version, and goes with the first other content: document, secret or schema.
func TestKeptRevert(t *testing.T) {
	for name, change := range map[string]func(d *driver, rec *conf.Record) command.Command{
		"document": func(d *driver, rec *conf.Record) command.Command { return d.putOn(rec, `{"x":3}`) },
		"secret": func(d *driver, rec *conf.Record) command.Command {
			e := d.putOn(rec, `{"x":2}`)
			e.Secrets = []command.Secret{{Service: "a", Key: "k", EncryptedValue: sealedText(1), KeyID: "m1"}}
			return e
		},
		"schema": func(d *driver, rec *conf.Record) command.Command {
			e := d.edit(command.ActionSchema)
			e.Schemas = []command.Schema{schemaOf("a", `{"x":{"d":"other"}}`)}
			return e
		},
		"delete": func(d *driver, rec *conf.Record) command.Command {
			u := tombstone("a", rec.Version)
			u.Version = rec.Floor() + 1
			return d.edit(command.ActionDelete, u)
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDriver(t, openNew(t))
			d.ok(d.edit(command.ActionPut, put("a", 0, `{"x":1}`)))
			s := d.start(d.record("a"), `{"x":2}`)
			d.ok(s)
			d.ok(d.move(s, conf.RolloutPromote, 0))
			kept := func(what string, want bool) {
				t.Helper()
				if st := d.record("a").Staged; (st != nil && st.Kept != nil && st.Kept.Version == 3) != want {
					t.Fatalf("%s: %+v, kept should be %t", what, st, want)
				}
			}
			kept("promoted", true)
			d.ok(d.putOn(d.record("a"), `{"x":2}`))
			kept("the same content", true)
			next := d.start(d.record("a"), `{"x":4}`)
			d.ok(next)
			kept("the next rollout", true)
			d.ok(d.move(next, conf.RolloutRollback, 0))
			kept("its rollback", true)
			d.ok(change(d, d.record("a")))
			kept("other content", false)
			if st := d.record("a").Staged; st != nil {
				t.Errorf("left: %+v", st)
			}
			if err := d.s.Verify(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	d := newDriver(t, openNew(t))
	d.ok(d.edit(command.ActionPut, put("a", 0, `{"x":1}`)))
	for i := range 3 { // a promotion replaces it
		s := d.start(d.record("a"), fmt.Sprintf(`{"x":%d}`, i+2))
		d.ok(s)
		d.ok(d.move(s, conf.RolloutPromote, 0))
		if k := d.record("a").Staged.Kept; k.Version != s.Candidate+1 || string(k.Config) != fmt.Sprintf(`{"x":%d}`, i+1) {
			t.Errorf("promotion %d keeps %+v", i, k)
		}
	}
}

// A new epoch ends what runs in its own entry, and goes on above all numbers that were given
// out or reserved.
func TestEpochEndsRollouts(t *testing.T) {
	d := newDriver(t, openNew(t))
	d.ok(d.edit(command.ActionPut, put("a", 0, `{"x":1}`), put("b", 0, `{"x":1}`), put("c", 0, `{"x":1}`)))
	a, b := d.start(d.record("a"), `{"x":2}`), d.start(d.record("b"), `{"x":2}`)
	d.ok(a)
	d.ok(b)
	d.ok(d.move(b, conf.RolloutPromote, 0))
	_, recs := d.ok(&command.Genesis{Epoch: "e2", At: d.now(), Keep: true})
	if len(recs) != 2 {
		t.Errorf("%d records", len(recs))
	}
	for service, floor := range map[string]uint64{"a": 3, "b": 3, "c": 1} {
		rec := d.record(service)
		if st := rec.Staged; rec.Floor() != floor || st != nil && (st.Rollout != nil || st.Kept != nil) {
			t.Errorf("%s: %+v", service, st)
		}
		u := put(service, rec.Version, string(rec.Values))
		u.Version = rec.Floor() + 1
		d.ok(d.edit(command.ActionRebuild, u))
		if rec := d.record(service); rec.Version != floor+1 || rec.Staged != nil || rec.Epoch != "e2" || string(rec.Config) != string(u.Config) {
			t.Errorf("%s in the new epoch: %+v", service, rec)
		}
	}
	end, err := d.s.Queries.Rollout(t.Context(), a.Rollout)
	if err != nil || end.State != conf.RolloutSuperseded || end.Epoch != testEpoch || end.Reason != "a new epoch began" {
		t.Errorf("%+v, %v", end, err)
	}
	d.rejected(d.move(a, conf.RolloutPromote, 0), conf.CodeConflict, "epoch")
	if err := d.s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// The newest rollouts are kept of each service, those that run come first.
func TestRolloutsAreListed(t *testing.T) {
	d := newDriver(t, openNew(t))
	d.ok(d.edit(command.ActionPut, put("a", 0, `{"x":0}`), put("b", 0, `{"x":0}`)))
	running := d.start(d.record("b"), `{"x":1}`)
	d.ok(running)
	pause := d.move(running, conf.RolloutPause, 0)
	pause.Reason = "one is lost"
	d.ok(pause)
	var ids []string
	for range conf.KeepRollouts + 5 {
		s := d.start(d.record("a"), `{"x":2}`)
		ids = append(ids, s.Rollout)
		d.ok(s)
		d.ok(d.move(s, conf.RolloutRollback, 0))
	}
	all, err := d.s.Queries.Rollouts(t.Context(), "", 3, 0)
	if err != nil || all.Total != conf.KeepRollouts+1 || len(all.Results) != 3 || all.Results[0].Rollout.ID != running.Rollout ||
		all.Results[0].State != conf.RolloutPaused || all.Results[0].Reason != "one is lost" || all.Results[1].Rollout.ID != ids[len(ids)-1] {
		t.Errorf("%+v, %v", all, err)
	}
	of, err := d.s.Queries.Rollouts(t.Context(), "a", 1000, 1)
	if err != nil || of.Total != conf.KeepRollouts || len(of.Results) != conf.KeepRollouts-1 || of.Results[0].Rollout.ID != ids[len(ids)-2] ||
		of.Results[len(of.Results)-1].Rollout.ID != ids[5] {
		t.Errorf("%d of %d, %v", len(of.Results), of.Total, err)
	}
	one, err := d.s.Queries.Rollout(t.Context(), running.Rollout)
	if err != nil || string(one.Rollout.Candidate.Config) != `{"x":1}` || string(one.Rollout.Revert.Config) != `{"x":0}` || one.At != "" {
		t.Errorf("%+v, %v", one, err)
	}
	if _, err := d.s.Queries.Rollout(t.Context(), ids[4]); conf.CodeOf(err) != conf.CodeNotFound {
		t.Errorf("the oldest: %v", err)
	}
	if none, err := d.s.Queries.Rollouts(t.Context(), "c", 0, 0); err != nil || none.Results == nil || none.Total != 0 {
		t.Errorf("%+v, %v", none, err)
	}
}

// Versions that a rollout reserved and nobody uses leave no gap in what is pruned.
func TestVersionsArePrunedOverGaps(t *testing.T) {
	d := newDriver(t, openNew(t))
	d.ok(d.edit(command.ActionPut, put("a", 0, `{"x":0}`)))
	for range 1000 {
		d.ok(d.putOn(d.record("a"), `{"x":1}`))
	}
	for range 3 {
		s := d.start(d.record("a"), `{"x":2}`)
		d.ok(s)
		d.ok(d.move(s, conf.RolloutRollback, 0))
	}
	vs, err := d.s.Queries.Versions(t.Context(), "a", 1000)
	if err != nil || vs[0].Version != 1007 || vs[len(vs)-1].Version != 8 {
		t.Errorf("versions %d to %d, %v", vs[0].Version, vs[len(vs)-1].Version, err)
	}
	if strings.Contains(fmt.Sprint(vs), "{1006 ") {
		t.Error("a version that was never stable is among them")
	}
}
