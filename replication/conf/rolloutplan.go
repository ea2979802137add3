package conf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Limits of a plan, and what it says when it says nothing.
const (
	MaxRolloutSteps    = 20
	MaxRolloutTargets  = 1000 // names of instances in one step
	MaxRolloutDuration = 30 * 24 * time.Hour

	RolloutDeadline = time.Minute
)

// The presets of a plan, which are also the values of ?rollout= and of x-rollout.
const (
	PresetCanary = "canary" // one instance, 25 %, all
	PresetLinear = "linear" // 10 % after 10 %
)

// CheckRollout checks the id of a rollout.
func CheckRollout(id string) error {
	return checkName("id of a rollout", id, MaxName+40, serviceRE, "the name of the service, the candidate's version and six digits, with hyphens between them")
}

// RolloutPresets are the names of the presets.
func RolloutPresets() []string { return []string{PresetCanary, PresetLinear} }

// presetSteps returns the steps of a preset, nil when there is none of that name.
func presetSteps(name string) []RolloutStep {
	switch name {
	case PresetCanary:
		return []RolloutStep{{Count: 1, Bake: "2m"}, {Percent: 25, Bake: "2m"}, {Percent: 100, Bake: "2m"}}
	case PresetLinear:
		var out []RolloutStep
		for p := 10; p <= 100; p += 10 {
			out = append(out, RolloutStep{Percent: float64(p), Bake: "2m"})
		}
		return out
	default:
		return nil
	}
}

// ParseRolloutPlan reads a plan as x-rollout has it: the name of a preset, or an object.
func ParseRolloutPlan(data []byte) (RolloutPlan, error) {
	var p RolloutPlan
	if text := bytes.TrimSpace(data); len(text) > 0 && text[0] == '"' {
		if err := json.Unmarshal(text, &p.Preset); err != nil {
			return p, Errorf(CodeMalformed, "the plan: %w", err)
		}
	} else if err := DecodeRollout(data, &p); err != nil {
		return p, err
	}
	return CompletePlan(p)
}

// DecodeRollout decodes a plan, or a request with one, as strictly as DecodeStrict does,
// in the steps too: a step with a misspelled member would have all instances.
func DecodeRollout(data []byte, dst any) error {
	if err := DecodeStrict(data, len(data), dst); err != nil {
		return err
	}
	var in struct {
		Steps []json.RawMessage `json:"steps"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return Errorf(CodeMalformed, "malformed JSON: %w", err)
	}
	for i, raw := range in.Steps {
		var s RolloutStep
		if err := DecodeStrict(raw, len(raw), &s); err != nil {
			e, ok := errors.AsType[*Error](err)
			if !ok {
				return err
			}
			at := *e
			at.Message = fmt.Sprintf("steps.%d: %s", i+1, e.Message)
			return &at
		}
	}
	return nil
}

// CompletePlan fills in what p leaves out and checks it: the error has a detail for each
// member that is wrong.
func CompletePlan(p RolloutPlan) (RolloutPlan, error) {
	c := planCheck{}
	if p.Preset != "" {
		steps := presetSteps(p.Preset)
		switch {
		case steps == nil:
			c.bad("preset", "%q is not one of %s", Clip(p.Preset), strings.Join(RolloutPresets(), ", "))
		case p.Steps == nil:
			p.Steps = steps
		}
	}
	if len(p.Steps) == 0 && len(c.details) == 0 {
		c.bad("steps", "at least one is needed, or a preset: %s", strings.Join(RolloutPresets(), ", "))
	}
	if len(p.Steps) > MaxRolloutSteps {
		c.bad("steps", "there are %d, at most %d are allowed", len(p.Steps), MaxRolloutSteps)
		p.Steps = p.Steps[:MaxRolloutSteps]
	}
	p.Steps = slices.Clone(p.Steps)
	for i := range p.Steps {
		c.step(fmt.Sprintf("steps.%d", i+1), &p.Steps[i])
	}
	if n := len(p.Steps); n > 0 && p.Steps[n-1].Percent != 100 {
		p.Steps = append(p.Steps, RolloutStep{Percent: 100}) // the last one has all instances
	}
	if n := len(p.Steps); n > 0 {
		if p.FinalBake == "" {
			p.FinalBake = p.Steps[n-1].Bake
		}
		p.Steps[n-1].Bake = p.FinalBake
	}
	c.duration("final_bake", &p.FinalBake, 0)
	c.duration("deadline", &p.Deadline, RolloutDeadline)
	c.oneOf("require", &p.Require, RequireAuto, RequireReceived, RequireRead, RequireApplied)
	c.oneOf("on_lost", &p.OnLost, OnLostPause, OnLostContinue)
	c.count("max_rejected", p.MaxRejected)
	c.count("max_unhealthy", p.MaxUnhealthy)
	if len(c.details) == 0 {
		return p, nil
	}
	noun := "member is"
	if len(c.details) > 1 {
		noun = "members are"
	}
	e := Errorf(CodeInvalid, "%d %s wrong in the plan of the rollout: %s: %s", len(c.details), noun, c.details[0].Key, c.details[0].Message).
		WithHint(`begin with {"preset": "canary"}; each step has one of count, percent, labels and instances, and a bake such as "2m"`)
	e.Details = c.details
	return p, e
}

// planCheck collects what is wrong in a plan.
type planCheck struct{ details []FieldError }

func (c *planCheck) bad(key, format string, args ...any) {
	c.details = append(c.details, FieldError{Key: key, Message: fmt.Sprintf(format, args...)})
}

func (c *planCheck) step(at string, s *RolloutStep) {
	kinds := 0
	for _, given := range []bool{s.Count != 0, s.Percent != 0, len(s.Labels) > 0, len(s.Instances) > 0} {
		if given {
			kinds++
		}
	}
	if kinds != 1 {
		c.bad(at, "has %d of count, percent, labels and instances; give one of them", kinds)
	}
	if s.Count < 0 {
		c.bad(at+".count", "must be 1 or more")
	}
	if s.Percent < 0 || s.Percent > 100 {
		c.bad(at+".percent", "must be above 0 and at most 100")
	}
	if len(s.Instances) > MaxRolloutTargets {
		c.bad(at+".instances", "has %d names, at most %d are allowed; use labels", len(s.Instances), MaxRolloutTargets)
	}
	for _, name := range s.Instances {
		if name == "" || len(name) > MaxName {
			c.bad(at+".instances", "%q is not the name of an instance: it has 1 to %d bytes", Clip(name), MaxName)
			break
		}
	}
	for _, k := range SortedKeys(s.Labels) {
		if k == "" || len(k) > MaxName || len(s.Labels[k]) > MaxName {
			c.bad(at+".labels", "%q is not a label: name and value have at most %d bytes", Clip(k), MaxName)
			break
		}
	}
	c.duration(at+".bake", &s.Bake, 0)
}

// duration checks a duration, and writes the default, if there is one, into an empty one.
func (c *planCheck) duration(key string, s *string, byDefault time.Duration) {
	if *s == "" {
		if byDefault > 0 {
			*s = byDefault.String()
		}
		return
	}
	d, err := time.ParseDuration(*s)
	if err != nil || d < 0 || d > MaxRolloutDuration || (d == 0 && byDefault > 0) {
		c.bad(key, "%q is not a duration such as 30s, 2m or 1h, of 30 days at most", Clip(*s))
	}
}

func (c *planCheck) oneOf(key string, s *string, allowed ...string) {
	if *s == "" {
		*s = allowed[0]
	}
	if !slices.Contains(allowed, *s) {
		c.bad(key, "%q is not one of %s", Clip(*s), strings.Join(allowed, ", "))
	}
}

func (c *planCheck) count(key string, n int) {
	if n < 0 || n > MaxRolloutTargets {
		c.bad(key, "must be from 0 to %d", MaxRolloutTargets)
	}
}

// BakeOf is how long the targets of a step run it before the next one.
func (p *RolloutPlan) BakeOf(step int) time.Duration {
	if step < 0 || step >= len(p.Steps) {
		return 0
	}
	d, _ := time.ParseDuration(p.Steps[step].Bake) // checked before it entered the log
	return d
}

// DeadlineOf is how long the targets of a step may take.
func (p *RolloutPlan) DeadlineOf() time.Duration {
	if d, err := time.ParseDuration(p.Deadline); err == nil {
		return d
	}
	return RolloutDeadline
}
