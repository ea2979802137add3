package edit

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/agent/schemas"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/replication/store"
)

// oneNode is a cluster of one: a real store that applies what is proposed.
type oneNode struct {
	*store.Store
	t     *testing.T
	index uint64
	last  command.Command
	lose  error                 // Propose applies, and returns this
	first func(command.Command) // is called before a command is applied, once
}

func (n *oneNode) Propose(ctx context.Context, c command.Command) (command.Result, error) {
	raw, err := command.Encode(c)
	if err != nil {
		return command.Result{}, err
	}
	if first := n.first; first != nil {
		n.first = nil
		first(c)
	}
	back, err := command.Decode(raw)
	if err != nil {
		return command.Result{}, err
	}
	n.index++
	res, _, err := n.Apply(ctx, []store.Entry{{Index: n.index, Term: 1, Command: back}})
	if err != nil {
		n.t.Fatal(err)
	}
	n.last = back
	return res[0], n.lose
}

func (n *oneNode) Record(service string) *conf.Record {
	rec, err := n.Queries.Record(n.t.Context(), service)
	if err != nil && conf.CodeOf(err) != conf.CodeNotFound {
		n.t.Fatal(err)
	}
	return rec
}

func (n *oneNode) Services() (out []*conf.Record) {
	if err := n.Queries.Records(n.t.Context(), func(r *conf.Record) error { out = append(out, r); return nil }); err != nil {
		n.t.Fatal(err)
	}
	return out
}

type rolloutFixture struct {
	*Editor
	n      *oneNode
	signer *seal.Signer
	pub    ed25519.PublicKey
	now    time.Time
}

func newRollouts(t *testing.T) *rolloutFixture {
	t.Helper()
	cache := schema.NewCache()
	st, err := store.Open(t.Context(), schemas.StoreOptions(filepath.Join(t.TempDir(), "config.db"), cache, slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	f := &rolloutFixture{n: &oneNode{Store: st, t: t}, now: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)}
	f.newKey(t)
	f.Editor = New(Options{
		Proposer: f.n, Records: f.n, Archive: st.Queries, Schemas: cache, Sealer: testSealer{}, Signer: func() *seal.Signer { return f.signer },
		Ready: func() error { return nil }, Now: func() time.Time { f.now = f.now.Add(time.Second); return f.now },
		CanSignVersions: func() bool { return true },
	})
	if err := propose(t.Context(), f.Editor, &command.Genesis{Epoch: "2d7a2a66-9f0c-4a0e-8d38-5f1c8a3c1f10", At: conf.FormatTime(f.now)}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"demo", "other"} {
		if _, err := f.PutSchemas(t.Context(), alice, map[string][]byte{s: []byte(demoSchema)}, "", ""); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func (f *rolloutFixture) newKey(t *testing.T) {
	t.Helper()
	pub, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	f.pub, f.signer = pub, seal.NewSigner(private)
}

// verify checks all signatures of a record with the present key, and that a higher version
// has a later time.
func (f *rolloutFixture) verify(t *testing.T, rec *conf.Record) {
	t.Helper()
	if err := seal.VerifyRecord(f.pub, rec); err != nil {
		t.Errorf("version %d: %v", rec.Version, err)
	}
	if !seal.VerifyVersion(f.pub, rec.Service, rec.Epoch, rec.Version, rec.Checksum, rec.VersionSignature) {
		t.Errorf("version %d has no signature of its number", rec.Version)
	}
	at := map[uint64]string{rec.Version: rec.IssuedAt}
	for v := range rec.Staged.Signed() {
		if err := seal.VerifyRecord(f.pub, v.Record(rec, rec.UpdatedAt, "")); err != nil {
			t.Errorf("version %d: %v", v.Version, err)
		}
		if !seal.VerifyVersion(f.pub, rec.Service, rec.Epoch, v.Version, v.Checksum, v.VersionSignature) {
			t.Errorf("version %d has no signature of its number", v.Version)
		}
		at[v.Version] = v.IssuedAt
	}
	last := ""
	for v := range rec.Floor() + 1 {
		if at[v] != "" && at[v] <= last {
			t.Errorf("version %d was signed at %s, not after %s", v, at[v], last)
		}
		last = max(last, at[v])
	}
}

func (f *rolloutFixture) put(doc, rollout string) (conf.Outcome, error) {
	return f.Do(f.n.t.Context(), alice, conf.Draft{Service: "demo", Op: conf.OpPut, Document: json.RawMessage(doc), Rollout: rollout})
}

func rolloutDraft(doc string) conf.RolloutDraft {
	return conf.RolloutDraft{
		Draft:  conf.Draft{Service: "demo", Op: conf.OpPatch, Document: json.RawMessage(doc), Author: "alice", Reason: "faster"},
		Plan:   conf.RolloutPlan{Steps: []conf.RolloutStep{{Count: 1}, {Percent: 100}}, Deadline: "1m0s", Require: conf.RequireAuto, OnLost: conf.OnLostPause},
		Target: conf.Target{Instances: []string{"one"}}, Salt: "00ff",
	}
}

func (f *rolloutFixture) start(t *testing.T, doc string) conf.Rollout {
	t.Helper()
	ro, err := f.StartRollout(t.Context(), rolloutDraft(doc))
	if err != nil {
		t.Fatal(err)
	}
	return ro
}

func (f *rolloutFixture) move(t *testing.T, ro conf.Rollout, action string) error {
	t.Helper()
	return f.MoveRollout(t.Context(), conf.RolloutMove{Service: "demo", ID: ro.ID, Action: action, Step: ro.Step, By: "bob"})
}

func wantCode(t *testing.T, what string, err error, code conf.Code, says string) {
	t.Helper()
	if conf.CodeOf(err) != code || code != "" && (!strings.Contains(err.Error(), says) || conf.HintOf(err) == "") {
		t.Errorf("%s: %v (%s), hint %q; want %s with %q and a hint", what, err, conf.CodeOf(err), conf.HintOf(err), code, says)
	}
}

func TestStartRolloutSignsCandidateAndRevert(t *testing.T) {
	f := newRollouts(t)
	if _, err := f.put(`{"threshold":0.4}`, ""); err != nil {
		t.Fatal(err)
	}
	stable := f.n.Record("demo")
	dry := rolloutDraft(`{"model":"small"}`)
	dry.DryRun = true
	if ro, err := f.StartRollout(t.Context(), dry); err != nil || ro.Candidate.Version != 3 || f.n.Record("demo").Staged != nil {
		t.Fatalf("a dry run: %+v, %v", ro, err)
	}
	ro := f.start(t, `{"model":"small"}`)
	if !strings.HasPrefix(ro.ID, "demo-3-") || len(ro.ID) != len("demo-3-0a1b2c") || conf.CheckRollout(ro.ID) != nil || ro.Salt != "00ff" || ro.StepIdx == 0 {
		t.Errorf("rollout %+v", ro)
	}
	rec := f.n.Record("demo")
	if rec.Version != 2 || rec.Floor() != 4 || string(ro.Candidate.Config) != `{"limits":{"rate":10},"model":"small","threshold":0.4}` ||
		string(ro.Candidate.Values) != `{"model":"small","threshold":0.4}` || string(ro.Revert.Config) != string(stable.Config) || string(ro.Revert.Values) != string(stable.Values) ||
		ro.Revert.Version != 4 {
		t.Errorf("candidate %s, revert %s", ro.Candidate.Config, ro.Revert.Config)
	}
	f.verify(t, rec)
	log, err := f.n.Queries.AccessLog(t.Context(), conf.AccessFilter{Service: "demo", Limit: 1})
	if err != nil || log.Results[0].Reason != "rollout start "+ro.ID+": faster" || log.Results[0].UserID != "alice" {
		t.Errorf("access log %+v, %v", log.Results, err)
	}
}

func TestStartRolloutRefuses(t *testing.T) {
	f := newRollouts(t)
	old, one := uint64(7), uint64(1)
	for name, c := range map[string]struct {
		change func(*conf.RolloutDraft)
		code   conf.Code
		says   string
	}{
		"secret":       {func(d *conf.RolloutDraft) { d.Document = json.RawMessage(`{"password":"x","model":"small"}`) }, conf.CodeInvalid, "secrets do not go out in steps"},
		"invalid":      {func(d *conf.RolloutDraft) { d.Document = json.RawMessage(`{"threshold":7}`) }, conf.CodeInvalid, "threshold"},
		"nothing":      {func(d *conf.RolloutDraft) { d.Document = json.RawMessage(`{}`) }, conf.CodeInvalid, "nothing to roll out"},
		"delete":       {func(d *conf.RolloutDraft) { d.Op = conf.OpDelete }, conf.CodeUsage, "nothing else"},
		"schema":       {func(d *conf.RolloutDraft) { d.Schema = json.RawMessage(`{}`) }, conf.CodeUsage, "nothing else"},
		"version":      {func(d *conf.RolloutDraft) { d.Expect = &old }, conf.CodeConflict, "version 1, not 7"},
		"no service":   {func(d *conf.RolloutDraft) { d.Service = "none" }, conf.CodeNotFound, "no schema"},
		"not JSON":     {func(d *conf.RolloutDraft) { d.Document = json.RawMessage(`{`) }, conf.CodeMalformed, ""},
		"good at last": {func(d *conf.RolloutDraft) { d.Expect = &one }, "", ""},
		"no document": {func(d *conf.RolloutDraft) {
			if err := propose(t.Context(), f.Editor, &command.Edit{
				Epoch: f.n.Epoch(), At: conf.FormatTime(f.now), Action: command.ActionSchema, Schemas: []command.Schema{{Service: "bare", Schema: json.RawMessage(demoSchema2)}},
			}); err != nil {
				t.Fatal(err)
			}
			d.Service = "bare"
		}, conf.CodeInvalid, "no configuration"},
	} {
		d := rolloutDraft(`{"model":"small"}`)
		c.change(&d)
		if name == "good at last" {
			d.DryRun = true
		}
		_, err := f.StartRollout(t.Context(), d)
		if name == "not JSON" {
			if conf.CodeOf(err) != c.code {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		wantCode(t, name, err, c.code, c.says)
	}
}

const demoSchema2 = `{"properties":{"model":{"type":"string"}},"required":["model"],"type":"object"}`

// While a rollout runs, each way to change the service fails before it is proposed, and
// replaces the rollout when it says so.
func TestEditsWhileARolloutRuns(t *testing.T) {
	wider := strings.Replace(demoSchema, `"base","small"`, `"base","small","large"`, 1)
	for name, edit := range map[string]func(f *rolloutFixture, rollout string) error{
		"put": func(f *rolloutFixture, rollout string) error {
			_, err := f.put(`{"model":"base"}`, rollout)
			return err
		},
		"patch that changes nothing": func(f *rolloutFixture, rollout string) error {
			_, err := f.Do(f.n.t.Context(), alice, conf.Draft{Service: "demo", Op: conf.OpPatch, Document: json.RawMessage(`{}`), Rollout: rollout})
			return err
		},
		"secret": func(f *rolloutFixture, rollout string) error {
			_, err := f.Do(f.n.t.Context(), alice, conf.Draft{Service: "demo", Op: conf.OpSecretSet, Key: "password", Document: json.RawMessage(`"x"`), Rollout: rollout})
			return err
		},
		"delete": func(f *rolloutFixture, rollout string) error {
			_, err := f.Do(f.n.t.Context(), alice, conf.Draft{Service: "demo", Op: conf.OpDelete, Rollout: rollout})
			return err
		},
		"schema": func(f *rolloutFixture, rollout string) error {
			_, err := f.Do(f.n.t.Context(), alice, conf.Draft{Service: "demo", Op: conf.OpSchema, Schema: json.RawMessage(wider), Rollout: rollout})
			return err
		},
		"profile": func(f *rolloutFixture, rollout string) error {
			p := conf.Profile{Name: "night", Services: map[string]json.RawMessage{"demo": json.RawMessage(`{"threshold":0.9}`), "other": json.RawMessage(`{}`)}}
			if _, err := f.SaveProfile(f.n.t.Context(), alice, p, nil, "", ""); err != nil {
				return err
			}
			_, err := f.ActivateProfile(f.n.t.Context(), alice, "night", "", "", rollout)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newRollouts(t)
			ro := f.start(t, `{"model":"small"}`)
			digest := f.n.Digest()
			if err := edit(f, ""); name != "profile" {
				wantCode(t, "plain", err, conf.CodeRolloutActive, ro.ID)
				if f.n.Digest() != digest {
					t.Error("it changed something")
				}
			} else {
				wantCode(t, "plain", err, conf.CodeRolloutActive, ro.ID)
			}
			if err := edit(f, conf.RolloutReplace); err != nil {
				t.Fatalf("replace: %v", err)
			}
			rec := f.n.Record("demo")
			if rec.Version != 4 || rec.Staged != nil || !f.n.last.(*command.Edit).Replace {
				t.Errorf("replaced: version %d, %+v", rec.Version, rec.Staged)
			}
			if row := f.n.last.(*command.Edit).Audit[0]; name != "schema" && !strings.Contains(row.Reason, "with rollout=replace") {
				t.Errorf("the access log says %q", row.Reason)
			}
			f.verify(t, rec)
			end, err := f.n.Queries.Rollout(t.Context(), ro.ID)
			if err != nil || end.State != conf.RolloutSuperseded {
				t.Errorf("%+v, %v", end, err)
			}
			if _, err := f.put(`{"model":"base","threshold":0.1}`, conf.RolloutReplace); err != nil || name != "delete" && f.n.last.(*command.Edit).Replace {
				t.Errorf("with nothing to replace: %v", err)
			}
		})
	}
}

// A rollout that another leader started, of which this one does not know yet, is met in the log.
func TestRolloutThatIsNotSeenYet(t *testing.T) {
	for _, rollout := range []string{"", conf.RolloutReplace} {
		f := newRollouts(t)
		f.n.first = func(command.Command) { f.raceRollout(t) }
		_, err := f.put(`{"threshold":0.7}`, rollout)
		if rollout == "" {
			wantCode(t, "plain", err, conf.CodeRolloutActive, "demo-2-")
		} else if rec := f.n.Record("demo"); err != nil || rec.Version != 4 || rec.Staged != nil {
			t.Errorf("replace: %v, %+v", err, rec)
		}
	}
}

// raceRollout starts a rollout as another leader would, past the locks.
func (f *rolloutFixture) raceRollout(t *testing.T) {
	t.Helper()
	d := rolloutDraft(`{"model":"small"}`)
	cur := f.n.Record("demo")
	u, _, err := f.change(t.Context(), cur, d.Draft, map[string]any{"model": "small"}, nil, f.now)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newRollout(f.Editor, cur, d, u, f.now)
	if err == nil {
		err = propose(t.Context(), f.Editor, c)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestMoveRollout(t *testing.T) {
	f := newRollouts(t)
	ro := f.start(t, `{"model":"small"}`)
	for _, action := range []string{conf.RolloutPause, conf.RolloutResume, conf.RolloutAdvance} {
		if err := f.move(t, ro, action); err != nil {
			t.Fatalf("%s: %v", action, err)
		}
	}
	wantCode(t, "an earlier step", f.move(t, ro, conf.RolloutPromote), conf.CodeConflict, "at step 1, not 0")
	wantCode(t, "no action", f.move(t, ro, "stop"), conf.CodeUsage, "stop")
	wantCode(t, "another", f.MoveRollout(t.Context(), conf.RolloutMove{Service: "demo", ID: "demo-9-0a1b2c", Action: conf.RolloutPause}), conf.CodeNotFound, "demo-9-0a1b2c")
	if err := f.move(t, ro, conf.RolloutPause); err != nil {
		t.Fatal(err)
	}
	ro.Step = 1
	wantCode(t, "paused", f.move(t, ro, conf.RolloutPromote), conf.CodeConflict, "paused by bob")
	m := conf.RolloutMove{Service: "demo", ID: ro.ID, Action: conf.RolloutPromote, Step: 1, Force: true, By: "bob", Reason: "it is fine", RequestID: "r1"}
	for range 2 { // the second is the same request again
		if err := f.MoveRollout(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	if rec := f.n.Record("demo"); rec.Version != 2 || rec.Staged.Kept.Version != 3 {
		t.Errorf("promoted: %+v", rec)
	}
	log, err := f.n.Queries.AccessLog(t.Context(), conf.AccessFilter{Service: "demo"})
	if err != nil || log.Results[0].Reason != "rollout promote "+ro.ID+": it is fine" || log.Results[0].UserID != "bob" || log.Total != 7 {
		t.Errorf("access log %+v, %v", log, err)
	}
	wantCode(t, "ended", f.move(t, ro, conf.RolloutRollback), conf.CodeConflict, "completed")
}

// A start whose outcome is not known is not made twice, and says so.
func TestStartRolloutAgain(t *testing.T) {
	f := newRollouts(t)
	d := rolloutDraft(`{"model":"small"}`)
	d.RequestID = "r1"
	f.n.lose = conf.Errorf(conf.CodeOutcomeUnknown, "the leader is gone")
	if _, err := f.StartRollout(t.Context(), d); conf.CodeOf(err) != conf.CodeOutcomeUnknown {
		t.Fatalf("%v", err)
	}
	f.n.lose = nil
	ro, err := f.StartRollout(t.Context(), d)
	if is := f.n.Record("demo").Staged.Rollout; err != nil || ro.ID != is.ID || ro.Candidate.Version != 2 {
		t.Fatalf("%+v, %v", ro, err)
	}
	if err := f.move(t, ro, conf.RolloutRollback); err != nil {
		t.Fatal(err)
	}
	if again, err := f.StartRollout(t.Context(), d); err != nil || again.ID != ro.ID {
		t.Errorf("after its end: %+v, %v", again, err)
	}
	d.RequestID = ""
	if next, err := f.StartRollout(t.Context(), d); err != nil || next.Candidate.Version != 4 {
		t.Errorf("another: %+v, %v", next, err)
	}
}

// A reissue, also under another key, signs stable, candidate, revert and kept revert in one
// entry, in the order of their versions.
func TestReissueSignsAllOfARollout(t *testing.T) {
	f := newRollouts(t)
	ro := f.start(t, `{"model":"small"}`)
	if err := f.move(t, ro, conf.RolloutPromote); err != nil {
		t.Fatal(err)
	}
	f.start(t, `{"threshold":0.9}`)
	for _, rotate := range []bool{false, true, true} {
		before := f.n.Record("demo")
		if rotate {
			f.newKey(t)
		}
		f.now = f.now.Add(-time.Millisecond) // the clock of another leader
		if n, err := f.Reissue(t.Context()); err != nil || n != 2 {
			t.Fatalf("%d, %v", n, err)
		}
		after := f.n.Record("demo")
		f.verify(t, after)
		was, is := before.Staged, after.Staged
		if is.Rollout.Candidate.Signature == was.Rollout.Candidate.Signature || is.Rollout.Revert.IssuedAt <= was.Rollout.Revert.IssuedAt ||
			is.Kept.IssuedAt <= was.Kept.IssuedAt || after.IssuedAt <= before.IssuedAt {
			t.Errorf("not renewed: %+v", is)
		}
	}
	// A clock that was far ahead ends for all of them.
	f.now = f.now.Add(100 * time.Hour)
	if _, err := f.Reissue(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.Editor.floor = issuedAtFloor{} // of another leader
	f.now = f.now.Add(-99 * time.Hour)
	if _, err := f.Reissue(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := f.n.Record("demo")
	f.verify(t, after)
	if now := conf.FormatTime(f.now.Add(time.Minute)); after.IssuedAt > now || after.Staged.Kept.IssuedAt > now || after.Staged.Rollout.Revert.IssuedAt > now {
		t.Errorf("still ahead: %+v", after.Staged)
	}
}
