package rollout

import (
	"fmt"
	"math"
	"testing"

	"github.com/holdfast-config/holdfast/agent/instances"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// live makes n members that live.
func live(n int) (out []instances.Heard) {
	for i := range n {
		out = append(out, heard(fmt.Sprintf("i%d", i), 7, conf.InstanceRead))
	}
	return out
}

func heard(name string, version uint64, status conf.InstanceStatus) instances.Heard {
	h := instances.Heard{Kind: instances.KindMember}
	h.Instance, h.Node, h.Version, h.Status, h.Epoch, h.Term, h.Joined = name, name, version, status, "e", 3, 1
	return h
}

// TestTargetsAreExact: each step has exactly as many instances as it asks for, rounded up and
// one at least, and all that earlier steps had.
func TestTargetsAreExact(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 40; n++ {
		all := live(n)
		var before []conf.Target
		had := map[string]bool{}
		for i, s := range []conf.RolloutStep{{Count: 1}, {Percent: 10}, {Percent: 25}, {Count: 3}, {Percent: 50}, {Percent: 100}} {
			target, got := next(s, i == 5, "salt", before, all)
			before = append(before, target)
			want := s.Count
			if s.Percent > 0 {
				want = int(math.Ceil(s.Percent * float64(n) / 100))
			}
			want = max(min(max(want, 1), n), len(had))
			count := 0
			for k := range all {
				in := matchesAny(before, "salt", &all[k])
				if had[all[k].Instance] && !in {
					t.Fatalf("%d instances, step %d: %s was a target and is none", n, i, all[k].Instance)
				}
				if in {
					had[all[k].Instance] = true
					count++
				}
			}
			if count != want || count != got {
				t.Fatalf("%d instances, step %d: %d targets, %d told, want %d", n, i, count, got, want)
			}
		}
	}
}

// TestTargetsByName: labels and names choose; more of them with a share count what is there.
func TestTargetsByName(t *testing.T) {
	t.Parallel()
	all := live(8)
	for i := range 4 {
		all[i].Labels = map[string]string{"zone": "a", "n": fmt.Sprint(i)}
	}
	first, n := next(conf.RolloutStep{Labels: map[string]string{"zone": "a", "n": "2"}}, false, "s", nil, all)
	if n != 1 || len(first.Instances) != 1 || first.Instances[0] != "i2" {
		t.Errorf("%d, %+v", n, first)
	}
	second, n := next(conf.RolloutStep{Percent: 50}, false, "s", []conf.Target{first}, all)
	if n != 4 {
		t.Errorf("half of 8 is %d with %+v", n, second)
	}
	if _, n = next(conf.RolloutStep{Instances: []string{"nobody"}}, false, "s", nil, all); n != 0 {
		t.Errorf("%d instances have the name nobody", n)
	}
	if _, n = next(conf.RolloutStep{Count: 5}, false, "s", nil, nil); n != 0 {
		t.Errorf("%d of none", n)
	}
	if last, _ := next(conf.RolloutStep{Percent: 100}, true, "s", nil, live(1000)); last.Below != math.MaxUint64 || last.Instances != nil {
		t.Errorf("all: %+v", last)
	}
}

// Who is held back, lost, of another epoch, or no member, is not counted at all.
func TestWhoIsNoCandidate(t *testing.T) {
	t.Parallel()
	rec := record()
	rec.Staged.Kept = &conf.SignedVersion{Version: 5}
	all := live(6)
	all[0].Lost = true
	all[1].Kind = instances.KindMQTT
	all[2].Epoch = "other"
	all[3].Refused, all[3].Revert = 4, 5
	all[4].Refused, all[4].Revert = 2, 3 // a mark of a revert that the log does not keep
	got := candidates(rec, all)
	if len(got) != 2 || got[0].Instance != "i4" || got[1].Instance != "i5" {
		t.Errorf("%+v", got)
	}
}
