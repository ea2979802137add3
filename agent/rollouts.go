package agent

import (
	"context"

	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/agent/rollout"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store"
)

// buildRollouts makes what decides how rollouts go on, while this agent leads.
func (a *Agent) buildRollouts(r *rooms) *rollout.Manager {
	return rollout.New(rollout.Options{
		View: r.view, Reports: r.instances.table, Editor: r.editor, History: endedRollouts{a}, Now: a.o.Clock, Logger: a.log,
		Members: r.instances.nodesOf,
		Confirm: func(ctx context.Context) error { return a.replicas.ConfirmLeadership(ctx) },
	})
}

// leadRollouts is a job of the leader.
func (r *rooms) leadRollouts(ctx context.Context, rep *replica.Replica) {
	r.rollouts.Lead(ctx, rep.Node().Term())
}

// endedRollouts reads the store of the replica that serves now.
type endedRollouts struct{ a *Agent }

func (e endedRollouts) Rollout(ctx context.Context, id string) (conf.RolloutEnd, error) {
	return replica.Query(e.a.replicas, func(st *store.Store) (conf.RolloutEnd, error) { return st.Queries.Rollout(ctx, id) })
}

func (e endedRollouts) Rollouts(ctx context.Context, service string, limit, offset int) (conf.Page[conf.RolloutEnd], error) {
	return replica.Query(e.a.replicas, func(st *store.Store) (conf.Page[conf.RolloutEnd], error) {
		return st.Queries.Rollouts(ctx, service, limit, offset)
	})
}

// nodesOf are the members beside which a service runs.
func (r *instanceRooms) nodesOf(service string) (out []string) {
	for _, m := range r.members() {
		if m.Service == service {
			out = append(out, m.Node)
		}
	}
	return out
}
