package served_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/holdfast-config/holdfast/agent/served"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// The order of instances is part of the protocol: builds that differ in it would choose
// different targets.
func TestTargetHash(t *testing.T) {
	t.Parallel()
	if h := conf.TargetHash("salt", "stt-1"); h != 0x4fa551a03e240aa2 {
		t.Errorf("hash %#x", h)
	}
	if conf.TargetHash("salt", "a") == conf.TargetHash("tlas", "a") {
		t.Error("the salt has no effect")
	}
}

func TestChosen(t *testing.T) {
	t.Parallel()
	hash := conf.TargetHash("s", "i1")
	zone := map[string]string{"zone": "a", "tier": "canary"}
	for _, c := range []struct {
		name   string
		target conf.Target
		labels map[string]string
		joined uint64
		want   bool
	}{
		{"empty", conf.Target{}, zone, 1, false},
		{"below", conf.Target{Below: hash + 1}, nil, 1, true},
		{"not below", conf.Target{Below: hash}, nil, 1, false},
		{"all", conf.Target{Below: math.MaxUint64}, nil, 1, true},
		{"named", conf.Target{Instances: []string{"i0", "i1"}}, nil, 1, true},
		{"another name", conf.Target{Instances: []string{"i0"}}, nil, 1, false},
		{"labels", conf.Target{Labels: map[string]string{"zone": "a"}}, zone, 1, true},
		{"other labels", conf.Target{Labels: map[string]string{"zone": "a", "rack": "1"}}, zone, 1, false},
		{"joined right before the step", conf.Target{Below: math.MaxUint64}, nil, 9, true},
		{"joined with the step", conf.Target{Below: math.MaxUint64}, nil, 10, false},
		{"joined after the step began", conf.Target{Below: math.MaxUint64}, nil, 11, false},
		{"not known when it joined", conf.Target{Below: math.MaxUint64}, nil, 0, false},
	} {
		r := &conf.Rollout{Salt: "s", StepIdx: 10, Targets: []conf.Target{{}, c.target}}
		if got := served.Chosen(r, "i1", c.labels, c.joined); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

// A leader that takes the k-th lowest hash of N, plus one, as the threshold chooses exactly k
// instances, whatever the names are, and a higher k only adds some.
func TestThresholdChoosesExactly(t *testing.T) {
	t.Parallel()
	var hashes []uint64
	for i := range 100 {
		hashes = append(hashes, conf.TargetHash("salt", fmt.Sprint("instance-", i)))
	}
	slices.Sort(hashes)
	before := map[string]bool{}
	for k := 1; k <= 100; k++ {
		r := &conf.Rollout{Salt: "salt", StepIdx: 2, Targets: []conf.Target{{Below: hashes[k-1] + 1}}}
		n := 0
		for i := range 100 {
			name := fmt.Sprint("instance-", i)
			chosen := served.Chosen(r, name, nil, 1)
			if chosen {
				n++
			} else if before[name] {
				t.Fatalf("%s is no target any more with %d", name, k)
			}
			before[name] = chosen
		}
		if n != k {
			t.Fatalf("%d of %d", n, k)
		}
	}
}
