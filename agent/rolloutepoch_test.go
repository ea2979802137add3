package agent_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/agent/recovery"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// rollout starts a rollout of the service demo, which chooses no instance of it.
func (r *running) rollout(level string) (conf.Rollout, error) {
	return r.Rooms().Editor.StartRollout(r.T.Context(), conf.RolloutDraft{
		Draft: conf.Draft{Service: "demo", Op: conf.OpPatch, Document: json.RawMessage(`{"level":` + level + `}`), Author: "ann"},
		Plan: conf.RolloutPlan{
			Steps: []conf.RolloutStep{{Instances: []string{"nobody"}, Bake: "1h0m0s"}, {Percent: 100}}, Deadline: "1h0m0s", Require: conf.RequireApplied, OnLost: conf.OnLostContinue,
		},
		Target: conf.Target{Instances: []string{"nobody"}},
	})
}

// A rollout is in the log: the next leader has it, and all members have one state. The
// recovery of the cluster ends it, with the stable values and a number above all of its own.
func TestRolloutEndsWithTheEpoch(t *testing.T) {
	t.Parallel()
	r, o := three(t)
	n1, n2, n3 := r[0], r[1], r[2]
	n1.lead(n2, n3)
	stable := n1.records().Record("demo")
	ro, err := n1.rollout("11")
	if err != nil {
		t.Fatal(err)
	}
	runs := func(a *running) bool {
		rec := a.records().Record("demo")
		return rec.Version == stable.Version && rec.Staged != nil && rec.Staged.Rollout != nil && rec.Staged.Rollout.ID == ro.ID
	}
	for _, a := range r {
		a.Await("the rollout", func() bool { return runs(a) })
		if v, _ := a.level(); v != "7" {
			t.Errorf("%s serves %s", a.Options.NodeID, v)
		}
	}
	n2.lead(n1, n3)
	if code, body := n2.set("9"); code != http.StatusConflict || !strings.Contains(body, `"rollout_active"`) || !strings.Contains(body, ro.ID) {
		t.Errorf("an edit: %d %s", code, body)
	}
	if _, err := n2.rollout("12"); conf.CodeOf(err) != conf.CodeRolloutActive {
		t.Errorf("another rollout: %v", err)
	}
	if _, err := n2.Rooms().Editor.Reissue(t.Context()); err != nil {
		t.Error(err)
	}
	n2.Await("one state", func() bool { return sameDigests(n2.status(), 3) })
	n2.Await("that it still runs", func() bool { return runs(n2) })
	for _, a := range r {
		a.Stop()
	}
	rec, err := recovery.Recover(t.Context(), o[1], n2.Log)
	if err != nil {
		t.Fatal(err)
	}
	n2 = start(t, o[1]).ready()
	after := n2.records().Record("demo")
	if after.Epoch != rec.NewEpoch || after.Version != ro.Revert.Version+1 || string(after.Values) != string(stable.Values) || after.Staged != nil {
		t.Errorf("in the new epoch: version %d %s, %+v", after.Version, after.Values, after.Staged)
	}
	if v, _ := n2.level(); v != "7" {
		t.Error(v)
	}
	end, err := n2.Rooms().Replicas.Current().Store().Queries.Rollout(t.Context(), ro.ID)
	if err != nil || end.State != conf.RolloutSuperseded || end.Epoch != rec.OldEpoch {
		t.Errorf("%+v, %v", end, err)
	}
	if code, body := n2.set("12"); code != http.StatusOK {
		t.Error(body)
	}
}

// While a voter runs a build that cannot apply rollouts, there is none, and changes for all go
// on as before, also those that would replace one.
func TestNoRolloutBesideAnOldBuild(t *testing.T) {
	t.Parallel()
	r, _ := three(t)
	n1, n2, n3 := r[0], r[1], r[2]
	n3.Rooms().Cluster.Features().SetOwn(command.Features() &^ (1<<command.KindRollout | 1<<48))
	n1.lead(n2, n3)
	n1.Rooms().Cluster.Features().Reset()
	_, err := n1.rollout("11")
	if conf.CodeOf(err) != conf.CodeUnsupported || !strings.Contains(err.Error(), "member n3") || conf.HintOf(err) == "" {
		t.Fatalf("%v; %s", err, conf.HintOf(err))
	}
	if code, _, body := n1.Call("PATCH", n1.Info().AdminURL+"/api/config/services/demo?rollout=replace", `{"level":9}`, "X-API-Token", testenv.WriteToken); code != http.StatusOK {
		t.Errorf("%d %s", code, body)
	}
	n3.Rooms().Cluster.Features().SetOwn(command.Features())
	n1.Await("the upgrade to be known", func() bool { n1.lead(n2, n3); _, err := n1.rollout("11"); return err == nil })
}
