package command

import (
	"cmp"
	"errors"
	"unicode/utf8"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// RolloutStart is the action of a Rollout that starts one. The others are those of a
// conf.RolloutMove.
const RolloutStart = "start"

// Rollout starts or moves the rollout of one service. It names the rollout by epoch, id and
// candidate, so that an entry that comes late, or twice, changes no other one. ID is the
// request id, as of an Edit.
type Rollout struct {
	ID        string        `json:"id,omitempty"`
	Epoch     string        `json:"epoch"`
	At        string        `json:"at"` // conf.FormatTime's form
	By        string        `json:"by,omitempty"`
	Reason    string        `json:"reason,omitempty"`
	Action    string        `json:"action"`
	Service   string        `json:"service"`
	Rollout   string        `json:"rollout"`          // its id
	Candidate uint64        `json:"candidate"`        // its version
	Step      int           `json:"step,omitempty"`   // that advance and promote leave
	Force     bool          `json:"force,omitempty"`  // promote also while it is paused
	Target    *conf.Target  `json:"target,omitempty"` // of the step that start and advance begin
	Begin     *RolloutBegin `json:"begin,omitempty"`  // of a start
	Audit     []conf.Access `json:"audit,omitempty"`
}

// RolloutBegin is what a start brings: two signed versions and the plan for them. Prev is
// the stable version; the candidate has the lowest version that was never given out nor
// reserved, the revert the one above it and the values of Prev.
type RolloutBegin struct {
	Prev      uint64             `json:"prev"`
	Candidate conf.SignedVersion `json:"candidate"`
	Revert    conf.SignedVersion `json:"revert"`
	Plan      conf.RolloutPlan   `json:"plan"`
	Salt      string             `json:"salt"`
}

// Kind is KindRollout.
func (*Rollout) Kind() Kind { return KindRollout }

// maxRolloutID is the highest number of bytes of the id of a rollout.
const maxRolloutID = 128

func checkRollout(c *Rollout) error {
	if err := cmp.Or(
		checkTime("at", c.At), conf.CheckService(c.Service),
		checkText("rollout", c.ID, c.Epoch, c.By, c.Reason, c.Action, c.Rollout), checkAccess(c.Audit),
	); err != nil {
		return err
	}
	bad := func(why string) error {
		return conf.Errorf(conf.CodeInternal, "encode a rollout of %s: %s", c.Service, why)
	}
	named := c.Action == conf.RolloutAdvance || c.Action == conf.RolloutPromote
	switch {
	case c.Action != RolloutStart && !named && c.Action != conf.RolloutRollback && c.Action != conf.RolloutPause && c.Action != conf.RolloutResume:
		return bad("it has the action " + c.Action)
	case c.Rollout == "" || len(c.Rollout) > maxRolloutID || c.Candidate == 0:
		return bad("it does not name the rollout")
	case c.Step < 0 || c.Step != 0 && !named:
		return bad("the step is not one that it leaves")
	case c.Force && c.Action != conf.RolloutPromote:
		return bad("only a promotion is forced")
	case (c.Target != nil) != (c.Action == RolloutStart || c.Action == conf.RolloutAdvance):
		return bad("a target goes with the step that begins")
	case (c.Begin != nil) != (c.Action == RolloutStart):
		return bad("a start, and nothing else, has versions and a plan")
	}
	if c.Target != nil {
		if err := checkTarget(c.Service, *c.Target); err != nil {
			return err
		}
	}
	if b := c.Begin; b != nil {
		if b.Candidate.Version != c.Candidate || b.Revert.Version != c.Candidate+1 || c.Candidate <= b.Prev {
			return bad("the versions do not follow each other")
		}
		return cmp.Or(checkSigned(c.Service, &b.Candidate), checkSigned(c.Service, &b.Revert), checkPlan(c.Service, &b.Plan), checkText(c.Service, b.Salt))
	}
	return nil
}

func checkSigned(service string, v *conf.SignedVersion) error {
	if v.Values == nil || v.Config == nil {
		return conf.Errorf(conf.CodeInternal, "encode a rollout of %s: version %d has no document", service, v.Version)
	}
	return cmp.Or(
		checkText(service, v.Checksum, v.Signature, v.KeyID, v.VersionSignature), checkTime("issued_at of "+service, v.IssuedAt),
		errors.Join(checkJSON(service+" values", v.Values), checkJSON(service+" config", v.Config)),
	)
}

// checkPlan checks what encoding depends on. Whether the plan makes sense is decided by who
// proposes it.
func checkPlan(service string, p *conf.RolloutPlan) error {
	if len(p.Steps) == 0 {
		return conf.Errorf(conf.CodeInternal, "encode a rollout of %s: its plan has no steps", service)
	}
	return cmp.Or(
		checkText(service, p.Preset, p.FinalBake, p.Deadline, p.Require, p.OnLost),
		checkAll(p.Steps, func(s conf.RolloutStep) error {
			return cmp.Or(checkLabels(service, s.Labels), checkText(service, s.Instances...), checkText(service, s.Bake))
		}),
	)
}

func checkTarget(service string, t conf.Target) error {
	return cmp.Or(checkLabels(service, t.Labels), checkText(service, t.Instances...))
}

func checkLabels(service string, labels map[string]string) error {
	for k, v := range labels {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return checkText(service, k, v)
		}
	}
	return nil
}
