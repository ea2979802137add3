package rollout

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-config/holdfast/agent/instances"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// info is what the API tells of a rollout that runs.
func (m *Manager) info(rec *conf.Record) conf.RolloutInfo {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, leads := m.facts(rec)
	mem := m.memory[rec.Service]
	if mem != nil && mem.id != rec.Staged.Rollout.ID {
		mem = nil // of the one before; the controller has not looked yet
	}
	t := tallyOf(f, mem)
	ro := rec.Staged.Rollout
	out := infoOf(rec.Service, rec.Epoch, ro)
	out.State, out.Stable, out.Paused = stateOf(ro), rec.Version, ro.Paused
	out.Instances, out.Complete = t.rows, leads
	if out.Instances == nil {
		out.Instances = []conf.RolloutInstance{}
	}
	switch {
	case !leads:
		out.Complete, out.Why = false, "this agent knows of no leader: what the instances say is not known here"
	case f.now.Sub(f.ready) < f.settle:
		out.Complete, out.Why = false, "the leader is new: not all instances have reported to it yet"
	}
	live := candidates(rec, f.heard)
	for i := range out.Steps {
		if i >= len(ro.Targets) {
			continue
		}
		out.Steps[i].Begun = true
		for k := range live {
			if matchesAny(ro.Targets[:i+1], ro.Salt, &live[k]) {
				out.Steps[i].Targets++
			}
		}
	}
	last := ro.Step == len(ro.Plan.Steps)-1
	bake := ro.Plan.BakeOf(ro.Step)
	out.Remaining = bake.Seconds()
	out.Phase = conf.PhaseDeploying
	if mem != nil && mem.step == ro.Step && !mem.bake.IsZero() {
		out.Phase = conf.PhaseBaking
		if last {
			out.Phase = conf.PhaseFinal
		}
		out.Remaining = max(0, bake-f.now.Sub(mem.bake)).Seconds()
	}
	out.Summary = summary(&out, &t)
	return out
}

// summary tells a person where a rollout that runs is.
func summary(r *conf.RolloutInfo, t *tally) string {
	text := fmt.Sprintf("step %d of %d: %d of %d approved version %d", r.Step, len(r.Steps), t.count(conf.VerdictApproved), t.targets(), r.Candidate)
	for _, v := range []string{conf.VerdictRejected, conf.VerdictUnhealthy, conf.VerdictLost} {
		if names := t.by[v]; len(names) > 0 {
			text += fmt.Sprintf(", %s %s", list(names), v)
		}
	}
	switch {
	case r.State == conf.RolloutPaused:
		return text + "; paused: " + r.Paused
	case r.Phase != conf.PhaseDeploying && r.Remaining > 0:
		return text + "; it runs for " + seconds(time.Duration(r.Remaining*float64(time.Second))) + " more before it goes on"
	default:
		return text
	}
}

// infoOf is what is the same of one that runs and of one that ended.
func infoOf(service, epoch string, ro *conf.Rollout) conf.RolloutInfo {
	out := conf.RolloutInfo{
		ID: ro.ID, Service: service, Epoch: epoch, Step: ro.Step + 1, Steps: make([]conf.RolloutStepInfo, len(ro.Plan.Steps)), Since: ro.StepAt,
		RolloutVersions: conf.RolloutVersions{Candidate: ro.Candidate.Version, Revert: ro.Revert.Version}, Plan: ro.Plan, Reason: ro.Reason, StartedBy: ro.StartedBy, StartedAt: ro.StartedAt,
		Instances: []conf.RolloutInstance{},
	}
	for i, s := range ro.Plan.Steps {
		out.Steps[i] = conf.RolloutStepInfo{RolloutStep: s, Begun: i <= ro.Step}
	}
	return out
}

// ended is what the API tells of a rollout that ended.
func (m *Manager) ended(end conf.RolloutEnd) conf.RolloutInfo {
	out := infoOf(end.Service, end.Epoch, &end.Rollout)
	if e, ok := m.o.View.Get(end.Service); ok {
		out.Stable = e.Record.Version
	}
	out.State, out.Since = end.State, end.At
	out.Outcome, out.EndedBy, out.EndedAt, out.Complete = end.Reason, end.By, end.At, true
	switch end.State {
	case conf.RolloutCompleted:
		out.Summary = fmt.Sprintf("completed: version %d is stable", out.Candidate)
	case conf.RolloutRolledBack:
		out.Summary = fmt.Sprintf("rolled back to the values of before, as version %d: %s", out.Revert, end.Reason)
	default:
		out.Summary = end.State + ": " + end.Reason
	}
	return out
}

// rowOf is an instance in the API.
func rowOf(h *instances.Heard, now time.Time) conf.Instance {
	status := h.Status
	if h.Lost {
		status = conf.InstanceLost
	}
	return conf.Instance{
		Instance: h.Instance, Node: h.Node, Kind: h.Kind, Labels: h.Labels, Version: h.Version, Epoch: h.Epoch, Status: status, Reason: h.Reason,
		Details: h.Details, Worker: h.Worker, Since: h.Since, Age: now.Sub(h.At).Seconds(), Health: h.Health, HealthSince: h.HealthSince, Refused: h.Refused,
	}
}

// planOf is the plan in a schema, nil for none.
func planOf(schema json.RawMessage) (*conf.RolloutPlan, error) {
	if !bytes.Contains(schema, []byte(`"x-rollout"`)) {
		return nil, nil
	}
	var root struct {
		Rollout json.RawMessage `json:"x-rollout"`
	}
	if err := json.Unmarshal(schema, &root); err != nil || len(root.Rollout) == 0 {
		return nil, err
	}
	p, err := conf.ParseRolloutPlan(root.Rollout)
	if err != nil { // it was stored by a build that did not check it
		return nil, conf.Errorf(conf.CodeInvalid, "x-rollout of the schema: %w", err).WithHint("correct the schema, or write for all at once with ?rollout=none")
	}
	return &p, nil
}

var rolloutsDesc = prometheus.NewDesc("holdfast_rollouts", "Rollouts that run, by service and state (running, paused).", []string{"service", "state"}, nil)

// Describe implements prometheus.Collector.
func (m *Manager) Describe(ch chan<- *prometheus.Desc) { ch <- rolloutsDesc }

// Collect implements prometheus.Collector.
func (m *Manager) Collect(ch chan<- prometheus.Metric) {
	for of, n := range m.states() {
		ch <- prometheus.MustNewConstMetric(rolloutsDesc, prometheus.GaugeValue, float64(n), of[0], of[1])
	}
}
