package apply

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// rolloutTx applies one Rollout.
type rolloutTx struct {
	*tx
	c     *command.Rollout
	index uint64
}

// running is the rollout of a service that runs; nil for none.
func running(rec *conf.Record) *conf.Rollout {
	if rec == nil || rec.Staged == nil {
		return nil
	}
	return rec.Staged.Rollout
}

// apply applies all of the command or, with a rejection, nothing.
func (t *rolloutTx) apply() (command.Result, []string, error) {
	c := t.c
	res := command.Result{Index: t.index}
	if c.ID != "" {
		was, ok, err := tables.ReadRequest(t.ctx, t.w, t.dig, c.ID)
		if err != nil || ok {
			return was, nil, err
		}
	}
	if t.st.Epoch == "" || c.Epoch != t.st.Epoch {
		return res, nil, rejection{conf.Errorf(conf.CodeConflict, "the rollout is of the epoch %q, the store has %q", c.Epoch, t.st.Epoch).
			WithHint("read the configuration again")}
	}
	cur, err := t.record(c.Service)
	if err != nil {
		return res, nil, err
	}
	version := c.Candidate
	if c.Action == command.RolloutStart {
		err = t.start(cur)
	} else {
		version, err = t.move(cur)
	}
	if err != nil {
		return res, nil, err
	}
	if err := t.audit(c.Audit); err != nil {
		return res, nil, err
	}
	res.Versions = map[string]uint64{c.Service: version}
	if c.ID != "" {
		err = t.storeResult(c.ID, t.index, res.Versions)
	}
	return res, []string{c.Service}, err
}

// start begins a rollout. It rejects before it changes anything.
func (t *rolloutTx) start(cur *tables.StoredRecord) error {
	c, b, rec := t.c, t.c.Begin, cur.Record
	switch ro := running(rec); {
	case ro != nil:
		return rejection{conf.RolloutActive(c.Service, ro.ID)}
	case !rec.Exists():
		return reject(conf.CodeInvalid, "%s has no configuration that a rollout could go back to", c.Service)
	case b.Prev != rec.Version:
		return rejection{&conf.Error{
			Code: conf.CodeConflict, Current: rec.Version,
			Message: c.Service + " was changed by another write", Hint: "read it again and repeat the rollout on the current version",
		}}
	case c.Candidate != rec.Floor()+1 || b.Candidate.Version != c.Candidate || b.Revert.Version != c.Candidate+1:
		return reject(conf.CodeInvalid, "%s: the versions %d and %d do not follow %d", c.Service, b.Candidate.Version, b.Revert.Version, rec.Floor())
	case !bytes.Equal(b.Revert.Values, rec.Values) || !bytes.Equal(b.Revert.Config, rec.Config) || b.Revert.Checksum != rec.Checksum:
		return reject(conf.CodeInvalid, "%s: the revert %d does not have the values of version %d", c.Service, b.Revert.Version, rec.Version)
	}
	// Nothing but the rollout changes the service from here on: it can be promoted if this passes.
	if _, err := t.conf.Project(c.Service, rec.Schema, b.Candidate.Config); err != nil {
		return reject(conf.CodeInvalid, "%s: the document does not fit its schema: %v", c.Service, err)
	}
	old, err := t.read(tables.Rollouts, c.Service, c.Rollout)
	if err != nil {
		return err
	}
	if old != nil {
		return reject(conf.CodeConflict, "there was a rollout %s before", c.Rollout)
	}
	ro := &conf.Rollout{
		ID: c.Rollout, Candidate: b.Candidate, Revert: b.Revert, Plan: b.Plan, Salt: b.Salt, StartedAt: c.At, StartedBy: c.By, Reason: c.Reason,
		StepAt: c.At, StepIdx: t.index, Targets: []conf.Target{*c.Target},
	}
	row, err := tables.RolloutRow(c.Service, c.Epoch, t.index, ro)
	if err != nil {
		return reject(conf.CodeInvalid, "the rollout %s: %v", c.Rollout, err)
	}
	if err := t.insert(tables.Rollouts, row...); err != nil {
		return err
	}
	if err := t.insert(tables.StagedVersions, tables.SignedRow(c.Service, tables.RoleCandidate, &b.Candidate)...); err != nil {
		return err
	}
	if err := t.insert(tables.StagedVersions, tables.SignedRow(c.Service, tables.RoleRevert, &b.Revert)...); err != nil {
		return err
	}
	floor, err := t.read(tables.Staged, c.Service)
	if err != nil {
		return err
	}
	return t.upsert(tables.Staged, floor, c.Service, int64(b.Revert.Version), c.Rollout) //nolint:gosec // fits
}

// move does one action on the rollout that runs, and returns the version that the result names.
func (t *rolloutTx) move(cur *tables.StoredRecord) (uint64, error) {
	c, ro := t.c, running(cur.Record)
	if ro == nil || ro.ID != c.Rollout || ro.Candidate.Version != c.Candidate {
		return 0, t.notRunning(cur)
	}
	if leaves := c.Action == conf.RolloutAdvance || c.Action == conf.RolloutPromote; leaves && c.Step != ro.Step {
		return 0, t.conflict(cur, "the rollout %s is at step %d, not %d", ro.ID, ro.Step, c.Step)
	} else if leaves && ro.Paused != "" && !c.Force {
		return 0, t.conflict(cur, "the rollout %s is paused: %s", ro.ID, ro.Paused)
	}
	switch c.Action {
	case conf.RolloutAdvance:
		if ro.Step+1 >= len(ro.Plan.Steps) {
			return 0, t.conflict(cur, "the rollout %s is at its last step", ro.ID)
		}
		targets, err := tables.TargetsJSON(append(slices.Clone(ro.Targets), *c.Target))
		if err != nil {
			return 0, reject(conf.CodeInvalid, "the rollout %s: %v", ro.ID, err)
		}
		return c.Candidate, t.setRollout(c.Service, ro.ID, map[int]any{
			tables.RolloutStep: int64(ro.Step + 1), tables.RolloutStepAt: c.At, tables.RolloutStepIdx: int64(t.index), tables.RolloutTargets: targets, //nolint:gosec // fits
		})
	case conf.RolloutPause:
		if ro.Paused != "" {
			return c.Candidate, nil
		}
		return c.Candidate, t.setRollout(c.Service, ro.ID, map[int]any{tables.RolloutPaused: cmp.Or(c.Reason, "paused by "+cmp.Or(c.By, "the leader"))})
	case conf.RolloutResume:
		return c.Candidate, t.setRollout(c.Service, ro.ID, map[int]any{tables.RolloutPaused: nil})
	case conf.RolloutPromote:
		e := end{conf.RolloutCompleted, c.Reason, c.By, c.At}
		return c.Candidate, t.finish(cur, ro, &ro.Candidate, e, &command.Edit{By: ro.StartedBy, Reason: ro.Reason, Action: command.ActionRollout})
	case conf.RolloutRollback:
		e := end{conf.RolloutRolledBack, c.Reason, c.By, c.At}
		return ro.Revert.Version, t.finish(cur, ro, &ro.Revert, e, &command.Edit{By: c.By, Reason: c.Reason, Action: command.ActionRolloutRollback})
	}
	return 0, reject(conf.CodeInvalid, "a rollout has no action %q", c.Action)
}

// notRunning is the rejection for a rollout that ended, or never was.
func (t *rolloutTx) notRunning(cur *tables.StoredRecord) error {
	row, err := t.read(tables.Rollouts, t.c.Service, t.c.Rollout)
	switch {
	case err != nil:
		return err
	case row == nil || cur.Record == nil:
		return rejection{conf.NoRollout(t.c.Rollout)}
	}
	return t.conflict(cur, "the rollout %s does not run: it is %s", t.c.Rollout, row.Text(tables.RolloutState))
}

// conflict rejects a decision that was made for another state of the rollout.
func (t *rolloutTx) conflict(cur *tables.StoredRecord, format string, args ...any) error {
	e := conf.Errorf(conf.CodeConflict, format, args...).WithHint("read the rollout again: holdfast rollout status %s", t.c.Rollout)
	e.Current = cur.Record.Version
	return rejection{e}
}

// finish makes v, the candidate or the revert, stable as it was signed. ed is what the
// history says of it: for the candidate what it changes, for the revert what it takes back.
func (t *rolloutTx) finish(cur *tables.StoredRecord, ro *conf.Rollout, v *conf.SignedVersion, e end, ed *command.Edit) error {
	was := cur.Record
	rec := v.Record(was, ro.StartedAt, ro.StartedBy)
	rec.Index = t.index
	from := was
	if v == &ro.Revert {
		from = ro.Candidate.Record(was, ro.StartedAt, ro.StartedBy)
	}
	et := &editTx{t.tx, ed, t.index}
	before, after, err := et.itemsOf(from, rec, true, nil)
	if err != nil {
		return err
	}
	if err := t.endRollout(was.Service, ro, e); err != nil {
		return err
	}
	if v == &ro.Candidate {
		// For the agents that went on to it, and for those whose refusal is under way.
		kept, err := t.read(tables.StagedVersions, was.Service, tables.RoleKept)
		if err != nil {
			return err
		}
		if err := t.upsert(tables.StagedVersions, kept, tables.SignedRow(was.Service, tables.RoleKept, &ro.Revert)...); err != nil {
			return err
		}
	}
	if err := et.write(cur, rec, change{e.at, ed.By, before, after}); err != nil {
		return err
	}
	return settle(t.tx, was)
}

// setRollout changes columns of a rollout.
func (t *tx) setRollout(service, id string, columns map[int]any) error {
	old, err := t.read(tables.Rollouts, service, id)
	if err != nil {
		return err
	}
	if old == nil {
		return tables.Corrupt("the rollout %s is missing", id)
	}
	vals := slices.Clone(old.Vals)
	for i, v := range columns {
		vals[i] = v
	}
	if slices.Equal(vals, old.Vals) {
		return nil
	}
	return t.upsert(tables.Rollouts, old, vals...)
}

// end is how a rollout ends.
type end struct{ state, reason, by, at string }

// endRollout ends ro, which runs. The floor stays, and so does the kept revert.
func (t *tx) endRollout(service string, ro *conf.Rollout, e end) error {
	err := t.setRollout(service, ro.ID, map[int]any{
		tables.RolloutState: e.state, tables.RolloutPaused: nil,
		tables.RolloutEndReason: tables.Null(e.reason), tables.RolloutEndedBy: tables.Null(e.by), tables.RolloutEndedAt: e.at,
	})
	if err != nil {
		return err
	}
	for _, role := range []string{tables.RoleCandidate, tables.RoleRevert} {
		if err := t.remove(tables.StagedVersions, service, role); err != nil {
			return err
		}
	}
	row, err := t.read(tables.Staged, service)
	if err != nil {
		return err
	}
	if row == nil {
		return tables.Corrupt("the floor of %s is missing", service)
	}
	if err := t.set(tables.Staged, row, tables.StagedRollout, nil); err != nil {
		return err
	}
	old, err := tables.OldEnds(t.ctx, t.w, service, conf.KeepRollouts)
	if err != nil {
		return err
	}
	return each(old, func(id string) error { return t.remove(tables.Rollouts, service, id) })
}

// endAllRollouts ends what runs when an epoch begins. The floors stay until the services
// have a version of the new epoch, so that their numbers never go back.
func endAllRollouts(t *tx, c *command.Genesis) (services []string, err error) {
	err = tables.Each(t.ctx, t.w, t.dig, tables.Staged, func(r *tables.Row) error {
		services = append(services, r.Text(0))
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(services)
	for _, service := range services {
		cur, err := t.record(service)
		if err != nil {
			return nil, err
		}
		if cur.Record == nil {
			return nil, tables.Corrupt("the service %s of a rollout is missing", service)
		}
		if ro := running(cur.Record); ro != nil {
			if err := t.endRollout(service, ro, end{conf.RolloutSuperseded, "a new epoch began", "", c.At}); err != nil {
				return nil, err
			}
		}
		if err := t.remove(tables.StagedVersions, service, tables.RoleKept); err != nil {
			return nil, err
		}
		if err := settle(t, cur.Record); err != nil {
			return nil, err
		}
	}
	return services, nil
}

// stagedServices are the services of the edit that have more than their stable version, as
// they are before it.
func (t *editTx) stagedServices() (out []*conf.Record, err error) {
	add := func(service string) error {
		cur, err := t.record(service)
		if err != nil || cur.Record == nil || cur.Record.Staged == nil || slices.Contains(out, cur.Record) {
			return err
		}
		out = append(out, cur.Record)
		return nil
	}
	for i := range t.c.Updates {
		if err := add(t.c.Updates[i].Service); err != nil {
			return nil, err
		}
	}
	for i := range t.c.Schemas {
		if err := add(t.c.Schemas[i].Service); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// schemaMayChange rejects a new schema while a rollout of the service runs. One that
// replaces the rollout needs a new version: the agents that serve the candidate go on to it.
func (t *editTx) schemaMayChange(service string) error {
	cur, err := t.record(service)
	if err != nil {
		return err
	}
	ro := running(cur.Record)
	if ro == nil || t.c.Replace && slices.ContainsFunc(t.c.Updates, func(u command.Update) bool { return u.Service == service }) {
		return nil
	}
	return rejection{conf.RolloutActive(service, ro.ID)}
}

// settle removes what is of no more use of the rollouts of a service, which was was before
// the present entry: the kept revert when a stable version of other content is above it, and
// the floor when it is that version and there is nothing else.
func settle(t *tx, was *conf.Record) error {
	cur, err := t.record(was.Service)
	if err != nil {
		return err
	}
	rec := cur.Record
	if rec == nil || rec.Staged == nil {
		return nil
	}
	kept := rec.Staged.Kept
	if kept != nil && rec.Version > kept.Version && !sameContent(was, rec) {
		if err := t.remove(tables.StagedVersions, rec.Service, tables.RoleKept); err != nil {
			return err
		}
		kept = nil
	}
	if kept == nil && rec.Staged.Rollout == nil && rec.Staged.Floor == rec.Version {
		return t.remove(tables.Staged, rec.Service)
	}
	return nil
}

// sameContent reports whether a service gets the same of both: document, secrets, schema.
func sameContent(a, b *conf.Record) bool {
	return a.Deleted == b.Deleted && bytes.Equal(a.Config, b.Config) && bytes.Equal(a.Schema, b.Schema) &&
		slices.EqualFunc(a.Secrets, b.Secrets, func(x, y conf.SealedSecret) bool { return x.Key == y.Key && x.Value == y.Value })
}
