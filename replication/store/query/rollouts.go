package query

import (
	"context"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Rollout reads one rollout: with its documents while it runs. CodeNotFound when there is none.
func (s *Queries) Rollout(_ context.Context, id string) (conf.RolloutEnd, error) {
	return conf.RolloutEnd{}, conf.Errorf(conf.CodeNotFound, "no rollout %q", id).WithHint("list them: holdfast rollout status")
}

// Rollouts lists the rollouts of a service, of all for "": those that run first, then the
// newest first, without their documents.
func (s *Queries) Rollouts(context.Context, string, int, int) (conf.Page[conf.RolloutEnd], error) {
	return conf.Page[conf.RolloutEnd]{Results: []conf.RolloutEnd{}}, nil
}
