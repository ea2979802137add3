package rollout

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Start starts a rollout of a service and returns it. d has the change, who makes it and why;
// its plan is completed here, and its first target chosen.
func (m *Manager) Start(ctx context.Context, d conf.RolloutDraft) (conf.RolloutInfo, error) {
	var err error
	if d.Plan, err = conf.CompletePlan(d.Plan); err != nil {
		return conf.RolloutInfo{}, err
	}
	if err := m.awaitReports(ctx); err != nil {
		return conf.RolloutInfo{}, err
	}
	rec, err := m.record(ctx, d.Service)
	if err != nil {
		return conf.RolloutInfo{}, err
	}
	if !rec.Exists() {
		return conf.RolloutInfo{}, conf.Errorf(conf.CodeInvalid, "%s has no configuration yet: there is nothing that a rollout could go back to", d.Service).
			WithHint("write its first version for all: holdfast set %s KEY=VALUE... --rollout none, or PUT it with ?rollout=none", d.Service)
	}
	var salt [8]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return conf.RolloutInfo{}, conf.Errorf(conf.CodeInternal, "no random numbers: %w", err)
	}
	d.Salt = hex.EncodeToString(salt[:])
	live := candidates(rec, m.o.Reports.Of(d.Service))
	first := d.Plan.Steps[0]
	target, n := next(first, len(d.Plan.Steps) == 1, d.Salt, nil, live)
	if n == 0 && (rec.Staged == nil || rec.Staged.Rollout == nil) { // else the editor says what runs
		return conf.RolloutInfo{}, nobody(d.Service, first, len(live))
	}
	d.Target = target
	ro, err := m.o.Editor.StartRollout(ctx, d)
	if err != nil {
		return conf.RolloutInfo{}, err
	}
	m.o.Logger.Info("a rollout begins", "service", d.Service, "rollout", ro.ID, "by", d.Author, "steps", len(ro.Plan.Steps), "targets", n, "why", d.Reason)
	return m.Rollout(ctx, ro.ID)
}

// nobody is the error for a first step that chooses none of the live instances.
func nobody(service string, step conf.RolloutStep, live int) error {
	if live > 0 {
		what := "the names"
		if len(step.Labels) > 0 {
			what = "the labels"
		}
		return conf.Errorf(conf.CodeInvalid, "%s of the first step match none of the %d live instances of %s", what, live, service).
			WithHint("holdfast instances %s lists them", service)
	}
	return conf.Errorf(conf.CodeUnsupported, "no live instance of %s is known that could try the change first", service).
		WithHint("an agent is an instance of its CONFIG_SERVICE_NAME; write for all at once with --rollout none, or ?rollout=none")
}

// awaitReports waits until all instances had time to report to a leader of a new term.
func (m *Manager) awaitReports(ctx context.Context) error {
	for {
		m.mu.Lock()
		term, rest := m.term, m.o.Settle-m.o.Now().Sub(m.ready)
		m.mu.Unlock()
		if term != 0 && rest <= 0 {
			return nil
		}
		if term == 0 {
			rest = m.o.Settle
		}
		wait := time.NewTimer(min(rest, pollEvery))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return conf.Errorf(conf.CodeNoQuorum, "this agent does not lead, or has just begun to: %w", ctx.Err()).WithHint("try again in a moment")
		}
	}
}

// record returns the stable record of a service, as new as all that was acknowledged.
func (m *Manager) record(ctx context.Context, service string) (*conf.Record, error) {
	for confirmed := false; ; confirmed = true {
		if e, ok := m.o.View.Get(service); ok && e.Record.Schema != nil {
			return e.Record, nil
		}
		if confirmed {
			return nil, conf.Errorf(conf.CodeNotFound, "service %q has no schema", service).
				WithHint("put its JSON Schema first: holdfast schema put %s FILE", service)
		}
		if err := m.o.Confirm(ctx); err != nil {
			return nil, err
		}
	}
}

// DefaultPlan is the plan that the schema of a service has for its changes; nil when it has
// none, and for a service that has nothing to go back to.
func (m *Manager) DefaultPlan(service string) (*conf.RolloutPlan, error) {
	e, ok := m.o.View.Get(service)
	if !ok || !e.Record.Exists() {
		return nil, nil
	}
	return planOf(e.Record.Schema)
}

// Move is what a person does with a rollout: action is conf.RolloutPromote, RolloutPause,
// RolloutResume or RolloutRollback.
func (m *Manager) Move(ctx context.Context, move conf.RolloutMove) (conf.RolloutInfo, error) {
	rec := m.byID(move.ID)
	if rec == nil {
		if err := m.o.Confirm(ctx); err != nil {
			return conf.RolloutInfo{}, err
		}
		if rec = m.byID(move.ID); rec == nil {
			end, err := m.o.History.Rollout(ctx, move.ID)
			if err != nil {
				return conf.RolloutInfo{}, err
			}
			return conf.RolloutInfo{}, conf.Errorf(conf.CodeConflict, "the rollout %s ended at %s: %s", move.ID, end.At, end.State).
				WithHint("holdfast rollout status %s shows how; start another one", move.ID)
		}
	}
	ro := rec.Staged.Rollout
	move.Service, move.Step = rec.Service, ro.Step
	switch move.Action {
	case conf.RolloutPromote:
		move.Force = true
		if err := m.refused(rec); err != nil {
			return conf.RolloutInfo{}, err
		}
	case conf.RolloutPause:
		if move.Reason == "" {
			move.Reason = "by " + move.By
		}
	case conf.RolloutRollback:
		why := "aborted by " + move.By
		if move.Reason != "" {
			why += ": " + move.Reason
		}
		move.Reason = why
	}
	if err := m.o.Editor.MoveRollout(ctx, move); err != nil {
		return conf.RolloutInfo{}, err
	}
	m.o.Logger.Info("a person decides on a rollout", "service", rec.Service, "rollout", move.ID, "step", ro.Step+1, "action", move.Action, "by", move.By, "why", move.Reason)
	return m.Rollout(ctx, move.ID)
}

// refused is why nobody may promote: more instances refused than the plan allows.
func (m *Manager) refused(rec *conf.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, _ := m.facts(rec)
	t := tallyOf(f, m.memory[rec.Service])
	names := t.by[conf.VerdictRejected]
	if len(names) <= rec.Staged.Rollout.Plan.MaxRejected {
		return nil
	}
	return conf.Errorf(conf.CodeConflict, "%s refused version %d: it is rolled back", list(names), rec.Staged.Rollout.Candidate.Version).
		WithHint("correct the values, and start another rollout")
}

// byID is the record of a rollout that runs, nil when there is none.
func (m *Manager) byID(id string) *conf.Record {
	for _, rec := range m.running() {
		if rec.Staged.Rollout.ID == id {
			return rec
		}
	}
	return nil
}

// Rollout returns one rollout, of those that run or ended.
func (m *Manager) Rollout(ctx context.Context, id string) (conf.RolloutInfo, error) {
	if rec := m.byID(id); rec != nil {
		out := m.info(rec)
		out.Values = rec.Staged.Rollout.Candidate.Values
		return out, nil
	}
	end, err := m.o.History.Rollout(ctx, id)
	if err != nil {
		return conf.RolloutInfo{}, err
	}
	return m.ended(end), nil
}

// Rollouts lists the rollouts of a service, of all for "": those that run first, then those
// that ended, the newest first.
func (m *Manager) Rollouts(ctx context.Context, service string, limit, offset int) (conf.Page[conf.RolloutInfo], error) {
	page, err := m.o.History.Rollouts(ctx, service, limit, offset)
	out := conf.Page[conf.RolloutInfo]{Results: []conf.RolloutInfo{}, Total: page.Total}
	for _, end := range page.Results {
		if rec := m.byID(end.Rollout.ID); rec != nil {
			out.Results = append(out.Results, m.info(rec))
			continue
		}
		out.Results = append(out.Results, m.ended(end))
	}
	return out, err
}

// Metric is how many rollouts of a service are in a state.
func (m *Manager) states() map[[2]string]int {
	out := map[[2]string]int{}
	for _, rec := range m.running() {
		out[[2]string{rec.Service, stateOf(rec.Staged.Rollout)}]++
	}
	return out
}

func stateOf(ro *conf.Rollout) string {
	if ro.Paused != "" {
		return conf.RolloutPaused
	}
	return conf.RolloutRunning
}

// seconds is a duration for a person.
func seconds(d time.Duration) string { return fmt.Sprint(d.Round(time.Second)) }
