package command

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func signedSample(version uint64, doc, at string) conf.SignedVersion {
	return conf.SignedVersion{
		Version: version, Values: json.RawMessage(doc), Config: json.RawMessage(doc), Checksum: "c0ffee", IssuedAt: at,
		Signature: "c2ln+/==", KeyID: "0011223344556677", VersionSignature: "dmVy+/==",
	}
}

func rolloutSamples(at string) map[string]Command {
	audit := []conf.Access{{UserID: "ann", Action: "write", Service: "stt-worker", Success: true, Reason: "rollout start", Timestamp: at}}
	move := func(action string) *Rollout {
		return &Rollout{Epoch: "5a0c3f1e", At: at, By: "ann", Action: action, Service: "stt-worker", Rollout: "stt-worker-8-0a1b2c", Candidate: 8}
	}
	advance, promote, rollback, pause := move("advance"), move("promote"), move("rollback"), move("pause")
	advance.Step, advance.Target = 1, &conf.Target{Below: 1 << 63, Labels: map[string]string{"zone": "b", "tier": "<canary>"}}
	promote.Step, promote.Force, promote.ID = 2, true, "ann/1"
	rollback.Reason, pause.Reason = "stt-2 refused: port in use", "stt-3 is lost"
	return map[string]Command{
		"rollout-start": &Rollout{
			ID: "ann/0", Epoch: "5a0c3f1e", At: at, By: "ann", Reason: "a <reason> & more", Action: "start", Service: "stt-worker",
			Rollout: "stt-worker-8-0a1b2c", Candidate: 8, Target: &conf.Target{Instances: []string{"stt-2", "stt-1"}},
			Begin: &RolloutBegin{
				Prev: 7, Candidate: signedSample(8, awkward, at), Revert: signedSample(9, `{}`, at), Salt: "00ff",
				Plan: conf.RolloutPlan{
					Preset: "canary", Steps: []conf.RolloutStep{
						{Count: 1, Bake: "2m0s"}, {Percent: 12.5, Bake: "2m0s"}, {Labels: map[string]string{"zone": "a"}}, {Instances: []string{"stt-2"}}, {Percent: 100},
					},
					FinalBake: "5m0s", Deadline: "1m0s", Require: "auto", MaxRejected: 1, MaxUnhealthy: 2, OnLost: "pause",
				},
			},
			Audit: audit,
		},
		"rollout-all": &Rollout{
			Epoch: "e", At: at, Action: "start", Service: "a", Rollout: "a-2-000000", Candidate: 2, Target: &conf.Target{Below: math.MaxUint64},
			Begin: &RolloutBegin{
				Prev: 1, Candidate: signedSample(2, `{"a":1}`, at), Revert: signedSample(3, `{}`, at),
				Plan: conf.RolloutPlan{Steps: []conf.RolloutStep{{Percent: 100}}, Deadline: "1m0s", Require: "read", OnLost: "continue"},
			},
		},
		"rollout-advance": advance, "rollout-promote": promote, "rollout-rollback": rollback, "rollout-pause": pause, "rollout-resume": move("resume"),
		"edit-replace": &Edit{Epoch: "e", At: at, Action: ActionPut, Replace: true, Updates: []Update{{
			Service: "router", Prev: 1, Version: 4, Values: json.RawMessage(`{}`), Config: json.RawMessage(`{}`), Checksum: "44136f",
			IssuedAt: at, Signature: "c2ln", KeyID: "0011223344556677",
		}}},
		"reissue-staged": &Reissue{Epoch: "e", At: at, KeyID: "0011223344556677", Items: []ReissueItem{{
			Service: "router", Version: 5, Signature: "c2ln+/==",
			Staged: []StagedItem{{Version: 6, IssuedAt: at, Signature: "c2ln"}, {Version: 7, IssuedAt: at, Signature: "c2ln", VersionSignature: "dmVy"}},
		}}},
	}
}

func badRollouts() map[string]Command {
	of := func(name string, f func(*Rollout)) *Rollout {
		c := rolloutSamples(hourAt)["rollout-"+name].(*Rollout)
		f(c)
		return c
	}
	begin := func(f func(*RolloutBegin)) *Rollout { return of("start", func(c *Rollout) { f(c.Begin) }) }
	staged := rolloutSamples(hourAt)["reissue-staged"].(*Reissue)
	staged.Items[0].Staged[0].IssuedAt = "now"
	return map[string]Command{
		"rollout time":             of("pause", func(c *Rollout) { c.At = "now" }),
		"rollout service":          of("pause", func(c *Rollout) { c.Service = "A b" }),
		"rollout action":           of("pause", func(c *Rollout) { c.Action = "stop" }),
		"rollout without id":       of("pause", func(c *Rollout) { c.Rollout = "" }),
		"rollout long id":          of("pause", func(c *Rollout) { c.Rollout = strings.Repeat("x", maxRolloutID+1) }),
		"rollout no candidate":     of("pause", func(c *Rollout) { c.Candidate = 0 }),
		"rollout reason":           of("pause", func(c *Rollout) { c.Reason = "\xff" }),
		"pause of a step":          of("pause", func(c *Rollout) { c.Step = 1 }),
		"pause with a target":      of("pause", func(c *Rollout) { c.Target = &conf.Target{} }),
		"forced rollback":          of("rollback", func(c *Rollout) { c.Force = true }),
		"advance without a target": of("advance", func(c *Rollout) { c.Target = nil }),
		"advance target":           of("advance", func(c *Rollout) { c.Target.Instances = []string{"\xff"} }),
		"advance label":            of("advance", func(c *Rollout) { c.Target.Labels["\xff"] = "a" }),
		"advance label value":      of("advance", func(c *Rollout) { c.Target.Labels["a"] = "\xff" }),
		"advance back":             of("advance", func(c *Rollout) { c.Step = -1 }),
		"promote with versions":    of("promote", func(c *Rollout) { c.Begin = &RolloutBegin{} }),
		"start without versions":   of("start", func(c *Rollout) { c.Begin = nil }),
		"start without a target":   of("start", func(c *Rollout) { c.Target = nil }),
		"start of a step":          of("start", func(c *Rollout) { c.Step = 1 }),
		"start other candidate":    of("start", func(c *Rollout) { c.Candidate = 9 }),
		"start other revert":       begin(func(b *RolloutBegin) { b.Revert.Version++ }),
		"start not after prev":     begin(func(b *RolloutBegin) { b.Prev = 8 }),
		"start no document":        begin(func(b *RolloutBegin) { b.Candidate.Config = nil }),
		"start no values":          begin(func(b *RolloutBegin) { b.Revert.Values = nil }),
		"start loose document":     begin(func(b *RolloutBegin) { b.Candidate.Values = json.RawMessage(`{ }`) }),
		"start issued":             begin(func(b *RolloutBegin) { b.Candidate.IssuedAt = "now" }),
		"start signature":          begin(func(b *RolloutBegin) { b.Revert.Signature = "\xff" }),
		"start no steps":           begin(func(b *RolloutBegin) { b.Plan.Steps = nil }),
		"start step":               begin(func(b *RolloutBegin) { b.Plan.Steps[3].Instances[0] = "\xff" }),
		"start plan":               begin(func(b *RolloutBegin) { b.Plan.Deadline = "\xff" }),
		"start salt":               begin(func(b *RolloutBegin) { b.Salt = "\xff" }),
		"start not a number":       begin(func(b *RolloutBegin) { b.Plan.Steps[0].Percent = math.NaN() }),
		"reissue staged":           staged,
	}
}

// What is for rollouts in other kinds needs a bit of its own, and nothing else of them does.
func TestRolloutsNeedTheirBit(t *testing.T) {
	for name, c := range samples() {
		need := name == "edit-replace" || name == "reissue-staged"
		if got := RequiredFeatures(c)&featureRollouts != 0; got != need {
			t.Errorf("%s needs %b", name, RequiredFeatures(c))
		}
	}
}

// An entry of a rollout has one form: what another build writes more, or otherwise, is not
// taken for less.
func TestDecodeRefusesRollouts(t *testing.T) {
	good := `{"epoch":"e","at":"t","action":"pause","service":"a","rollout":"a-2-0","candidate":2}`
	if _, err := Decode([]byte("\x01\x0b" + good)); err != nil {
		t.Fatalf("the base of the cases is refused: %v", err)
	}
	for name, data := range map[string]string{
		"other order": `{"at":"t","epoch":"e","action":"pause","service":"a","rollout":"a-2-0","candidate":2}`,
		"zero step":   strings.Replace(good, `2}`, `2,"step":0}`, 1),
		"duplicate":   strings.Replace(good, `2}`, `2,"candidate":2}`, 1),
		"null target": strings.Replace(good, `2}`, `2,"target":null}`, 1),
		"missing":     strings.Replace(good, `"service":"a",`, ``, 1),
		"number":      strings.Replace(good, `2}`, `2,"target":{"below":7}}`, 1),
		"edit false":  "",
	} {
		kind := "\x01\x0b"
		if name == "edit false" {
			kind, data = "\x01\x02", `{"epoch":"e","at":"t","action":"put","replace":false}`
		}
		if c, err := Decode([]byte(kind + data)); err == nil || errors.Is(err, ErrUnknownVersion) {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
	if _, err := Decode([]byte("\x01\x0b" + strings.Replace(good, `2}`, `2,"wave":1}`, 1))); !errors.Is(err, ErrUnknownVersion) {
		t.Errorf("a member of a newer build: %v", err)
	}
}
