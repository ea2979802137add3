package query

import (
	"context"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// Rollout reads one rollout: with its documents while it runs. CodeNotFound when there is none.
func (s *Queries) Rollout(ctx context.Context, id string) (conf.RolloutEnd, error) {
	return get(ctx, s, "read a rollout", func(q tables.Querier) (conf.RolloutEnd, error) {
		found, err := rollouts(ctx, q, "WHERE id = ?", id)
		if err != nil {
			return conf.RolloutEnd{}, err
		}
		if len(found) == 0 {
			return conf.RolloutEnd{}, conf.NoRollout(id)
		}
		e := found[0]
		if e.At != "" {
			return e, nil
		}
		r, err := tables.ReadStored(ctx, q, tables.NewDigester(), e.Service)
		if err != nil {
			return e, err
		}
		if r.Record == nil || r.Record.Staged == nil || r.Record.Staged.Rollout == nil || r.Record.Staged.Rollout.ID != id {
			return e, tables.Corrupt("the rollout %s runs, and its service does not have it", id)
		}
		e.Rollout = *r.Record.Staged.Rollout
		return e, nil
	})
}

// Rollouts lists the rollouts of a service, of all for "": those that run first, then the
// newest first, without their documents.
func (s *Queries) Rollouts(ctx context.Context, service string, limit, offset int) (conf.Page[conf.RolloutEnd], error) {
	limit, offset = tables.Window(limit, offset)
	return get(ctx, s, "read the rollouts", func(q tables.Querier) (page conf.Page[conf.RolloutEnd], err error) {
		f := tables.Filter{}
		f.AddText("service = ?", service)
		if err := q.QueryRowContext(ctx, "SELECT count(*) FROM "+tables.Rollouts.Name+f.Where(), f.Args...).Scan(&page.Total); err != nil {
			return page, err
		}
		page.Results, err = rollouts(ctx, q, f.Where()+" ORDER BY state = 'running' DESC, idx DESC LIMIT ? OFFSET ?", append(f.Args, limit, offset)...)
		return page, err
	})
}

// rollouts reads rows of the table, without documents.
func rollouts(ctx context.Context, q tables.Querier, where string, args ...any) ([]conf.RolloutEnd, error) {
	out := []conf.RolloutEnd{}
	tab := tables.Rollouts
	err := tables.EachOf(ctx, q, tables.NewDigester(), tab, func(r *tables.Row) error {
		e, err := tables.RolloutOf(r)
		out = append(out, e)
		return err
	}, "SELECT "+strings.Join(tab.Cols, ", ")+", digest FROM "+tab.Name+" "+where, args...)
	return out, err
}
