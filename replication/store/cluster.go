package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// keepTokens bounds join_tokens. One more pushes out the oldest that admits
// nobody any more, together with the record of its uses.
const keepTokens = 1000

// Columns of the tables of the cluster.
const (
	memberNode = iota
	memberRole
	memberService
	memberAddr
	memberVersion
	memberKeyHash
	memberJoined
	memberRemoved
)

const (
	tokenID = iota
	tokenSecretHash
	tokenRole
	tokenService
	tokenExpires
	tokenUses
	tokenUsed
	tokenCreated
	tokenCreatedBy
	tokenRevoked
)

// cluster applies all of c or, with a refusal, nothing. A node is removed before
// another is admitted under its id, whatever the order in the entry.
func (t *tx) cluster(c *command.Cluster) error {
	for i := range c.Tokens {
		if err := t.putToken(c, &c.Tokens[i]); err != nil {
			return err
		}
	}
	for _, id := range c.TokenRevokes {
		if err := t.revokeToken(c, id); err != nil {
			return err
		}
	}
	for _, id := range c.MemberRemoves {
		if err := t.removeMember(c, id); err != nil {
			return err
		}
	}
	for _, u := range c.Uses {
		if err := t.useToken(c, u); err != nil {
			return err
		}
	}
	for _, m := range c.Members {
		if err := t.putMember(c, m); err != nil {
			return err
		}
	}
	return t.audit(c.Audit)
}

func (t *tx) putToken(c *command.Cluster, jt *command.JoinToken) error {
	old, err := readRow(t.ctx, t.w, t.dig, tableTokens, jt.ID)
	if err != nil {
		return err
	}
	if old != nil {
		if was, _ := tokenOf(old); was != *jt {
			return refuse(conf.CodeConflict, "there is another join token %s", jt.ID)
		}
		return nil
	}
	if err := t.forgetToken(c.At); err != nil {
		return err
	}
	return t.insert(tableTokens, jt.ID, jt.SecretHash, jt.Role, null(jt.Service), null(jt.ExpiresAt), int64(jt.Uses), int64(0),
		c.At, null(jt.CreatedBy), nil)
}

// forgetToken makes room for one more token.
func (t *tx) forgetToken(at string) error {
	var n int
	if err := t.w.QueryRowContext(t.ctx, "SELECT count(*) FROM join_tokens").Scan(&n); err != nil || n < keepTokens {
		return err
	}
	var oldest *conf.JoinTokenInfo
	err := eachRow(t.ctx, t.w, tableTokens, t.dig, func(vals []any, d [sha256.Size]byte) error {
		_, info := tokenOf(&row{vals, d})
		if info.Refusal(at) != "" && (oldest == nil || compareTokens(info, *oldest) < 0) {
			oldest = &info
		}
		return nil
	})
	if err != nil {
		return err
	}
	if oldest == nil {
		return refusal{conf.Errorf(conf.CodeInvalid, "there are %d join tokens that can be used", n).
			WithHint("revoke some of them first: holdfast token revoke ID")}
	}
	rows, err := t.w.QueryContext(t.ctx, "SELECT node_id, key_hash FROM join_uses WHERE token_id = ?", oldest.ID)
	if err != nil {
		return err
	}
	defer rows.Close()
	var uses [][2]string
	for rows.Next() {
		var u [2]string
		if err := rows.Scan(&u[0], &u[1]); err != nil {
			return err
		}
		uses = append(uses, u)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, u := range uses {
		if err := t.remove(tableUses, oldest.ID, u[0], u[1]); err != nil {
			return err
		}
	}
	return t.remove(tableTokens, oldest.ID)
}

func (t *tx) revokeToken(c *command.Cluster, id string) error {
	old, err := readRow(t.ctx, t.w, t.dig, tableTokens, id)
	switch {
	case err != nil:
		return err
	case old == nil:
		return refusal{noToken(id)}
	case old.vals[tokenRevoked] != nil:
		return nil
	}
	vals := slices.Clone(old.vals)
	vals[tokenRevoked] = c.At
	return t.upsert(tableTokens, old, vals...)
}

// useToken admits one node. The refusals are told to the audit log; a joiner
// must not learn from them which tokens exist.
func (t *tx) useToken(c *command.Cluster, u command.TokenUse) error {
	denied := func(why string) error {
		return refuse(conf.CodeDenied, "the join token %s, used by %s, is refused: %s", u.TokenID, u.NodeID, why)
	}
	tok, err := readRow(t.ctx, t.w, t.dig, tableTokens, u.TokenID)
	if err != nil {
		return err
	}
	if tok == nil {
		return denied("unknown")
	}
	_, info := tokenOf(tok)
	member, err := readRow(t.ctx, t.w, t.dig, tableMembers, u.NodeID)
	if err != nil {
		return err
	}
	use, err := readRow(t.ctx, t.w, t.dig, tableUses, u.TokenID, u.NodeID, u.KeyHash)
	if err != nil {
		return err
	}
	live := member != nil && member.vals[memberRemoved] == nil
	ownKey := live && member.text(memberKeyHash) == u.KeyHash
	// Who lost the answer asks again. A node that was removed since then is not
	// let in by that: it needs a token that still works.
	if use != nil && ownKey {
		return nil
	}
	if why := info.Refusal(c.At); why != "" {
		return denied(why)
	}
	for _, m := range c.Members {
		if m.NodeID == u.NodeID && (m.Role != info.Role || (info.Service != "" && m.Service != info.Service)) {
			return denied("role")
		}
	}
	if live && !ownKey {
		return refusal{conf.Errorf(conf.CodeConflict, "the node id %s is taken", u.NodeID).
			WithHint("give the new agent another CONFIG_NODE_ID, or remove the old one first: holdfast cluster remove %s", u.NodeID)}
	}
	if live && (member.text(memberRole) != info.Role || (info.Service != "" && member.text(memberService) != info.Service)) {
		return denied("role")
	}

	if err := t.upsert(tableUses, use, u.TokenID, u.NodeID, u.KeyHash, c.At); err != nil {
		return err
	}
	vals := slices.Clone(tok.vals)
	vals[tokenUsed] = int64(info.Used + 1)
	if err := t.upsert(tableTokens, tok, vals...); err != nil {
		return err
	}
	if live {
		return nil
	}
	// From here on its id is taken and it can be removed, even if it never
	// comes back to tell its address: it may hold a certificate.
	return t.upsert(tableMembers, member, u.NodeID, info.Role, null(info.Service), "", "", u.KeyHash, c.At, nil)
}

// putMember stores what an agent tells of itself. The role is what its
// certificate says, and so is a sidecar's service: neither changes.
func (t *tx) putMember(c *command.Cluster, m command.Member) error {
	old, err := readRow(t.ctx, t.w, t.dig, tableMembers, m.NodeID)
	if err != nil {
		return err
	}
	key, joined := "", c.At // the first server of a cluster uses no token
	if old != nil {
		is := memberOf(old)
		switch {
		case is.RemovedAt != "":
			return refusal{conf.Errorf(conf.CodeDenied, "%s was removed from the cluster", m.NodeID).
				WithHint("join again with a new token: holdfast token create")}
		case is.Role != m.Role:
			return refuse(conf.CodeDenied, "%s is a %s and cannot become a %s", m.NodeID, is.Role, m.Role)
		case is.Role == conf.MemberSidecar && is.Service != "" && is.Service != m.Service:
			return refuse(conf.CodeDenied, "%s is the sidecar of %s and cannot become one of %q", m.NodeID, is.Service, m.Service)
		case is.Service == m.Service && is.Addr == m.Addr && is.Version == m.Version:
			return nil
		}
		key, joined = old.text(memberKeyHash), is.JoinedAt
	}
	return t.upsert(tableMembers, old, m.NodeID, m.Role, null(m.Service), m.Addr, m.Version, key, joined, nil)
}

func (t *tx) removeMember(c *command.Cluster, id string) error {
	old, err := readRow(t.ctx, t.w, t.dig, tableMembers, id)
	switch {
	case err != nil:
		return err
	case old == nil:
		return refusal{conf.Errorf(conf.CodeNotFound, "no member %q", id).WithHint("list the members: holdfast cluster members")}
	case old.vals[memberRemoved] != nil:
		return nil
	}
	vals := slices.Clone(old.vals)
	vals[memberRemoved] = c.At
	return t.upsert(tableMembers, old, vals...)
}

// AdmittedFor is the service that a live sidecar was admitted for, by the word of the
// token that let it in, and "" when there is none: what it tells of itself is not
// enough for the keys of that service.
func (s *Store) AdmittedFor(ctx context.Context, node string) (service string, err error) {
	err = s.read(ctx, "read who was admitted", func(q querier) error {
		dig := newDigester()
		m, err := readRow(ctx, q, dig, tableMembers, node)
		if err != nil || m == nil || m.vals[memberRemoved] != nil || m.text(memberKeyHash) == "" || m.text(memberService) == "" {
			return err
		}
		var tokens []string
		err = eachRow(ctx, q, tableUses, dig, func(vals []any, d [sha256.Size]byte) error {
			// Of this admission: not of one that ended with the removal of the member.
			if u := (&row{vals, d}); u.text(1) == node && u.text(2) == m.text(memberKeyHash) && u.text(3) >= m.text(memberJoined) {
				tokens = append(tokens, u.text(0))
			}
			return nil
		})
		for _, id := range tokens {
			tok, terr := readRow(ctx, q, dig, tableTokens, id)
			if err = errors.Join(err, terr); err != nil {
				return err
			}
			if tok != nil && tok.text(tokenRole) == conf.MemberSidecar && tok.text(tokenService) == m.text(memberService) {
				service = tok.text(tokenService)
			}
		}
		return err
	})
	return service, err
}

// Members lists every agent that was admitted, removed ones too, by node id.
func (s *Store) Members(ctx context.Context) ([]conf.Member, error) {
	return s.members.get(s, func() ([]conf.Member, error) { return s.readMembers(ctx) })
}

func (s *Store) readMembers(ctx context.Context) ([]conf.Member, error) {
	out := []conf.Member{}
	err := s.read(ctx, "read the members", func(q querier) error {
		return eachRow(ctx, q, tableMembers, newDigester(), func(vals []any, d [sha256.Size]byte) error {
			out = append(out, memberOf(&row{vals, d}))
			return nil
		})
	})
	slices.SortFunc(out, func(a, b conf.Member) int { return strings.Compare(a.NodeID, b.NodeID) })
	return out, err
}

// JoinTokens lists the join tokens, the newest first.
func (s *Store) JoinTokens(ctx context.Context) ([]conf.JoinTokenInfo, error) {
	out := []conf.JoinTokenInfo{}
	err := s.read(ctx, "read the join tokens", func(q querier) error {
		return eachRow(ctx, q, tableTokens, newDigester(), func(vals []any, d [sha256.Size]byte) error {
			_, info := tokenOf(&row{vals, d})
			out = append(out, info)
			return nil
		})
	})
	slices.SortFunc(out, func(a, b conf.JoinTokenInfo) int { return compareTokens(b, a) })
	return out, err
}

// JoinToken reads one join token. Nothing else gives the hash of a secret away.
func (s *Store) JoinToken(ctx context.Context, id string) (command.JoinToken, conf.JoinTokenInfo, error) {
	var jt command.JoinToken
	var info conf.JoinTokenInfo
	err := s.read(ctx, "read a join token", func(q querier) error {
		r, err := readRow(ctx, q, newDigester(), tableTokens, id)
		if err != nil {
			return err
		}
		if r == nil {
			return noToken(id)
		}
		jt, info = tokenOf(r)
		return nil
	})
	return jt, info, err
}

// JoinUses lists by whom a join token was used, each joiner once.
func (s *Store) JoinUses(ctx context.Context, id string) ([]command.TokenUse, error) {
	out := []command.TokenUse{}
	err := s.read(ctx, "read the uses of a join token", func(q querier) error {
		return eachRow(ctx, q, tableUses, newDigester(), func(vals []any, _ [sha256.Size]byte) error {
			if textOf(vals[0]) == id {
				out = append(out, command.TokenUse{TokenID: id, NodeID: textOf(vals[1]), KeyHash: textOf(vals[2])})
			}
			return nil
		})
	})
	return out, err
}

func noToken(id string) *conf.Error {
	return conf.Errorf(conf.CodeNotFound, "no join token %q", id).WithHint("list the tokens: holdfast token list")
}

func compareTokens(a, b conf.JoinTokenInfo) int {
	return cmp.Or(strings.Compare(a.CreatedAt, b.CreatedAt), strings.Compare(a.ID, b.ID))
}

func memberOf(r *row) conf.Member {
	return conf.Member{
		NodeID: r.text(memberNode), Role: r.text(memberRole), Service: r.text(memberService), Addr: r.text(memberAddr),
		Version: r.text(memberVersion), JoinedAt: r.text(memberJoined), RemovedAt: r.text(memberRemoved),
	}
}

func tokenOf(r *row) (command.JoinToken, conf.JoinTokenInfo) {
	jt := command.JoinToken{
		ID: r.text(tokenID), SecretHash: r.text(tokenSecretHash), Role: r.text(tokenRole), Service: r.text(tokenService),
		ExpiresAt: r.text(tokenExpires), CreatedBy: r.text(tokenCreatedBy), Uses: int(intOf(r.vals[tokenUses])),
	}
	return jt, conf.JoinTokenInfo{
		ID: jt.ID, Role: jt.Role, Service: jt.Service, ExpiresAt: jt.ExpiresAt, CreatedBy: jt.CreatedBy, CreatedAt: r.text(tokenCreated),
		Uses: jt.Uses, Used: int(intOf(r.vals[tokenUsed])), Revoked: r.vals[tokenRevoked] != nil,
	}
}
