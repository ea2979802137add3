package conf

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"iter"
	"math"
	"slices"
)

// Staged is what the log has of a service beside its stable version. Most services have
// none: it begins with a rollout, and ends with a stable version that is the highest ever
// given out, or with the epoch. Record.Floor is right with and without it.
type Staged struct {
	// Floor is the highest version that was given out or reserved. The next edit gets the
	// version above it.
	Floor uint64 `json:"floor"`
	// Rollout is the one that runs, nil for none.
	Rollout *Rollout `json:"rollout,omitempty"`
	// Kept is the revert of the last promoted rollout, for the agents that are held back on
	// it, until a stable version of other content than the promoted one is above it.
	Kept *SignedVersion `json:"kept,omitempty"`
}

// SignedVersion is a version of a service that is signed and not stable: the candidate or
// the revert of a rollout. Secrets and schema are those of the stable version.
type SignedVersion struct {
	Version   uint64          `json:"version"`
	Values    json.RawMessage `json:"values"` // as in Record
	Config    json.RawMessage `json:"config"` // as in Record
	Checksum  string          `json:"checksum"`
	IssuedAt  string          `json:"issued_at"`
	Signature string          `json:"signature"`
	KeyID     string          `json:"key_id"`

	VersionSignature string `json:"version_signature,omitempty"`
}

// Record returns the record of an agent that serves v, where stable is the record of the
// service. at and by are those of the rollout.
func (v *SignedVersion) Record(stable *Record, at, by string) *Record {
	r := *stable
	r.Version, r.Values, r.Config, r.Checksum, r.IssuedAt = v.Version, v.Values, v.Config, v.Checksum, v.IssuedAt
	r.Signature, r.KeyID, r.VersionSignature = v.Signature, v.KeyID, v.VersionSignature
	r.UpdatedAt, r.UpdatedBy, r.Deleted = at, by, false
	return &r
}

// Rollout is a change of one service that goes to some instances before it is stable. Its
// revert, the stable values at a version above the candidate's, is signed beforehand, so
// that an agent can go on to it alone.
type Rollout struct {
	ID        string        `json:"id"` // chosen by the leader that starts it: service, "-", candidate version, "-", 6 hex digits
	Candidate SignedVersion `json:"candidate"`
	Revert    SignedVersion `json:"revert"` // Candidate.Version + 1
	Plan      RolloutPlan   `json:"plan"`
	Salt      string        `json:"salt"` // of the order in which instances are chosen
	StartedAt string        `json:"started_at"`
	StartedBy string        `json:"started_by"`
	Reason    string        `json:"reason"`

	Step    int      `json:"step"`             // index in Plan.Steps of the step that runs
	StepAt  string   `json:"step_at"`          // when it began
	StepIdx uint64   `json:"step_idx"`         // log index at which it began
	Targets []Target `json:"targets"`          // one for each step begun; an instance that matches any is a target
	Paused  string   `json:"paused,omitempty"` // why; empty: it runs
}

// RolloutPlan says how a rollout goes on.
type RolloutPlan struct {
	Preset       string        `json:"preset,omitempty"`     // canary, linear; empty: none
	Steps        []RolloutStep `json:"steps"`                // at least one; the last has all instances
	FinalBake    string        `json:"final_bake,omitempty"` // of the last step, a duration as Go writes it
	Deadline     string        `json:"deadline"`             // for the targets of a step to take it, else it pauses
	Require      string        `json:"require"`              // RequireAuto and so on
	MaxRejected  int           `json:"max_rejected"`
	MaxUnhealthy int           `json:"max_unhealthy"`
	OnLost       string        `json:"on_lost"` // OnLostPause, OnLostContinue
}

// RolloutStep is a step of a plan: one of Count, Percent, Labels and Instances.
type RolloutStep struct {
	Count     int               `json:"count,omitempty"`
	Percent   float64           `json:"percent,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	Instances []string          `json:"instances,omitempty"`
	Bake      string            `json:"bake,omitempty"` // a duration: how long its targets run it before the next step
}

// What an instance has to say before it counts as an approval.
const (
	RequireAuto     = "auto" // applied where the service has ever acknowledged, else read
	RequireReceived = "received"
	RequireRead     = "read"
	RequireApplied  = "applied"
)

// What a rollout does when a target of its step is lost.
const (
	OnLostPause    = "pause"
	OnLostContinue = "continue"
)

// Target chooses instances. Below is compared with TargetHash; an empty Target has none.
type Target struct {
	Below     uint64            `json:"below,string,omitempty"` // instances whose hash is lower; math.MaxUint64: all
	Labels    map[string]string `json:"labels,omitempty"`       // instances that have all of these
	Instances []string          `json:"instances,omitempty"`    // instances with these names
}

// Has reports whether t chooses an instance; hash is its TargetHash.
func (t *Target) Has(hash uint64, instance string, labels map[string]string) bool {
	if hash < t.Below || t.Below == math.MaxUint64 || slices.Contains(t.Instances, instance) {
		return true
	}
	for name, value := range t.Labels {
		if have, ok := labels[name]; !ok || have != value {
			return false
		}
	}
	return len(t.Labels) > 0
}

// TargetHash is the place of an instance in the order of a rollout: the first eight bytes
// of SHA-256 of salt, a line feed and the instance, big endian.
func TargetHash(salt, instance string) uint64 {
	sum := sha256.Sum256([]byte(salt + "\n" + instance))
	return binary.BigEndian.Uint64(sum[:8])
}

// States of a rollout in the API.
const (
	RolloutRunning    = "running"
	RolloutPaused     = "paused"
	RolloutCompleted  = "completed"   // promoted: the candidate is stable
	RolloutRolledBack = "rolled_back" // the revert is stable
	RolloutSuperseded = "superseded"  // replaced by an edit, or ended by a new epoch
)

// KeepRollouts is how many rollouts that ended are kept of each service.
const KeepRollouts = 100

// RolloutEnd is a rollout as the log has it, the one that runs or one that ended. The newest
// KeepRollouts that ended are kept of each service.
type RolloutEnd struct {
	Service string  `json:"service"`
	Rollout Rollout `json:"rollout"` // after the end without the documents of candidate and revert
	Epoch   string  `json:"config_epoch"`
	State   string  `json:"state"`
	Reason  string  `json:"reason"` // of the end, or why it is paused
	By      string  `json:"by"`     // of the end; empty while it runs
	At      string  `json:"at"`     // of the end; empty while it runs
}

// What a Draft does about a rollout of its service.
const (
	RolloutReplace = "replace" // ends the one that runs, in the same log entry
	RolloutNone    = "none"    // starts none, though the schema of the service asks for one
)

// RolloutDraft is a rollout that is asked for, before it is validated and signed. Its Draft
// is an OpPut or an OpPatch.
type RolloutDraft struct {
	Draft
	Plan   RolloutPlan `json:"plan"`
	Target Target      `json:"target"` // of the first step
	Salt   string      `json:"salt"`   // by which Target was chosen: the one of the rollout
}

// Actions of a RolloutMove.
const (
	RolloutAdvance  = "advance" // to the next step, which has Target
	RolloutPromote  = "promote"
	RolloutRollback = "rollback"
	RolloutPause    = "pause"
	RolloutResume   = "resume"
)

// RolloutMove is what the leader, or a person, does with a rollout that runs.
type RolloutMove struct {
	Service   string `json:"service"`
	ID        string `json:"id"`
	Action    string `json:"action"`
	Step      int    `json:"step"`             // the step that RolloutAdvance and RolloutPromote leave
	Target    Target `json:"target,omitzero"`  // RolloutAdvance: of the next step
	Force     bool   `json:"force,omitempty"`  // RolloutPromote: also while it is paused, which a person does
	Reason    string `json:"reason,omitempty"` // RolloutRollback, RolloutPause
	By        string `json:"by"`
	RequestID string `json:"request_id,omitempty"`
}

// RolloutActive is the error for a change of a service while the rollout id of it runs.
func RolloutActive(service, id string) *Error {
	return Errorf(CodeRolloutActive, "the rollout %s of %s runs", id, service).
		WithHint("wait for its end, end it (holdfast rollout abort %s), or replace it by this change (?rollout=replace)", id)
}

// NoRollout is the error for a rollout that does not exist.
func NoRollout(id string) *Error {
	return Errorf(CodeNotFound, "no rollout %q", id).WithHint("list them: holdfast rollout status")
}

// Floor is the highest version of the service that was given out or reserved in its epoch.
// It is the stable one where no rollout reserved another.
func (r *Record) Floor() uint64 {
	if r.Staged == nil {
		return r.Version
	}
	return max(r.Version, r.Staged.Floor)
}

// Channels of what an agent serves and what is not stable. Metadata has the first one alone.
const (
	ChannelCandidate = "candidate"
	ChannelRevert    = "revert" // of a candidate that was refused at that agent
)

// Channel is the channel of what an agent serves; empty for what is stable.
func (r *Record) Channel() string {
	switch st := r.Staged; {
	case st == nil:
	case st.Rollout != nil && r.Version == st.Rollout.Candidate.Version:
		return ChannelCandidate
	case st.Rollout != nil && r.Version == st.Rollout.Revert.Version, st.Kept != nil && r.Version == st.Kept.Version:
		return ChannelRevert
	}
	return ""
}

// CandidateOf returns the rollout that runs and whose candidate r is, nil for none. A stable
// record is no candidate.
func (r *Record) CandidateOf() *Rollout {
	if r.Channel() != ChannelCandidate {
		return nil
	}
	return r.Staged.Rollout
}

// KeyIDs are the ids of the keys that signed r: its stable version, and what is staged.
func (r *Record) KeyIDs() iter.Seq[string] {
	return func(yield func(string) bool) {
		if r.KeyID != "" && !yield(r.KeyID) {
			return
		}
		for v := range r.Staged.Signed() {
			if !yield(v.KeyID) {
				return
			}
		}
	}
}

// Signed are the versions that are signed beside the stable one. s may be nil.
func (s *Staged) Signed() iter.Seq[*SignedVersion] {
	return func(yield func(*SignedVersion) bool) {
		if s == nil {
			return
		}
		if ro := s.Rollout; ro != nil && (!yield(&ro.Candidate) || !yield(&ro.Revert)) {
			return
		}
		if s.Kept != nil {
			yield(s.Kept)
		}
	}
}
