package recovery

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// revokeRestoredTokens revokes the API tokens and the join tokens of a database that
// came from a backup. Services are signed; tokens are rows that any writer of the
// backup target could have put there, and those that were revoked since then would
// work again.
func (m *Manager) revokeRestoredTokens(ctx context.Context, rep Replica, at string) error {
	row := func(what string) []conf.Access {
		return []conf.Access{{UserID: "recover", Action: "write", Success: true, Reason: what + " of the backup revoked", Timestamp: at}}
	}
	api := &command.APITokens{At: at, By: "recover", Audit: row("API tokens")}
	all := rep.Store().Queries.APITokens()
	for _, id := range conf.SortedKeys(all) {
		if !all[id].Revoked {
			api.Revoke = append(api.Revoke, id)
		}
	}
	if len(api.Revoke) > 0 {
		if err := propose(ctx, rep, api); err != nil {
			return err
		}
	}
	tokens, err := rep.Store().Queries.JoinTokens(ctx)
	if err != nil {
		return err
	}
	join := &command.Cluster{At: at, By: "recover", Audit: row("join tokens")}
	for _, t := range tokens {
		if !t.Revoked {
			join.TokenRevokes = append(join.TokenRevokes, t.ID)
		}
	}
	if len(join.TokenRevokes) > 0 {
		if err := m.removeTokenFiles(join.TokenRevokes); err != nil {
			return err
		}
		if err := propose(ctx, rep, join); err != nil {
			return err
		}
	}
	if n := len(api.Revoke) + len(join.TokenRevokes); n > 0 {
		m.log.Warn("revoked the tokens of the backup: create new ones with a token of CONFIG_API_TOKENS", "api_tokens", len(api.Revoke), "join_tokens", len(join.TokenRevokes))
	}
	return nil
}

// removeTokenFiles removes the files for tools whose tokens are among ids, so that they
// are written again.
func (m *Manager) removeTokenFiles(ids []string) error {
	for _, path := range append(conf.SortedKeys(m.o.Options.SidecarTokens()), m.o.Options.ServerTokenPath) {
		t, err := transport.ReadTokenFile(path)
		for _, id := range ids {
			if err != nil || t.ID != id {
				continue
			}
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
