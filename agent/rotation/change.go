package rotation

import (
	"context"
	"fmt"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
)

// KeyChange rotates a key, aborts a rotation, or expires an old key. This agent leads.
func (m *Manager) KeyChange(ctx context.Context, who conf.Principal, change, kind, reason string) (conf.KeyRotation, error) {
	if err := conf.CheckKeyKind(kind); err != nil {
		return conf.KeyRotation{}, err
	}
	rep, err := m.sup.LeaderReplica()
	if err != nil {
		return conf.KeyRotation{}, err
	}
	if err := m.change(ctx, rep, who, change, kind, reason); err != nil {
		return conf.KeyRotation{}, err
	}
	wake(m.wakeLeader)
	st, err := m.Keys(ctx)
	if err != nil {
		return conf.KeyRotation{}, err
	}
	for _, r := range st.Rotations {
		if r.Kind == kind {
			return r, nil
		}
	}
	out := conf.KeyRotation{Kind: kind, Waiting: []string{}}
	if a := m.Keyring().Active(kind); a != nil {
		out.KeyID = a.ID
	}
	return out, nil
}

func (m *Manager) change(ctx context.Context, rep *replica.Replica, who conf.Principal, change, kind, reason string) error {
	m.mu.Lock() // what is stored here and not announced yet must not be taken for a leftover
	defer m.mu.Unlock()
	if err := m.LoadKeyring(ctx, rep.Store()); err != nil {
		return err
	}
	if err := m.announceUnlistedKeys(ctx, rep); err != nil {
		return err
	}
	switch change {
	case conf.KeysRotate, conf.KeysPrepare:
		return m.rotate(ctx, rep, who, kind, reason, change == conf.KeysPrepare)
	case conf.KeysAbort:
		return m.withdrawKey(ctx, rep, who, kind)
	case conf.KeysRetire:
		return m.expireOldKey(ctx, rep, who, kind)
	default:
		return conf.Errorf(conf.CodeUsage, "unknown change %q", change)
	}
}

// rotate makes a new key and announces it, after every server that can reject it was
// asked. A rotation that runs already continues.
func (m *Manager) rotate(ctx context.Context, rep *replica.Replica, who conf.Principal, kind, reason string, hold bool) error {
	now := m.o.Options.Clock()
	at := conf.FormatTime(now)
	ring := m.Keyring()
	active := ring.Active(kind)
	if next := ring.Next(kind); next != nil {
		if !next.Hold || hold {
			return nil
		}
		return m.proposeKeys(ctx, rep, &command.Keyring{
			At: at, By: who.Name, Announce: []command.NewKey{{Kind: kind, ID: next.ID, Public: next.Public, Proof: next.Proof}},
			Audit: []conf.Access{{UserID: who.Name, Action: "write", Success: true, Reason: fmt.Sprintf("%s key %s is to be used", kind, next.ID), Timestamp: at}},
		})
	}
	if active == nil {
		return conf.Errorf(conf.CodeUnsupported, "this cluster has no %s key", kind)
	}
	if old := ring.Old(kind, at); old != nil {
		return conf.Errorf(conf.CodeConflict, "the %s key %s of the last rotation is taken until %s", kind, old.ID, old.NotAfter).
			WithHint("wait for that; or end it now: holdfast keys retire %s", kind)
	}
	if _, old := m.Set().IDs(kind); kind == conf.KeyMaster && old != "" && old != active.ID {
		if n, err := rep.Store().Queries.SecretKeyIDs(ctx); err != nil || n[old] > 0 {
			return conf.Errorf(conf.CodeConflict, "%d secrets are still under the key %s", n[old], old).WithHint("see: holdfast keys status")
		}
	}
	if err := m.checkServersReady(ctx, kind); err != nil {
		return err
	}
	next := command.NewKey{Kind: kind}
	if kind == conf.KeyCA {
		id := m.ca.port.Identity()
		if id.CA == nil || id.CA.Hash() != active.ID {
			return conf.Errorf(conf.CodeNoQuorum, "this leader does not hold the CA in use yet").WithHint("try again in a moment")
		}
		ca, err := pki.NextCA(id.CA, now)
		if err != nil {
			return err
		}
		if err := pki.SaveNextCA(m.ca.dir, ca); err != nil {
			return err
		}
		next = m.newKey(kind, ca.Hash(), nil)
	} else {
		key, err := keys.NewMaterial(kind, "")
		if err != nil {
			return err
		}
		if err := m.file.rotate(key, active.ID); err != nil {
			return err
		}
		next = m.newKey(kind, key.ID, m.Set().Signing(active.ID))
	}
	next.Hold = hold
	if err := m.Distribute(ctx, kind, next.ID); err != nil {
		m.discardPending(kind, next.ID)
		return err
	}
	if reason == "" {
		reason = "rotation"
	}
	m.log.Info("rotating a key", "kind", kind, "old", active.ID, "new", next.ID, "by", who.Name)
	return m.proposeKeys(ctx, rep, &command.Keyring{
		At: at, By: who.Name, Announce: []command.NewKey{next},
		Audit: []conf.Access{{UserID: who.Name, Action: "write", Success: true, Reason: fmt.Sprintf("%s key %s announced: %s", kind, next.ID, reason), Timestamp: at}},
	})
}

// checkServersReady asks every server whether it can store a new key, before anything is
// changed anywhere.
func (m *Manager) checkServersReady(ctx context.Context, kind string) error {
	c := m.o.Cluster
	voter := c.Voters()
	for _, row := range c.Members() {
		if row.Role != conf.MemberServer {
			continue
		}
		var err error
		if row.NodeID == c.Self() {
			err = m.file.canRotate(kind)
		} else {
			cctx, cancel := context.WithTimeout(ctx, 2*peers.StatusTimeout)
			err = c.Call(cctx, row.NodeID, routeReady+"?kind="+kind, nil, nil)
			cancel()
		}
		code := conf.CodeOf(err)
		switch {
		case err == nil:
		case code == conf.CodeImmutable || code == conf.CodeUsage || code == conf.CodeStorageFull:
			return conf.Errorf(code, "%s cannot take a new %s key: %w", row.NodeID, kind, err).
				WithHint("move its keys to a .env file that the agent may write (CONFIG_ENV_FILE); or rotate by hand: on every server put the new key in place and the old one into the _OLD_ variables, and restart them one by one")
		case voter[row.NodeID]:
			return conf.Errorf(conf.CodeNoQuorum, "the voter %s does not answer: %w", row.NodeID, err).
				WithHint("start it, or remove it: holdfast cluster remove %s; then rotate again", row.NodeID)
		}
	}
	return nil
}

// withdrawKey aborts a rotation: the announced key is not used.
func (m *Manager) withdrawKey(ctx context.Context, rep *replica.Replica, who conf.Principal, kind string) error {
	next := m.Keyring().Next(kind)
	if next == nil {
		return conf.Errorf(conf.CodeNotFound, "no %s key is announced that is not in use", kind).WithHint("see: holdfast keys status")
	}
	at := conf.FormatTime(m.o.Options.Clock())
	return m.proposeKeys(ctx, rep, &command.Keyring{
		At: at, By: who.Name, End: []command.KeyExpiry{{Kind: kind, ID: next.ID, NotAfter: at}},
		Audit: []conf.Access{{UserID: who.Name, Action: "write", Success: true, Reason: fmt.Sprintf("%s key %s given up", kind, next.ID), Timestamp: at}},
	})
}

// expireOldKey ends the grace period of the old key now, when nothing needs it any more.
func (m *Manager) expireOldKey(ctx context.Context, rep *replica.Replica, who conf.Principal, kind string) error {
	now := m.o.Options.Clock()
	at := conf.FormatTime(now)
	ring := m.Keyring()
	old, active := ring.Old(kind, at), ring.Active(kind)
	if old == nil || active == nil {
		return conf.Errorf(conf.CodeNotFound, "there is no old %s key", kind).WithHint("see: holdfast keys status")
	}
	needed := func(what string) error {
		return conf.Errorf(conf.CodeConflict, "the old %s key %s is still needed: %s", kind, old.ID, what).WithHint("wait until the rotation is through: holdfast keys status")
	}
	switch kind {
	case conf.KeyMaster:
		if n, err := rep.Store().Queries.SecretKeyIDs(ctx); err != nil || n[old.ID] > 0 {
			return needed(fmt.Sprintf("%d secrets are under it", n[old.ID]))
		}
	case conf.KeySigning:
		if n := signedBy(m.o.View)[old.ID]; n > 0 {
			return needed(fmt.Sprintf("%d services are signed by it", n))
		}
	case conf.KeyCA:
		if away := membersNotUsing(*active, m.members.all(ctx)); len(away) > 0 {
			return conf.Errorf(conf.CodeConflict, "the old CA is still needed by %s", away[0]).
				WithHint("start that member, or remove it: holdfast cluster remove NODE; it would be locked out and would have to join again")
		}
	}
	return m.proposeKeys(ctx, rep, &command.Keyring{
		At: at, By: who.Name, End: []command.KeyExpiry{{Kind: kind, ID: old.ID, NotAfter: at}},
		Audit: []conf.Access{{UserID: who.Name, Action: "write", Success: true, Reason: fmt.Sprintf("old %s key %s retired", kind, old.ID), Timestamp: at}},
	})
}
