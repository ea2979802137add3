package apply

import (
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// MaxJoinTokens bounds join_tokens. One more replaces the oldest that is not valid any
// more, together with its uses.
const MaxJoinTokens = 1000

// clusterTx applies one Cluster command.
type clusterTx struct {
	*tx
	c *command.Cluster
}

// apply applies all of the command or, with a rejection, nothing. A node is removed
// before another is admitted under its id, whatever the order in the entry.
func (t *clusterTx) apply() error {
	c := t.c
	if err := each(c.Tokens, t.putToken); err != nil {
		return err
	}
	for _, id := range c.TokenRevokes {
		if err := t.end(tables.JoinTokens, id, tables.TokenRevoked, c.At, tables.NoJoinToken(id)); err != nil {
			return err
		}
	}
	for _, id := range c.MemberRemoves {
		missing := conf.Errorf(conf.CodeNotFound, "no member %q", id).WithHint("list the members: holdfast cluster members")
		if err := t.end(tables.Members, id, tables.MemberRemoved, c.At, missing); err != nil {
			return err
		}
		if err := t.revokeKeys(id); err != nil {
			return err
		}
	}
	if err := each(c.Uses, t.useToken); err != nil {
		return err
	}
	if err := each(c.Members, t.putMember); err != nil {
		return err
	}
	if err := t.forgetKeys(); err != nil {
		return err
	}
	return t.audit(c.Audit)
}

func (t *clusterTx) putToken(jt command.JoinToken) error {
	old, err := t.read(tables.JoinTokens, jt.ID)
	if err != nil {
		return err
	}
	if old != nil {
		if was, _ := tables.JoinTokenOf(old); was != jt {
			return reject(conf.CodeConflict, "there is another join token %s", jt.ID)
		}
		return nil
	}
	if err := t.removeOldToken(); err != nil {
		return err
	}
	return t.insert(tables.JoinTokens, jt.ID, jt.SecretHash, jt.Role, tables.Null(jt.Service), tables.Null(jt.ExpiresAt), int64(jt.Uses), int64(0),
		t.c.At, tables.Null(jt.CreatedBy), nil)
}

// removeOldToken makes room for one more token.
func (t *clusterTx) removeOldToken() error {
	var n int
	if err := t.w.QueryRowContext(t.ctx, "SELECT count(*) FROM join_tokens").Scan(&n); err != nil || n < MaxJoinTokens {
		return err
	}
	var oldest *conf.JoinTokenInfo
	err := tables.Each(t.ctx, t.w, t.dig, tables.JoinTokens, func(r *tables.Row) error {
		_, info := tables.JoinTokenOf(r)
		if info.RejectReason(t.c.At) != "" && (oldest == nil || tables.CompareJoinTokens(info, *oldest) < 0) {
			oldest = &info
		}
		return nil
	})
	if err != nil {
		return err
	}
	if oldest == nil {
		return rejection{conf.Errorf(conf.CodeInvalid, "there are %d join tokens that can be used", n).
			WithHint("revoke some of them first: holdfast token revoke ID")}
	}
	var uses [][2]string
	err = tables.Each(t.ctx, t.w, t.dig, tables.JoinUses, func(r *tables.Row) error {
		if r.Text(0) == oldest.ID {
			uses = append(uses, [2]string{r.Text(1), r.Text(2)})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := each(uses, func(u [2]string) error { return t.remove(tables.JoinUses, oldest.ID, u[0], u[1]) }); err != nil {
		return err
	}
	return t.remove(tables.JoinTokens, oldest.ID)
}

// useToken admits one node. The rejections are for the access log; a joiner must not
// learn from them which tokens exist.
func (t *clusterTx) useToken(u command.TokenUse) error {
	denied := func(why string) error {
		return reject(conf.CodeDenied, "the join token %s, used by %s, is refused: %s", u.TokenID, u.NodeID, why)
	}
	tok, err := t.read(tables.JoinTokens, u.TokenID)
	if err != nil {
		return err
	}
	if tok == nil {
		return denied("unknown")
	}
	_, info := tables.JoinTokenOf(tok)
	member, err := t.read(tables.Members, u.NodeID)
	if err != nil {
		return err
	}
	use, err := t.read(tables.JoinUses, u.TokenID, u.NodeID, u.KeyHash)
	if err != nil {
		return err
	}
	live := member != nil && member.Vals[tables.MemberRemoved] == nil
	ownKey := live && member.Text(tables.MemberKeyHash) == u.KeyHash
	// A joiner that lost the response repeats the request. That does not admit a node
	// that was removed since then: it needs a token that is still valid.
	if use != nil && ownKey {
		return nil
	}
	if why := info.RejectReason(t.c.At); why != "" {
		return denied(why)
	}
	for _, m := range t.c.Members {
		if m.NodeID == u.NodeID && (m.Role != info.Role || (info.Service != "" && m.Service != info.Service)) {
			return denied("role")
		}
	}
	if live && !ownKey {
		return rejection{conf.Errorf(conf.CodeConflict, "the node id %s is taken", u.NodeID).
			WithHint("give the new agent another CONFIG_NODE_ID, or remove the old one first: holdfast cluster remove %s", u.NodeID)}
	}
	if live && (member.Text(tables.MemberRole) != info.Role || (info.Service != "" && member.Text(tables.MemberService) != info.Service)) {
		return denied("role")
	}

	if err := t.upsert(tables.JoinUses, use, u.TokenID, u.NodeID, u.KeyHash, t.c.At); err != nil {
		return err
	}
	if err := t.set(tables.JoinTokens, tok, tables.TokenUsed, int64(info.Used+1)); err != nil {
		return err
	}
	if live {
		return nil
	}
	// From here on its id is taken and it can be removed, even if it never reports
	// its address: it may have a certificate.
	return t.upsert(tables.Members, member, u.NodeID, info.Role, tables.Null(info.Service), "", "", u.KeyHash, t.c.At, nil)
}

// putMember stores what an agent reports of itself. The role is what its
// certificate says, and so is a sidecar's service: neither changes.
func (t *clusterTx) putMember(m command.Member) error {
	old, err := t.read(tables.Members, m.NodeID)
	if err != nil {
		return err
	}
	key, joined := "", t.c.At // the first server of a cluster uses no token
	if old != nil {
		is := tables.MemberOf(old)
		switch {
		case is.RemovedAt != "":
			return rejection{conf.Errorf(conf.CodeDenied, "%s was removed from the cluster", m.NodeID).
				WithHint("join again with a new token: holdfast token create")}
		case is.Role != m.Role:
			return reject(conf.CodeDenied, "%s is a %s and cannot become a %s", m.NodeID, is.Role, m.Role)
		case is.Role == conf.MemberSidecar && is.Service != "" && is.Service != m.Service:
			return reject(conf.CodeDenied, "%s is the sidecar of %s and cannot become one of %q", m.NodeID, is.Service, m.Service)
		case is.Service == m.Service && is.Addr == m.Addr && is.Version == m.Version:
			return t.admitKey(m)
		}
		key, joined = old.Text(tables.MemberKeyHash), is.JoinedAt
	}
	if err := t.upsert(tables.Members, old, m.NodeID, m.Role, tables.Null(m.Service), m.Addr, m.Version, key, joined, nil); err != nil {
		return err
	}
	return t.admitKey(m)
}
