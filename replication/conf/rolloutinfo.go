package conf

import "encoding/json"

// RolloutRequest is the body of POST /api/config/services/{s}/rollouts: one of Config and
// Patch, and a plan.
type RolloutRequest struct {
	Config  json.RawMessage `json:"config,omitempty"`  // replaces the stored values
	Patch   json.RawMessage `json:"patch,omitempty"`   // merged into them (RFC 7396)
	Version *uint64         `json:"version,omitempty"` // the stable version that it is based on
	Reason  string          `json:"reason,omitempty"`

	Preset       string        `json:"preset,omitempty"`
	Steps        []RolloutStep `json:"steps,omitempty"`
	FinalBake    string        `json:"final_bake,omitempty"`
	Deadline     string        `json:"deadline,omitempty"`
	Require      string        `json:"require,omitempty"`
	MaxRejected  int           `json:"max_rejected,omitempty"`
	MaxUnhealthy int           `json:"max_unhealthy,omitempty"`
	OnLost       string        `json:"on_lost,omitempty"`
}

// Plan is the plan of r, as it was given.
func (r *RolloutRequest) Plan() RolloutPlan {
	return RolloutPlan{
		Preset: r.Preset, Steps: r.Steps, FinalBake: r.FinalBake, Deadline: r.Deadline, Require: r.Require,
		MaxRejected: r.MaxRejected, MaxUnhealthy: r.MaxUnhealthy, OnLost: r.OnLost,
	}
}

// WithPlan returns r with the members of a plan.
func (r RolloutRequest) WithPlan(p RolloutPlan) RolloutRequest {
	r.Preset, r.Steps, r.FinalBake, r.Deadline, r.Require = p.Preset, p.Steps, p.FinalBake, p.Deadline, p.Require
	r.MaxRejected, r.MaxUnhealthy, r.OnLost = p.MaxRejected, p.MaxUnhealthy, p.OnLost
	return r
}

// Phases of a rollout that runs.
const (
	PhaseDeploying = "deploying" // not all targets of the step have said what they make of it
	PhaseBaking    = "baking"    // all have; they run it before the next step
	PhaseFinal     = "final"     // as baking, of the last step
)

// Verdicts of an instance on the candidate, as the leader counts them.
const (
	VerdictApproved  = "approved"
	VerdictWaiting   = "waiting" // nothing is heard yet that would be enough
	VerdictRejected  = "rejected"
	VerdictUnhealthy = "unhealthy" // since it took the candidate
	VerdictLost      = "lost"
	VerdictHeldBack  = "held_back" // on the revert of an earlier rollout, and no target
	VerdictJoined    = "joined"    // during the step, and no target of it
	VerdictNone      = ""          // no target of the steps so far
)

// RolloutInfo is a rollout in the API, one that runs or one that ended.
type RolloutInfo struct {
	ID      string `json:"id"`
	Service string `json:"service"`
	Epoch   string `json:"config_epoch"`
	State   string `json:"state"`           // running, paused, completed, rolled_back, superseded
	Phase   string `json:"phase,omitempty"` // while it runs: deploying, baking, final
	Summary string `json:"summary"`         // for a person, in one line

	Step  int               `json:"step"` // from 1
	Steps []RolloutStepInfo `json:"steps"`
	Since string            `json:"since"` // of the step; of the end, when it ended
	// Remaining is the rest of the bake of the step in seconds. It begins when all targets
	// have approved, and begins again with each leader.
	Remaining float64 `json:"bake_remaining"`

	RolloutVersions
	Plan      RolloutPlan `json:"plan"`
	Reason    string      `json:"reason"` // of the change
	StartedBy string      `json:"started_by"`
	StartedAt string      `json:"started_at"`
	Paused    string      `json:"paused,omitempty"` // why

	RolloutOutcome

	Complete  bool              `json:"complete"`      // false: the verdicts are not all known here
	Why       string            `json:"why,omitempty"` // it is not complete
	Instances []RolloutInstance `json:"instances"`
}

// RolloutVersions are the versions that a rollout is about.
type RolloutVersions struct {
	Stable    uint64 `json:"stable"` // now
	Candidate uint64 `json:"candidate"`
	Revert    uint64 `json:"revert"`
	// Values are the stored values of the candidate, where one rollout is asked for that runs.
	Values json.RawMessage `json:"values,omitempty"`
}

// RolloutOutcome says how a rollout ended.
type RolloutOutcome struct {
	Outcome string `json:"outcome,omitempty"` // why
	EndedBy string `json:"ended_by,omitempty"`
	EndedAt string `json:"ended_at,omitempty"`
}

// RolloutStepInfo is a step with what came of it.
type RolloutStepInfo struct {
	RolloutStep
	Targets int  `json:"targets"` // instances that match, of those that live; 0 for a step to come
	Begun   bool `json:"begun"`
}

// RolloutInstance is an instance of the service with its verdict on the candidate.
type RolloutInstance struct {
	Instance
	Target  bool   `json:"target"`
	Verdict string `json:"verdict,omitempty"`
}

// Ended reports whether nothing more comes of it.
func (r *RolloutInfo) Ended() bool {
	return r.State == RolloutCompleted || r.State == RolloutRolledBack || r.State == RolloutSuperseded
}
