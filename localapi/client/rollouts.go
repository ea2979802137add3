package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// StartRollout changes a service in steps: some instances first. The reason is that of ch.
func (c RolloutDesk) StartRollout(ctx context.Context, service string, req conf.RolloutRequest, ch Change) (conf.RolloutInfo, error) {
	q := ch.request(http.MethodPost, nil, "services", service, "rollouts")
	q.json = req
	return call[conf.RolloutInfo](ctx, c.caller, q)
}

// Rollout returns a rollout with its steps and what each instance makes of it.
func (c RolloutDesk) Rollout(ctx context.Context, id string) (conf.RolloutInfo, error) {
	return get[conf.RolloutInfo](ctx, c.caller, nil, "rollouts", id)
}

// Rollouts lists the rollouts of a service, of all for "": those that run first, then those
// that ended, the newest first.
func (c RolloutDesk) Rollouts(ctx context.Context, service string, limit int) ([]conf.RolloutInfo, error) {
	q := url.Values{}
	number(q, "limit", limit)
	path := []string{"rollouts"}
	if service != "" {
		path = []string{"services", service, "rollouts"}
	}
	page, err := get[conf.Page[conf.RolloutInfo]](ctx, c.caller, q, path...)
	return page.Results, err
}

// MoveRollout decides on a rollout: what is promote, pause, resume or abort.
func (c RolloutDesk) MoveRollout(ctx context.Context, id, what string, ch Change) (conf.RolloutInfo, error) {
	return call[conf.RolloutInfo](ctx, c.caller, ch.request(http.MethodPost, nil, "rollouts", id, what))
}
