package query

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// AdmittedFor is the service that a live sidecar was admitted for, by the word of the
// token that let it in, and "" when there is none: what it tells of itself is not
// enough for the keys of that service.
func (s *Queries) AdmittedFor(ctx context.Context, node string) (service string, err error) {
	err = s.read(ctx, "read who was admitted", func(q tables.Querier) error {
		dig := tables.NewDigester()
		m, err := tables.Read(ctx, q, dig, tables.Members, node)
		if err != nil || m == nil || m.Vals[tables.MemberRemoved] != nil || m.Text(tables.MemberKeyHash) == "" || m.Text(tables.MemberService) == "" {
			return err
		}
		var tokens []string
		err = tables.Each(ctx, q, dig, tables.JoinUses, func(u *tables.Row) error {
			// Of this admission: not of one that ended with the removal of the member.
			if u.Text(1) == node && u.Text(2) == m.Text(tables.MemberKeyHash) && u.Text(3) >= m.Text(tables.MemberJoined) {
				tokens = append(tokens, u.Text(0))
			}
			return nil
		})
		for _, id := range tokens {
			tok, terr := tables.Read(ctx, q, dig, tables.JoinTokens, id)
			if err = errors.Join(err, terr); err != nil {
				return err
			}
			if tok != nil && tok.Text(tables.TokenRole) == conf.MemberSidecar && tok.Text(tables.TokenService) == m.Text(tables.MemberService) {
				service = tok.Text(tables.TokenService)
			}
		}
		return err
	})
	return service, err
}

// Members lists every agent that was admitted, removed ones too, by node id.
func (s *Queries) Members(ctx context.Context) ([]conf.Member, error) {
	return s.members.get(s.state(), func() ([]conf.Member, error) { return s.readMembers(ctx) })
}

func (s *Queries) readMembers(ctx context.Context) ([]conf.Member, error) {
	out := []conf.Member{}
	err := s.read(ctx, "read the members", func(q tables.Querier) error {
		return tables.Each(ctx, q, tables.NewDigester(), tables.Members, func(r *tables.Row) error {
			out = append(out, tables.MemberOf(r))
			return nil
		})
	})
	slices.SortFunc(out, func(a, b conf.Member) int { return strings.Compare(a.NodeID, b.NodeID) })
	return out, err
}

// JoinTokens lists the join tokens, the newest first.
func (s *Queries) JoinTokens(ctx context.Context) ([]conf.JoinTokenInfo, error) {
	out := []conf.JoinTokenInfo{}
	err := s.read(ctx, "read the join tokens", func(q tables.Querier) error {
		return tables.Each(ctx, q, tables.NewDigester(), tables.JoinTokens, func(r *tables.Row) error {
			_, info := tables.JoinTokenOf(r)
			out = append(out, info)
			return nil
		})
	})
	slices.SortFunc(out, func(a, b conf.JoinTokenInfo) int { return tables.CompareJoinTokens(b, a) })
	return out, err
}

// JoinToken reads one join token. Nothing else gives the hash of a secret away.
func (s *Queries) JoinToken(ctx context.Context, id string) (command.JoinToken, conf.JoinTokenInfo, error) {
	var jt command.JoinToken
	var info conf.JoinTokenInfo
	err := s.read(ctx, "read a join token", func(q tables.Querier) error {
		r, err := tables.Read(ctx, q, tables.NewDigester(), tables.JoinTokens, id)
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

// APITokens are all API tokens by id, from memory. The map is not to be changed.
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
	return s.keys.get(s.state(), func() (ring []conf.Key, err error) {
		err = s.read(ctx, "read the keyring", func(q tables.Querier) (err error) {
			ring, err = tables.ReadKeyring(ctx, q, tables.NewDigester())
			return err
		})
		return ring, err
	})
}
