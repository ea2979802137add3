package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// endTokens revokes the API tokens and the join tokens of a database that came from a
// backup. Services are signed; tokens are rows that whoever can write to the backups
// could have put there, and those that were revoked since then would work again.
func (ss *session) endTokens(ctx context.Context, at string) error {
	row := func(what string) []conf.Access {
		return []conf.Access{{UserID: "recover", Action: "write", Success: true, Reason: what + " of the backup revoked", Timestamp: at}}
	}
	api := &command.APITokens{At: at, By: "recover", Audit: row("API tokens")}
	all := ss.store.APITokens()
	for _, id := range conf.SortedKeys(all) {
		if !all[id].Revoked {
			api.Revoke = append(api.Revoke, id)
		}
	}
	if len(api.Revoke) > 0 {
		if err := settled(ss.member.Propose(ctx, api)); err != nil {
			return err
		}
	}
	tokens, err := ss.store.JoinTokens(ctx)
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
		if err := ss.dropTokenFiles(join.TokenRevokes); err != nil {
			return err
		}
		if err := ss.s.cluster.propose(ctx, ss, join); err != nil {
			return err
		}
	}
	if n := len(api.Revoke) + len(join.TokenRevokes); n > 0 {
		ss.s.log.Warn("the tokens of the backup are revoked: make new ones, with a token of CONFIG_API_TOKENS", "api_tokens", len(api.Revoke), "join_tokens", len(join.TokenRevokes))
	}
	return nil
}

// dropTokenFiles removes the files for tools whose tokens are among ids, so that
// they are made anew.
func (ss *session) dropTokenFiles(ids []string) error {
	for _, path := range []string{ss.s.o.ServerTokenPath, ss.s.o.SidecarTokenPath} {
		t, err := tokenIn(path)
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

// tokenIn reads the join token in a file.
func tokenIn(path string) (transport.Token, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return transport.Token{}, err
	}
	return transport.ParseToken(strings.TrimSpace(string(data)))
}
