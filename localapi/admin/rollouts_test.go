package admin_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// rollouts is admin.Rollouts: it notes what it is asked in the backend.
type rollouts struct{ *backend }

func (r rollouts) Start(ctx context.Context, d conf.RolloutDraft) (conf.RolloutInfo, error) {
	err := r.call(ctx, "StartRollout")
	r.rollout = d
	return conf.RolloutInfo{ID: "stt-worker-6-0123ab", Service: d.Service, State: conf.RolloutRunning, RolloutVersions: conf.RolloutVersions{Candidate: 6, Revert: 7}}, err
}

func (r rollouts) Move(ctx context.Context, m conf.RolloutMove) (conf.RolloutInfo, error) {
	err := r.call(ctx, "MoveRollout")
	r.move = m
	return conf.RolloutInfo{ID: m.ID, Service: "stt-worker"}, err
}

func (r rollouts) Rollout(ctx context.Context, id string) (conf.RolloutInfo, error) {
	return conf.RolloutInfo{ID: id, Service: "stt-worker"}, r.call(ctx, "Rollout")
}

func (r rollouts) Rollouts(ctx context.Context, service string, limit, _ int) (conf.Page[conf.RolloutInfo], error) {
	r.limit, r.rollout.Service = limit, service
	return conf.Page[conf.RolloutInfo]{Results: []conf.RolloutInfo{}}, r.call(ctx, "Rollouts")
}

func (r rollouts) DefaultPlan(string) (*conf.RolloutPlan, error) { return r.byDefault, nil }

func TestStartRollout(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	a := s.do("POST", "/api/config/services/stt-worker/rollouts?reason=try", writeToken,
		`{"patch":{"vad_threshold":0.7},"version":5,"steps":[{"count":1,"bake":"1m"}],"deadline":"30s","max_rejected":1}`, "Idempotency-Key: k1")
	d := s.rollout
	if a.Code != http.StatusCreated || a.body["id"] != "stt-worker-6-0123ab" || d.Op != conf.OpPatch || string(d.Document) != `{"vad_threshold":0.7}` || *d.Expect != 5 ||
		d.Service != "stt-worker" || d.Author != "admin" || d.Reason != "try" || !strings.HasPrefix(d.RequestID, "key-") || len(d.Plan.Steps) != 1 || d.Plan.MaxRejected != 1 {
		t.Errorf("%d %s, %+v", a.Code, a.Body, d)
	}
	a = s.do("POST", "/api/config/services/stt-worker/rollouts", writeToken, `{"config":{"vad_threshold":0.7},"preset":"linear"}`, `If-Match: "4"`)
	if d := s.rollout; a.Code != http.StatusCreated || d.Op != conf.OpPut || *d.Expect != 4 || d.Plan.Preset != "linear" {
		t.Errorf("%d %s, %+v", a.Code, a.Body, d)
	}
	for body, key := range map[string]string{
		`{"preset":"canary"}`:                                "config",
		`{"preset":"canary","config":{},"patch":{}}`:         "config",
		`{"preset":"canary","patch":[]}`:                     "patch",
		`{"patch":{},"steps":[{"cuont":1}]}`:                 "cuont",
		`{"patch":{},"preset":"canary","max_unhealhty":1}`:   "max_unhealhty",
		`{"patch":{},"steps":{"count":1}}`:                   "steps",
		`{"patch":{},"preset":"canary","version":-1}`:        "version",
		`{"patch":{},"preset":"canary","max_rejected":"no"}`: "max_rejected",
	} {
		s := newHarness(t)
		a := s.do("POST", "/api/config/services/stt-worker/rollouts", writeToken, body)
		if a.Code/100 != 4 || !strings.Contains(a.Body.String(), `"key":"`+key+`"`) || len(s.calls) > 0 {
			t.Errorf("%s: %d %s", body, a.Code, a.Body)
		}
	}
}

func TestMoveRollout(t *testing.T) {
	t.Parallel()
	for name, action := range map[string]string{
		"promote": conf.RolloutPromote, "pause": conf.RolloutPause, "resume": conf.RolloutResume, "abort": conf.RolloutRollback,
	} {
		s := newHarness(t)
		a := s.do("POST", "/api/config/rollouts/stt-worker-6-0123ab/"+name, writeToken, `{"reason":"noise"}`)
		if want := (conf.RolloutMove{ID: "stt-worker-6-0123ab", Action: action, Reason: "noise", By: "admin"}); a.Code != 200 || s.move.ID != want.ID ||
			s.move.Action != action || s.move.Reason != "noise" || s.move.By != "admin" {
			t.Errorf("%s: %d %s, %+v", name, a.Code, a.Body, s.move)
		}
		if a := s.do("POST", "/api/config/rollouts/stt-worker-6-0123ab/"+name, writeToken, ""); a.Code != 200 {
			t.Errorf("%s without a body: %d %s", name, a.Code, a.Body)
		}
		if a := s.do("POST", "/api/config/rollouts/No/"+name, writeToken, ""); a.Code != 422 && a.Code != 400 {
			t.Errorf("%s of a bad id: %d %s", name, a.Code, a.Body)
		}
	}
}

func TestReadRollouts(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	if a := s.do("GET", "/api/config/services/stt-worker/rollouts?limit=3", readToken, ""); a.Code != 200 || s.limit != 3 || s.rollout.Service != "stt-worker" {
		t.Errorf("%d %s, %d %q", a.Code, a.Body, s.limit, s.rollout.Service)
	}
	if a := s.do("GET", "/api/config/rollouts", readToken, ""); a.Code != 200 || s.limit != 100 || s.rollout.Service != "" {
		t.Errorf("%d %s, %d %q", a.Code, a.Body, s.limit, s.rollout.Service)
	}
	// Who waits for the end asks often: the access log has the writes.
	if a := s.do("GET", "/api/config/rollouts/stt-worker-6-0123ab", readToken, ""); a.Code != 200 || len(s.audit) != 0 {
		t.Errorf("%d %s, %+v", a.Code, a.Body, s.audit)
	}
}

// TestRolloutOfAChange: how a change goes out is what the request says, else what the schema
// of the service says.
func TestRolloutOfAChange(t *testing.T) {
	t.Parallel()
	const put = `{"service":"stt-worker","config":{"a":1},"version":5}`
	byDefault := &conf.RolloutPlan{Preset: conf.PresetLinear}
	for _, c := range []struct {
		method, query, body string
		byDefault           *conf.RolloutPlan
		want                string // the preset of the rollout; "" for a change at once
		mode                string
		code                int
	}{
		{"PATCH", "", `{"a":1}`, nil, "", "", 200},
		{"PATCH", "", `{"a":1}`, byDefault, conf.PresetLinear, "", 200},
		{"PUT", "", put, byDefault, conf.PresetLinear, "", 200},
		{"PATCH", "?rollout=none", `{"a":1}`, byDefault, "", conf.RolloutNone, 200},
		{"PUT", "?rollout=replace", put, byDefault, "", conf.RolloutReplace, 200},
		{"PATCH", "?rollout=canary", `{"a":1}`, byDefault, conf.PresetCanary, "", 200},
		{"PATCH", "?rollout=canary", `{"a":1}`, nil, conf.PresetCanary, "", 200},
		{"PATCH", "?rollout=canari", `{"a":1}`, nil, "", "", 422},
		{"DELETE", "", "", byDefault, "", "", 200},
		{"DELETE", "?rollout=replace", "", byDefault, "", conf.RolloutReplace, 200},
		{"DELETE", "?rollout=canary", "", nil, "", "", 422},
		{"PUT", "", `{"service":"stt-worker","config":{"a":1},"version":5,"schema":{"type":"object"}}`, byDefault, "", "", 422},
		{"PUT", "?rollout=none", `{"service":"stt-worker","config":{"a":1},"version":5,"schema":{"type":"object"}}`, byDefault, "", conf.RolloutNone, 200},
	} {
		s := newHarness(t)
		s.byDefault = c.byDefault
		a := s.do(c.method, "/api/config/services/stt-worker"+c.query, writeToken, c.body)
		switch {
		case a.Code != c.code:
			t.Errorf("%+v: %d %s", c, a.Code, a.Body)
		case c.code != 200:
			if len(s.calls) > 0 || !strings.Contains(a.Body.String(), `"hint"`) {
				t.Errorf("%+v: %v %s", c, s.calls, a.Body)
			}
		case c.want != "":
			if s.rollout.Plan.Preset != c.want || !strings.Contains(a.Body.String(), `"new_version":6`) || a.Header().Get("X-Config-Rollout") != "stt-worker-6-0123ab" || s.draft.Service != "" {
				t.Errorf("%+v: %+v, %s", c, s.rollout, a.Body)
			}
		case s.draft.Rollout != c.mode || s.draft.Service == "" || s.rollout.Service != "":
			t.Errorf("%+v: %+v", c, s.draft)
		}
	}
}

// A schema is for all at once, and replaces what runs only when that is asked for.
func TestSchemaReplacesARollout(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]int{"": 200, "?rollout=replace": 200, "?rollout=none": 200, "?rollout=canary": 422} {
		s := newHarness(t)
		a := s.do("PUT", "/api/config/schemas/stt-worker"+query, writeToken, `{"type":"object"}`)
		if a.Code != want || want == 200 && (s.draft.Op != conf.OpSchema || s.draft.Rollout != strings.TrimPrefix(query, "?rollout=")) {
			t.Errorf("%s: %d %s, %+v", query, a.Code, a.Body, s.draft)
		}
	}
}

// Without a leader a reader gets what this agent knows.
func TestRolloutsWithoutALeader(t *testing.T) {
	t.Parallel()
	s, l := follow(t)
	l.err = conf.Errorf(conf.CodeNoQuorum, "no leader")
	if a := s.do("GET", "/api/config/rollouts/stt-worker-6-0123ab", readToken, ""); a.Code != 200 {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	s.wantCalls("Rollout")
	if a := s.do("POST", "/api/config/rollouts/stt-worker-6-0123ab/abort", writeToken, ""); a.Code != 503 {
		t.Errorf("%d %s", a.Code, a.Body)
	}
}
