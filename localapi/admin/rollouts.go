package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Rollouts are changes that go to some instances before they are stable. All but DefaultPlan
// is for the leader.
type Rollouts interface {
	Start(ctx context.Context, d conf.RolloutDraft) (conf.RolloutInfo, error)
	Move(ctx context.Context, m conf.RolloutMove) (conf.RolloutInfo, error)
	Rollout(ctx context.Context, id string) (conf.RolloutInfo, error)
	Rollouts(ctx context.Context, service string, limit, offset int) (conf.Page[conf.RolloutInfo], error)
	// DefaultPlan is the plan that the schema of a service has for its changes, nil for none.
	DefaultPlan(service string) (*conf.RolloutPlan, error)
}

// rolloutRoom starts, shows and decides rollouts.
type rolloutRoom struct{ *edits }

func (o *rolloutRoom) routes() []Route {
	const all, one = "/api/config/rollouts", "/api/config/rollouts/:rollout"
	move := func(action, name, summary string) Route {
		return Route{
			Name: name, Method: http.MethodPost, Path: one + "/" + strings.TrimSuffix(name, "Rollout"), Role: conf.RoleWrite, Summary: summary,
			Query: []string{"reason"}, writes: true, body: smallBody, optional: true,
			handle: decoded(func(c *call, in activateRequest) (reply, error) { return o.move(c, action, in) }),
		}
	}
	list := []Route{
		{
			Name: "startRollout", Method: http.MethodPost, Path: "/api/config/services/:service/rollouts", Role: conf.RoleWrite,
			Summary: "Change a service in steps: some instances first",
			Query:   []string{"reason"}, handle: o.start, writes: true, body: documentBody, match: true,
		},
		{
			Name: "listServiceRollouts", Method: http.MethodGet, Path: "/api/config/services/:service/rollouts", Role: conf.RoleRead,
			Summary: "List the rollouts of a service, the newest first",
			Query:   []string{"limit", "offset"}, handle: o.list, asks: true,
		},
		{
			Name: "listRollouts", Method: http.MethodGet, Path: all, Role: conf.RoleRead, Summary: "List the rollouts, those that run first",
			Query: []string{"limit", "offset"}, handle: o.list, asks: true,
		},
		{
			Name: "getRollout", Method: http.MethodGet, Path: one, Role: conf.RoleRead, Summary: "A rollout with its steps and what each instance makes of it",
			handle: o.get, asks: true,
		},
		move(conf.RolloutPromote, "promoteRollout", "Make the candidate stable now, for all, also while the rollout is paused"),
		move(conf.RolloutPause, "pauseRollout", "Stop a rollout at its step"),
		move(conf.RolloutResume, "resumeRollout", "Let a paused rollout go on"),
		move(conf.RolloutRollback, "abortRollout", "End a rollout: all instances get the values of before"),
	}
	if o.rollouts == nil {
		return unsupported(list, conf.Errorf(conf.CodeUnsupported, "this agent has no rollouts"))
	}
	return list
}

func (o *rolloutRoom) start(c *call) (reply, error) {
	var req conf.RolloutRequest
	if err := conf.DecodeRollout(c.body, &req); err != nil {
		return reply{}, err
	}
	d := conf.RolloutDraft{Plan: req.Plan(), Draft: conf.Draft{Op: conf.OpPut, Document: req.Config, Reason: req.Reason, Expect: req.Version}}
	switch {
	case req.Config != nil && req.Patch != nil, req.Config == nil && req.Patch == nil:
		return reply{}, invalid("config", "give one of config and patch").
			WithHint(`send {"patch": {"KEY": VALUE}, "preset": "canary"}; config has all values, and what it leaves out returns to its default`)
	case req.Patch != nil:
		d.Op, d.Document = conf.OpPatch, req.Patch
		if err := object("patch", req.Patch); err != nil {
			return reply{}, err
		}
	default:
		if err := object("config", req.Config); err != nil {
			return reply{}, err
		}
	}
	var err error
	if d.Reason, err = c.reason(d.Reason); err != nil {
		return reply{}, err
	}
	if d.RequestID, d.EarlierIDs, err = o.ids.of(c); err != nil {
		return reply{}, err
	}
	if d.Expect, err = o.expect(c, d.Expect); err != nil {
		return reply{}, err
	}
	d.Service, d.Author = c.service(), c.who.Name
	info, err := o.rollouts.Start(c.r.Context(), d)
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusCreated, body: info}, nil
}

func (o *rolloutRoom) move(c *call, action string, in activateRequest) (reply, error) {
	reason, id, err := o.ids.why(c, in.Reason)
	if err != nil {
		return reply{}, err
	}
	return answer(o.rollouts.Move(c.r.Context(), conf.RolloutMove{ID: c.params.ByName("rollout"), Action: action, Reason: reason, By: c.who.Name, RequestID: id}))
}

func (o *rolloutRoom) list(c *call) (reply, error) {
	limit, offset, err := c.page()
	if err != nil {
		return reply{}, err
	}
	return answer(o.rollouts.Rollouts(c.r.Context(), c.service(), limit, offset))
}

func (o *rolloutRoom) get(c *call) (reply, error) {
	return answer(o.rollouts.Rollout(c.r.Context(), c.params.ByName("rollout")))
}

// rolloutMode is ?rollout=: conf.RolloutNone, RolloutReplace or, where steps are possible,
// the name of a preset; "" when it is not given.
func (c *call) rolloutMode(steps bool) (string, error) {
	allowed := []string{conf.RolloutNone, conf.RolloutReplace}
	if steps {
		allowed = append(allowed, conf.RolloutPresets()...)
	}
	mode := c.query.Get("rollout")
	if !c.query.Has("rollout") || slices.Contains(allowed, mode) {
		return mode, nil
	}
	list := strings.Join(allowed, ", ")
	return "", invalid("rollout", "%q is not one of %s", conf.Clip(mode), list).WithHint("use one of %s", list)
}

// plan is how a change goes out: as the request says, or as the schema of the service; nil
// for all at once. It notes in d what the request says.
func (e *edits) plan(c *call, d *conf.Draft) (*conf.RolloutPlan, error) {
	steps := d.Op == conf.OpPut || d.Op == conf.OpPatch
	mode, err := c.rolloutMode(steps)
	if err != nil {
		return nil, err
	}
	if mode == conf.RolloutNone || mode == conf.RolloutReplace {
		d.Rollout = mode
		return nil, nil
	}
	if e.rollouts == nil || !steps {
		return nil, nil
	}
	plan := &conf.RolloutPlan{Preset: mode}
	if mode == "" {
		if plan, err = e.rollouts.DefaultPlan(c.service()); err != nil || plan == nil {
			return nil, err
		}
	}
	if d.Schema != nil {
		return nil, invalid("schema", "does not go out in steps: the instances share it").
			WithHint("put the schema first, then the values; or write both for all at once with ?rollout=none")
	}
	return plan, nil
}

// inSteps starts a rollout in place of a change for all.
func (e *edits) inSteps(c *call, d conf.Draft, plan conf.RolloutPlan) (reply, error) {
	info, err := e.rollouts.Start(c.r.Context(), conf.RolloutDraft{Draft: d, Plan: plan})
	if err != nil {
		return reply{}, err
	}
	header := outcomeHeader(conf.Outcome{Version: info.Candidate, Changed: true})
	header.Set("X-Config-Rollout", info.ID)
	return reply{header: header, body: updateResponse{Success: true, NewVersion: &info.Candidate}}, nil
}
