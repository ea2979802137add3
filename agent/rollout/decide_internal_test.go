package rollout

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/agent/instances"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// record has v7 stable and a rollout of v8 that is at its first step, of one instance.
func record() *conf.Record {
	p, err := conf.CompletePlan(conf.RolloutPlan{Steps: []conf.RolloutStep{{Count: 1, Bake: "10s"}, {Percent: 100}}, FinalBake: "20s", Deadline: "60s"})
	if err != nil {
		panic(err)
	}
	return &conf.Record{Service: "stt", Version: 7, Epoch: "e", Staged: &conf.Staged{Floor: 9, Rollout: &conf.Rollout{
		ID: "stt-8-abcdef", Candidate: conf.SignedVersion{Version: 8}, Revert: conf.SignedVersion{Version: 9}, Plan: p, Salt: "s",
		StartedAt: conf.FormatTime(epoch), StepIdx: 100, Targets: []conf.Target{{Instances: []string{"i0"}}},
	}}}
}

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// desk is a controller at one rollout, with a clock.
type desk struct {
	t   *testing.T
	rec *conf.Record
	all []instances.Heard
	mem memory
	now time.Duration // since the term began
}

func newDesk(t *testing.T, n int) *desk { return &desk{t: t, rec: record(), all: live(n), now: settle} }

func (d *desk) decide() decision {
	return decide(&facts{rec: d.rec, heard: d.all, term: 3, ready: epoch, now: epoch.Add(d.now), settle: settle, heartbeat: heartbeat}, &d.mem)
}

func (d *desk) ro() *conf.Rollout { return d.rec.Staged.Rollout }

// wants fails when the decision at a time is another one.
func (d *desk) wants(at time.Duration, action string, words ...string) decision {
	d.t.Helper()
	d.now = at
	got := d.decide()
	if got.action != action {
		d.t.Fatalf("after %v: %q (%s), want %q", at, got.action, got.why, action)
	}
	for _, w := range words {
		if !strings.Contains(got.why, w) {
			d.t.Errorf("after %v: %q does not say %q", at, got.why, w)
		}
	}
	return got
}

func (d *desk) says(i int, version uint64, s conf.InstanceStatus) {
	d.all[i].Version, d.all[i].Status = version, s
}

const (
	nothing  = ""
	advance  = conf.RolloutAdvance
	promote  = conf.RolloutPromote
	pause    = conf.RolloutPause
	rollback = conf.RolloutRollback
)

func TestAWholeRollout(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 4)
	d.wants(5*time.Second, nothing)
	d.says(0, 8, conf.InstanceReceived)
	d.wants(6*time.Second, nothing) // nobody read it
	d.says(0, 8, conf.InstanceRead)
	d.wants(7*time.Second, nothing)
	d.wants(16*time.Second, nothing) // the bake
	got := d.wants(17*time.Second, advance, "1 of 1 approved")
	if got.target.Below != math.MaxUint64 || len(got.target.Instances) != 4 {
		t.Errorf("%+v", got.target)
	}
	d.ro().Step, d.ro().Targets, d.ro().StepIdx = 1, append(d.ro().Targets, got.target), 120
	d.wants(18*time.Second, nothing)
	for i := range 4 {
		d.says(i, 8, conf.InstanceRead)
	}
	d.wants(20*time.Second, nothing)
	d.wants(39*time.Second, nothing)
	d.wants(40*time.Second, promote, "4 of 4")
}

func TestARefusalRollsBack(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 3)
	d.says(0, 8, conf.InstanceApplied)
	d.wants(5*time.Second, nothing)
	d.says(0, 9, conf.InstanceRead)
	d.all[0].Refused, d.all[0].Revert, d.all[0].Reason = 8, 9, "port in use"
	d.wants(6*time.Second, rollback, "i0 refused version 8: port in use")
	// Its words stay, whatever it says later, and while it is paused.
	d.all[0].Refused, d.all[0].Version, d.ro().Paused = 0, 8, "by hand"
	d.wants(20*time.Second, rollback, "port in use")
	// Also from one that vanished, which the step named.
	d.all = nil
	d.wants(21*time.Second, rollback, "port in use")
}

// In the first moments of a term a refusal counts, and nothing else.
func TestANewTerm(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 2)
	d.ro().Plan.Steps[0].Bake = ""
	d.says(0, 8, conf.InstanceRead)
	d.wants(settle-1, nothing)
	d.wants(settle, advance)

	d = newDesk(t, 2)
	d.all[0].Refused, d.all[0].Revert = 8, 9
	d.wants(0, rollback)

	d = newDesk(t, 2)
	d.all[0].Term = 2 // made for an earlier leader
	d.says(0, 8, conf.InstanceRead)
	d.wants(settle, nothing)

	// A target that the leader before named, and that this one never hears of, is waited
	// for two heartbeats, and is lost then.
	d = newDesk(t, 1)
	d.ro().Plan.Deadline = "1h"
	d.ro().Targets = []conf.Target{{Instances: []string{"i0", "gone"}}}
	d.says(0, 8, conf.InstanceApplied)
	d.wants(settle, nothing)
	d.wants(2*heartbeat-1, nothing)
	d.wants(2*heartbeat, pause, "gone is lost")
	d.ro().Plan.OnLost = conf.OnLostContinue
	d.wants(2*heartbeat+1, nothing)
	d.wants(2*heartbeat+11*time.Second, advance, "1 of 2 approved")
}

func TestSilencePauses(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 2)
	d.wants(settle, nothing)
	d.wants(settle+59*time.Second, nothing)
	d.wants(settle+60*time.Second, pause, "i0 did not approve version 8")
	d.ro().Paused = "silence"
	d.wants(settle+100*time.Second, nothing)
	d.ro().Paused = "" // resumed: the deadline begins again
	d.wants(settle+101*time.Second, nothing)
	d.wants(settle+161*time.Second, pause)

	// A step without one approval never passes: all its targets joined during it.
	d = newDesk(t, 1)
	d.all[0].Joined = 100
	d.ro().Plan.Steps[0].Bake = ""
	d.says(0, 7, conf.InstanceApplied)
	d.wants(settle, nothing)
	d.wants(settle+time.Minute, pause, "nobody approved")
}

func TestLostTargetPauses(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 2)
	d.says(0, 8, conf.InstanceApplied)
	d.wants(settle, nothing)
	d.all[0].Lost = true
	d.wants(settle+time.Second, pause, "i0 is lost")
	d.ro().Plan.OnLost = conf.OnLostContinue
	d.wants(settle+20*time.Second, nothing) // it was the only one
	d.wants(settle+2*time.Minute, pause, "nobody")
}

func TestHealth(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 2)
	d.ro().Plan.Steps[0].Bake = ""
	d.says(0, 8, conf.InstanceApplied)
	d.all[0].Health, d.all[0].HealthSince = conf.HealthUnhealthy, conf.FormatTime(epoch.Add(-time.Minute))
	d.wants(settle, advance) // it was so before the change
	d.all[0].HealthSince = conf.FormatTime(epoch.Add(time.Second))
	d.wants(settle, rollback, "i0 turned unhealthy on version 8")
	d.ro().Plan.MaxUnhealthy = 1
	d.wants(settle, nothing) // and nobody approves
}

func TestMaxRejected(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 3)
	d.ro().Plan.MaxRejected, d.ro().Plan.Steps[0].Bake = 1, ""
	d.ro().Targets = []conf.Target{{Instances: []string{"i0", "i1", "i2"}}}
	d.says(0, 8, conf.InstanceApplied)
	d.says(1, 8, conf.InstanceApplied)
	d.all[2].Refused, d.all[2].Revert, d.all[2].Version = 8, 9, 9
	d.wants(settle, advance, "2 of 3")
	d.all[1].Refused, d.all[1].Revert, d.all[1].Reason = 8, 9, "no"
	d.wants(settle, rollback, "i1 refused version 8: no", "i2 refused version 8: it gives no reason")
}

// Who is held back on a revert that the log keeps is no target; who only says so is one.
func TestHeldBackIsNoTarget(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 2)
	d.ro().Targets = []conf.Target{{Below: math.MaxUint64}}
	d.ro().Plan.Steps[0].Bake = ""
	d.rec.Staged.Kept = &conf.SignedVersion{Version: 5}
	d.says(1, 8, conf.InstanceRead)
	d.says(0, 5, conf.InstanceRead)
	d.all[0].Refused, d.all[0].Revert = 4, 5
	d.wants(settle, advance, "1 of 1")
	d.rec.Staged.Kept = nil
	d.wants(settle, nothing)
}

func TestRequire(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		require string
		acks    bool
		status  conf.InstanceStatus
		want    bool
	}{
		{conf.RequireAuto, false, conf.InstanceReceived, false},
		{conf.RequireAuto, false, conf.InstanceRead, true},
		{conf.RequireAuto, true, conf.InstanceRead, false},
		{conf.RequireAuto, true, conf.InstanceApplying, false},
		{conf.RequireAuto, true, conf.InstanceApplied, true},
		{conf.RequireReceived, true, conf.InstanceReceived, true},
		{conf.RequireRead, true, conf.InstanceApplying, true},
		{conf.RequireApplied, false, conf.InstanceRead, false},
		{conf.RequireApplied, false, conf.InstanceApplied, true},
		{conf.RequireReceived, false, conf.InstanceRejected, false},
		{conf.RequireReceived, false, conf.InstanceLost, false},
	} {
		h := heard("x", 8, c.status)
		h.Acknowledges = c.acks
		if enough(c.require, &h) != c.want {
			t.Errorf("%+v", c)
		}
	}
}

// The bake begins again when an approval is taken back.
func TestBakeBeginsAgain(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 2)
	d.says(0, 8, conf.InstanceApplied)
	d.wants(settle, nothing)
	d.says(0, 8, conf.InstanceReceived) // its process began again
	d.wants(settle+9*time.Second, nothing)
	d.says(0, 8, conf.InstanceApplied)
	d.wants(settle+11*time.Second, nothing)
	d.wants(settle+20*time.Second, nothing)
	d.wants(settle+21*time.Second, advance)
}
