package backend

import (
	"context"
	"encoding/json"

	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store"
)

// Archive is the Raft log and the store of the current replica for the editor. It
// implements edit.Proposer and edit.Archive. Supervisor is set before the first call.
type Archive struct{ Supervisor *replica.Supervisor }

// Propose commits a command to the Raft log and returns its result.
func (a *Archive) Propose(ctx context.Context, c command.Command) (command.Result, error) {
	return a.Supervisor.Propose(ctx, c)
}

// RequestResult returns the stored result of an earlier request.
func (a *Archive) RequestResult(ctx context.Context, id string) (command.Result, bool, error) {
	r := a.Supervisor.Current()
	if r == nil {
		return command.Result{}, false, a.Supervisor.Down()
	}
	return r.Store().Queries.RequestResult(ctx, id)
}

// Rollouts is edit.Archive's.
func (a *Archive) Rollouts(ctx context.Context, service string, limit, offset int) (conf.Page[conf.RolloutEnd], error) {
	return replica.Query(a.Supervisor, func(st *store.Store) (conf.Page[conf.RolloutEnd], error) {
		return st.Queries.Rollouts(ctx, service, limit, offset)
	})
}

// VersionValues returns the values that were stored at a version.
func (a *Archive) VersionValues(ctx context.Context, service string, version uint64) (json.RawMessage, error) {
	return replica.Query(a.Supervisor, func(st *store.Store) (json.RawMessage, error) { return st.Queries.VersionValues(ctx, service, version) })
}

// Profiles lists all profiles.
func (a *Archive) Profiles(ctx context.Context) ([]conf.Profile, error) {
	return replica.Query(a.Supervisor, func(st *store.Store) ([]conf.Profile, error) { return st.Queries.Profiles(ctx) })
}

// Profile returns one profile.
func (a *Archive) Profile(ctx context.Context, name string) (conf.Profile, error) {
	return replica.Query(a.Supervisor, func(st *store.Store) (conf.Profile, error) { return st.Queries.Profile(ctx, name) })
}
