package apply

import (
	"cmp"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// maxKeys is how many keys a member has at a time. One more revokes the oldest.
const maxKeys = 2

// keysOf lists the keys of a node that are not revoked, the oldest first.
func (t *clusterTx) keysOf(node string) ([]*tables.Row, error) {
	var out []*tables.Row
	err := tables.Each(t.ctx, t.w, t.dig, tables.MemberKeys, func(r *tables.Row) error {
		if r.Text(tables.KeyNode) == node && r.Vals[tables.KeyRevoked] == nil {
			out = append(out, &tables.Row{Vals: slices.Clone(r.Vals), Digest: r.Digest})
		}
		return nil
	})
	slices.SortFunc(out, func(a, b *tables.Row) int {
		return cmp.Or(strings.Compare(a.Text(tables.KeySince), b.Text(tables.KeySince)), strings.Compare(a.Text(tables.KeyHash), b.Text(tables.KeyHash)))
	})
	return out, err
}

// admitKey makes the cluster accept the certificates of one more key of a member, if m
// has one. A key that was revoked stays so: who had it may have it still.
func (t *clusterTx) admitKey(m command.Member) error {
	if m.KeyHash == "" {
		return nil
	}
	old, err := t.read(tables.MemberKeys, m.NodeID, m.KeyHash)
	switch {
	case err != nil:
		return err
	case old != nil && old.Vals[tables.KeyRevoked] == nil:
		return nil
	case old != nil:
		return rejection{conf.Errorf(conf.CodeConflict, "the key with which %s asks was revoked when %s was removed", m.NodeID, m.NodeID).
			WithHint("let it make a new one: empty its data directory, with the directory tls in it, and join with a new token")}
	}
	has, err := t.keysOf(m.NodeID)
	if err != nil {
		return err
	}
	for ; len(has) >= maxKeys; has = has[1:] {
		if err := t.revoke(has[0]); err != nil {
			return err
		}
	}
	return t.insert(tables.MemberKeys, m.NodeID, m.KeyHash, m.Role, t.c.At, nil, nil)
}

// revokeKeys ends all keys of a removed member.
func (t *clusterTx) revokeKeys(node string) error {
	has, err := t.keysOf(node)
	if err != nil {
		return err
	}
	return each(has, t.revoke)
}

func (t *clusterTx) revoke(key *tables.Row) error {
	at, err := conf.ParseTime(t.c.At)
	if err != nil {
		return err
	}
	vals := slices.Clone(key.Vals)
	vals[tables.KeyRevoked], vals[tables.KeyEnds] = t.c.At, conf.FormatTime(at.Add(conf.RevokedFor))
	return t.upsert(tables.MemberKeys, key, vals...)
}

// forgetKeys removes the revoked keys whose certificates have expired.
func (t *clusterTx) forgetKeys() error {
	var ended [][2]string
	err := tables.Each(t.ctx, t.w, t.dig, tables.MemberKeys, func(r *tables.Row) error {
		if ends := r.Text(tables.KeyEnds); ends != "" && ends < t.c.At { // the form sorts by time
			ended = append(ended, [2]string{r.Text(tables.KeyNode), r.Text(tables.KeyHash)})
		}
		return nil
	})
	if err != nil {
		return err
	}
	return each(ended, func(k [2]string) error { return t.remove(tables.MemberKeys, k[0], k[1]) })
}
