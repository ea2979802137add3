package rollout

import (
	"math"
	"slices"

	"github.com/holdfast-config/holdfast/agent/instances"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// maxNamed is how many targets a step names. A larger one is known by its hashes alone: then
// a target that a new leader never hears of is not missed.
const maxNamed = 256

// candidates are the instances that a step may have as targets: members that live and are
// not held back.
func candidates(rec *conf.Record, heard []instances.Heard) (out []instances.Heard) {
	for _, h := range heard {
		if h.Kind == instances.KindMember && !h.Lost && h.Epoch == rec.Epoch && !heldBack(rec, &h) {
			out = append(out, h)
		}
	}
	return out
}

// next chooses the target of a step, beside those of the steps before: exactly the count or
// the share of the live instances that the step asks for, at least one, rounded up; never
// fewer than before. It returns how many live instances match then.
func next(step conf.RolloutStep, last bool, salt string, before []conf.Target, live []instances.Heard) (t conf.Target, n int) {
	matches := func(t conf.Target, h *instances.Heard) bool {
		return t.Has(conf.TargetHash(salt, h.Instance), h.Instance, h.Labels) || matchesAny(before, salt, h)
	}
	switch {
	case len(step.Labels) > 0:
		t.Labels = step.Labels
	case len(step.Instances) > 0:
		t.Instances = step.Instances
	case last || step.Percent >= 100:
		t.Below = math.MaxUint64
	default:
		t.Below = threshold(step, salt, before, live, matches)
	}
	var names []string
	for i := range live {
		if matches(t, &live[i]) {
			n++
			if len(step.Instances) == 0 {
				names = append(names, live[i].Instance)
			}
		}
	}
	if len(names) > 0 && len(names) <= maxNamed {
		t.Instances = names
	}
	return t, n
}

// matchesAny reports whether an instance matches one of the targets of a rollout.
func matchesAny(targets []conf.Target, salt string, h *instances.Heard) bool {
	hash := conf.TargetHash(salt, h.Instance)
	return slices.ContainsFunc(targets, func(t conf.Target) bool { return t.Has(hash, h.Instance, h.Labels) })
}

// threshold is the lowest that gives a step as many instances as it asks for.
func threshold(step conf.RolloutStep, salt string, before []conf.Target, live []instances.Heard, matches func(conf.Target, *instances.Heard) bool) uint64 {
	below := uint64(0)
	for _, t := range before {
		below = max(below, t.Below)
	}
	want := step.Count
	if step.Percent > 0 {
		want = int(math.Ceil(step.Percent * float64(len(live)) / 100))
	}
	want = min(max(want, 1), len(live))
	var hashes []uint64 // of those that do not match yet
	have := 0
	for i := range live {
		if matches(conf.Target{Below: below}, &live[i]) {
			have++
		} else {
			hashes = append(hashes, conf.TargetHash(salt, live[i].Instance))
		}
	}
	slices.Sort(hashes)
	if more := want - have; more > 0 {
		below = hashes[more-1] + 1
	}
	return below
}
