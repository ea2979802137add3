package served

import (
	"context"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Causes of a verdict.
const (
	CauseAck    = "ack"    // the service said so
	CauseHealth = "health" // it became unhealthy
	CauseExit   = "exit"   // it ended, under holdfast exec
)

// Verdict is why a service refuses what is served.
type Verdict struct {
	Reason  string           `json:"reason"`
	Details []conf.AckDetail `json:"details,omitempty"`
	Worker  string           `json:"worker,omitempty"`
	Cause   string           `json:"cause"`
	At      string           `json:"at"` // FormatTime's form; Refuse sets it
}

// Mark is a refusal, as it is on the disk. It is complete in itself, and immutable.
type Mark struct {
	Service string             `json:"service"`
	Epoch   string             `json:"config_epoch"`
	Rollout string             `json:"rollout"`        // its id
	Refused uint64             `json:"refused"`        // the version that was refused
	Content string             `json:"content_digest"` // of what was refused: document, sealed secrets, schema
	Revert  conf.SignedVersion `json:"revert"`
	At      string             `json:"revert_updated_at"`
	By      string             `json:"revert_updated_by"`
	Verdict Verdict            `json:"verdict"`
}

// State is what this agent serves of one service.
type State struct {
	Record    *conf.Record // served now; nil: nothing
	Candidate bool         // Record is the candidate of a rollout that runs
	Rollout   string       // id of the rollout of the candidate or of the mark; empty: neither
	// CanRefuse: Record has a revert, so that Refuse is no conflict. It has one while it is
	// the candidate, and after it was promoted here.
	CanRefuse bool
	Mark      *Mark  // nil: nothing of this epoch is refused
	Joined    uint64 // log index at which this agent became an instance of the service; 0: it is none, or has not caught up yet
}

// Channel is the channel of the document: "candidate" or empty.
func (s State) Channel() string {
	if s.Candidate {
		return "candidate"
	}
	return ""
}

// Chosen reports whether an instance is a target of the step of a rollout that runs.
// joined is the log index at which it became an instance of the service: one that is
// not below the index of the step joined too late for it. 0 means not known, and is no
// target. It does not tell who is held back: those are no targets either (rule 12).
func Chosen(r *conf.Rollout, instance string, labels map[string]string, joined uint64) bool {
	if joined == 0 || joined >= r.StepIdx {
		return false
	}
	hash := conf.TargetHash(r.Salt, instance)
	for i := range r.Targets {
		if r.Targets[i].Has(hash, instance, labels) {
			return true
		}
	}
	return false
}

// Served is what this agent serves. Make it with New.
type Served struct{}

// State returns what is served of a service, and Joined of one that has no record too.
func (s *Served) State(service string) State { return State{} }

// Changed returns a channel that is closed at the next change of any State.
func (s *Served) Changed() <-chan struct{} { return nil }

// Refuse takes the service's word that it cannot run a version that is served here. When
// it returns nil, the refusal is on the disk and the revert is served. To refuse the same
// again changes nothing. The error is CodeConflict when that version is not served here
// or has no revert: a version that was stable when this agent got it has none.
func (s *Served) Refuse(ctx context.Context, service, epoch string, version uint64, v Verdict) error {
	return conf.Errorf(conf.CodeUnsupported, "not yet")
}

// Join makes this agent an instance of a service that acknowledges here; it is one of
// those of its settings already. It is on the disk when Join returns. A service that
// joins while a step runs is no target of that step. Repeats change nothing.
func (s *Served) Join(ctx context.Context, service string) error {
	return conf.Errorf(conf.CodeUnsupported, "not yet")
}

// Services lists the services that this agent is an instance of.
func (s *Served) Services() []string { return nil }
