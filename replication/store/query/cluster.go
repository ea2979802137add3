package query

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// JoinedForService is the service of the join token that admitted a live sidecar, and ""
// when there is none. The service that a member reports of itself is not enough for
// the keys of that service.
func (s *Queries) JoinedForService(ctx context.Context, node string) (string, error) {
	return get(ctx, s, "read who was admitted", func(q tables.Querier) (service string, err error) {
		m, err := row(ctx, q, tables.Members, node)
		if err != nil || m == nil || m.Vals[tables.MemberRemoved] != nil || m.Text(tables.MemberKeyHash) == "" || m.Text(tables.MemberService) == "" {
			return "", err
		}
		var tokens []string
		err = tables.Each(ctx, q, tables.NewDigester(), tables.JoinUses, func(u *tables.Row) error {
			// Of this admission: not of one that ended with the removal of the member.
			if u.Text(1) == node && u.Text(2) == m.Text(tables.MemberKeyHash) && u.Text(3) >= m.Text(tables.MemberJoined) {
				tokens = append(tokens, u.Text(0))
			}
			return nil
		})
		if err != nil {
			return "", err
		}
		for _, id := range tokens {
			tok, err := row(ctx, q, tables.JoinTokens, id)
			if err != nil {
				return "", err
			}
			if tok != nil && tok.Text(tables.TokenRole) == conf.MemberSidecar && tok.Text(tables.TokenService) == m.Text(tables.MemberService) {
				service = tok.Text(tables.TokenService)
			}
		}
		return service, nil
	})
}

// Members lists every agent that was admitted, removed ones too, by node id.
func (s *Queries) Members(ctx context.Context) ([]conf.Member, error) {
	return s.members.get(s.state(), func() ([]conf.Member, error) {
		return list(ctx, s, "read the members", tables.Members, func(r *tables.Row) (conf.Member, error) { return tables.MemberOf(r), nil },
			func(a, b conf.Member) int { return strings.Compare(a.NodeID, b.NodeID) })
	})
}

// MemberKeys lists the keys that members are admitted with, and those that were revoked.
func (s *Queries) MemberKeys(ctx context.Context) ([]conf.MemberKey, error) {
	return s.admits.get(s.state(), func() ([]conf.MemberKey, error) {
		return list(ctx, s, "read the keys of the members", tables.MemberKeys, func(r *tables.Row) (conf.MemberKey, error) { return tables.MemberKeyOf(r), nil },
			func(a, b conf.MemberKey) int {
				return cmp.Or(strings.Compare(a.NodeID, b.NodeID), strings.Compare(a.KeyHash, b.KeyHash))
			})
	})
}

// JoinTokens lists the join tokens, the newest first.
func (s *Queries) JoinTokens(ctx context.Context) ([]conf.JoinTokenInfo, error) {
	return list(ctx, s, "read the join tokens", tables.JoinTokens, func(r *tables.Row) (conf.JoinTokenInfo, error) {
		_, info := tables.JoinTokenOf(r)
		return info, nil
	}, func(a, b conf.JoinTokenInfo) int { return tables.CompareJoinTokens(b, a) })
}

// JoinToken reads one join token. No other query returns the hash of its secret.
func (s *Queries) JoinToken(ctx context.Context, id string) (jt command.JoinToken, info conf.JoinTokenInfo, err error) {
	err = s.read(ctx, "read a join token", func(q tables.Querier) error {
		r, err := row(ctx, q, tables.JoinTokens, id)
		if err != nil {
			return err
		}
		if r == nil {
			return tables.NoJoinToken(id)
		}
		jt, info = tables.JoinTokenOf(r)
		return nil
	})
	return jt, info, err
}

// APIToken is the API token with this id, from memory: as new as the last batch
// that was applied, without a query.
func (s *Queries) APIToken(id string) (conf.APIToken, bool) {
	t, ok := s.state().APITokens[id]
	return t, ok
}

// APITokens are all API tokens by id, from memory. The map must not be changed.
func (s *Queries) APITokens() map[string]conf.APIToken { return s.state().APITokens }

// ListAPITokens lists all API tokens without their hashes, the newest first.
func (s *Queries) ListAPITokens() []conf.APITokenInfo {
	all := s.APITokens()
	out := make([]conf.APITokenInfo, 0, len(all))
	for _, t := range all {
		out = append(out, t.APITokenInfo)
	}
	slices.SortFunc(out, func(a, b conf.APITokenInfo) int {
		return cmp.Or(cmp.Compare(b.CreatedAt, a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Keyring lists the keys of the cluster, in the order in which they were announced.
func (s *Queries) Keyring(ctx context.Context) (conf.Keyring, error) {
	return s.keys.get(s.state(), func() ([]conf.Key, error) {
		return get(ctx, s, "read the keyring", func(q tables.Querier) ([]conf.Key, error) {
			return tables.ReadKeyring(ctx, q, tables.NewDigester())
		})
	})
}
