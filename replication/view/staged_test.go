package view

import (
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// staged is version 7 of a service with the rollout of 8 and 9 at a step.
func staged(step int, paused string) *conf.Record {
	r := rec("a", "e1", 7)
	r.Staged = &conf.Staged{Floor: 9, Rollout: &conf.Rollout{
		ID: "a-8-0a1b2c", Step: step, Paused: paused, Targets: make([]conf.Target, step+1),
		Candidate: conf.SignedVersion{Version: 8, Signature: "x"}, Revert: conf.SignedVersion{Version: 9, Signature: "x"},
	}}
	return r
}

// What happens to a rollout is a change of the record of its service, which wakes nobody who
// waits for the stable version, and is never taken back by a replica that is behind.
func TestRolloutIsAChangeOfItsService(t *testing.T) {
	kept := rec("a", "e1", 8)
	kept.Staged = &conf.Staged{Floor: 9, Kept: &conf.SignedVersion{Version: 9, Signature: "x"}}
	left := rec("a", "e1", 8)
	left.Staged = &conf.Staged{Floor: 9}
	steps := []*conf.Record{
		rec("a", "e1", 7), staged(0, ""), staged(0, "an instance is lost"), staged(0, ""), staged(1, ""), kept, left, rec("a", "e1", 10),
	}
	v := New(render)
	v.Reset(SourceReplica, "e1", 1, steps[:1])
	for i, next := range steps[1:] {
		was, _ := v.Get("a")
		if Equal(was.Record, next) {
			t.Errorf("step %d: equal to what was before", i)
		}
		v.Advance(uint64(2+i), []*conf.Record{next})
		now, _ := v.Get("a")
		if woken := isClosed(was.Changed()); now.Record != next || woken != (was.Record.Version != next.Version) {
			t.Fatalf("step %d: published %t, woken %t", i, now.Record == next, woken)
		}
		for j, earlier := range steps[:i+1] {
			// A pause and its end have no order, and the kept revert goes at the same version.
			if i+1 <= 3 && j > 0 || i+1 == 6 && j == 5 {
				continue
			}
			v.Reset(SourceReplica, "e1", 1, []*conf.Record{earlier})
			if back, _ := v.Get("a"); back.Record != next {
				t.Errorf("step %d: taken back to %d", i, j)
			}
		}
	}
}

// A new signature of the candidate, the revert or the kept one is published and wakes nobody.
func TestReissueOfARolloutWakesNobody(t *testing.T) {
	for name, change := range map[string]func(*conf.Staged){
		"candidate": func(s *conf.Staged) { s.Rollout.Candidate.IssuedAt = "later" },
		"revert":    func(s *conf.Staged) { s.Rollout.Revert.Signature = "y" },
		"kept":      func(s *conf.Staged) { s.Kept.VersionSignature = "y" },
		"key":       func(s *conf.Staged) { s.Kept.KeyID = "k" },
	} {
		v := New(render)
		before, after := staged(0, ""), staged(0, "")
		before.Staged.Kept, after.Staged.Kept = &conf.SignedVersion{Version: 5}, &conf.SignedVersion{Version: 5}
		change(after.Staged)
		v.Reset(SourceReplica, "e1", 1, []*conf.Record{before})
		was, _ := v.Get("a")
		v.Advance(2, []*conf.Record{after})
		if now, _ := v.Get("a"); now.Record != after || isClosed(was.Changed()) {
			t.Errorf("%s: published %t, woken %t", name, now.Record == after, isClosed(was.Changed()))
		}
	}
}
