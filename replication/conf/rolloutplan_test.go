package conf_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestRolloutPlans(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{ // want: steps, final bake, deadline, require, on_lost
		`"canary"`:                   `1 25% 100%`,
		`{"preset":"canary"}`:        `1 25% 100%`,
		`"linear"`:                   `10% 20% 30% 40% 50% 60% 70% 80% 90% 100%`,
		`{"steps":[{"count":2}]}`:    `2 100%`,
		`{"steps":[{"percent":50}]}`: `50% 100%`,
		`{"steps":[{"labels":{"tier":"canary"},"bake":"1s"},{"instances":["a"]},{"percent":100}]}`: `labels names 100%`,
	} {
		p, err := conf.ParseRolloutPlan([]byte(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		var got []string
		for _, s := range p.Steps {
			switch {
			case s.Count > 0:
				got = append(got, string(rune('0'+s.Count)))
			case s.Percent > 0:
				got = append(got, strings.TrimSuffix(time.Duration(s.Percent).String(), "ns")+"%")
			case s.Labels != nil:
				got = append(got, "labels")
			default:
				got = append(got, "names")
			}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: steps %s, want %s", in, s, want)
		}
		if p.Deadline != "1m0s" || p.Require != conf.RequireAuto || p.OnLost != conf.OnLostPause {
			t.Errorf("%s: %+v", in, p)
		}
		if again, err := conf.CompletePlan(p); err != nil || len(again.Steps) != len(p.Steps) {
			t.Errorf("%s: complete plans are not complete: %v", in, err)
		}
	}
	p, err := conf.ParseRolloutPlan([]byte(`{"steps":[{"count":1,"bake":"3s"}],"final_bake":"4s","deadline":"5s"}`))
	if err != nil || p.BakeOf(0) != 3*time.Second || p.BakeOf(1) != 4*time.Second || p.BakeOf(2) != 0 || p.DeadlineOf() != 5*time.Second {
		t.Errorf("%+v, %v", p, err)
	}
	p, err = conf.ParseRolloutPlan([]byte(`{"steps":[{"percent":100,"bake":"3s"}]}`))
	if err != nil || p.BakeOf(0) != 3*time.Second || p.FinalBake != "3s" {
		t.Errorf("the bake of the last step: %+v, %v", p, err)
	}
}

func TestBadRolloutPlans(t *testing.T) {
	t.Parallel()
	for in, key := range map[string]string{
		`{}`:                                       "steps",
		`"canari"`:                                 "preset",
		`{"steps":[]}`:                             "steps",
		`{"steps":[{}]}`:                           "steps.1",
		`{"steps":[{"count":1,"percent":3}]}`:      "steps.1",
		`{"steps":[{"count":-1}]}`:                 "steps.1.count",
		`{"steps":[{"percent":101}]}`:              "steps.1.percent",
		`{"steps":[{"count":1,"bake":"soon"}]}`:    "steps.1.bake",
		`{"steps":[{"count":1,"bake":"1000h"}]}`:   "steps.1.bake",
		`{"preset":"canary","deadline":"0s"}`:      "deadline",
		`{"preset":"canary","final_bake":"-1s"}`:   "final_bake",
		`{"preset":"canary","require":"hope"}`:     "require",
		`{"preset":"canary","on_lost":"ignore"}`:   "on_lost",
		`{"preset":"canary","max_rejected":-1}`:    "max_rejected",
		`{"steps":[{"instances":[""]}]}`:           "steps.1.instances",
		`{"steps":[{"labels":{"":"x"}}]}`:          "steps.1.labels",
		`{"steps":[{"count":1}],"deadlne":"1m"}`:   "deadlne",
		`{"steps":[{"count":1,"backe":"1m"}]}`:     "backe",
		`{"preset":"canary","max_unhealthy":2000}`: "max_unhealthy",
	} {
		_, err := conf.ParseRolloutPlan([]byte(in))
		e, ok := err.(*conf.Error) //nolint:errorlint // as it is returned
		if !ok || len(e.Details) == 0 || e.Details[0].Key != key || e.Hint == "" {
			t.Errorf("%s: %#v, want a detail of %s and a hint", in, err, key)
		}
	}
}
