package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// KeyChange carries out a rotation, gives one up, or ends the time of an old key.
// This agent leads.
func (c *cluster) KeyChange(ctx context.Context, who conf.Principal, change, kind, reason string) (conf.KeyRotation, error) {
	if err := conf.CheckKeyKind(kind); err != nil {
		return conf.KeyRotation{}, err
	}
	ss, err := c.own()
	if err != nil {
		return conf.KeyRotation{}, err
	}
	c.s.rotating.Lock()
	defer c.s.rotating.Unlock()
	// What is stored here and not announced yet must not be taken for a leftover.
	ss.tending.Lock()
	defer ss.tending.Unlock()
	if err := ss.loadRing(ctx); err != nil {
		return conf.KeyRotation{}, err
	}
	if err := ss.adoptKeys(ctx); err != nil {
		return conf.KeyRotation{}, err
	}
	switch change {
	case conf.KeysRotate, conf.KeysPrepare:
		err = ss.rotate(ctx, who, kind, reason, change == conf.KeysPrepare)
	case conf.KeysAbort:
		err = ss.abortKey(ctx, who, kind)
	case conf.KeysRetire:
		err = ss.retireKey(ctx, who, kind)
	default:
		err = conf.Errorf(conf.CodeUsage, "unknown change %q", change)
	}
	if err != nil {
		return conf.KeyRotation{}, err
	}
	select {
	case c.s.rotateTurn <- struct{}{}:
	default:
	}
	st, err := c.Keys(ctx)
	if err != nil {
		return conf.KeyRotation{}, err
	}
	for _, r := range st.Rotations {
		if r.Kind == kind {
			return r, nil
		}
	}
	out := conf.KeyRotation{Kind: kind, Waiting: []string{}}
	if a := c.s.known().Active(kind); a != nil {
		out.KeyID = a.ID
	}
	return out, nil
}

// rotate makes a new key and announces it, after everything that can refuse has been
// asked. One that runs already is left to run.
func (ss *session) rotate(ctx context.Context, who conf.Principal, kind, reason string, hold bool) error {
	s := ss.s
	now := time.Now()
	at := conf.FormatTime(now)
	ring := s.known()
	active := ring.Active(kind)
	if next := ring.Next(kind); next != nil {
		if !next.Hold || hold {
			return nil
		}
		return ss.proposeKeys(ctx, &command.Keyring{
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
	if _, old := s.keys.Get().IDs(kind); kind == conf.KeyMaster && old != "" && old != active.ID {
		if n, err := ss.store.SecretKeyIDs(ctx); err != nil || n[old] > 0 {
			return conf.Errorf(conf.CodeConflict, "%d secrets are still under the key %s", n[old], old).WithHint("see: holdfast keys status")
		}
	}
	if err := s.cluster.readyFor(ctx, kind); err != nil {
		return err
	}
	next := command.NewKey{Kind: kind}
	if kind == conf.KeyCA {
		id := s.cluster.port.Identity()
		if id.CA == nil || id.CA.Hash() != active.ID {
			return conf.Errorf(conf.CodeNoQuorum, "this leader does not hold the CA in use yet").WithHint("try again in a moment")
		}
		ca, err := transport.NextCA(id.CA, now)
		if err != nil {
			return err
		}
		if err := transport.SaveNextCA(s.o.tlsDir(), ca); err != nil {
			return err
		}
		next = s.newKey(kind, ca.Hash(), nil)
	} else {
		m, err := keys.NewMaterial(kind, "")
		if err != nil {
			return err
		}
		if err := s.stored(keys.Rotate(s.o.Env, s.o.EnvFile, m, active.ID, s.keyOptions())); err != nil {
			return err
		}
		next = s.newKey(kind, m.ID, s.keys.Get().Signing(active.ID))
	}
	next.Hold = hold
	if err := s.cluster.handOver(ctx, kind, next.ID); err != nil {
		ss.undoOwn(kind, next.ID)
		return err
	}
	if reason == "" {
		reason = "rotation"
	}
	s.log.Info("rotating a key", "kind", kind, "old", active.ID, "new", next.ID, "by", who.Name)
	return ss.proposeKeys(ctx, &command.Keyring{
		At: at, By: who.Name, Announce: []command.NewKey{next},
		Audit: []conf.Access{{UserID: who.Name, Action: "write", Success: true, Reason: fmt.Sprintf("%s key %s announced: %s", kind, next.ID, reason), Timestamp: at}},
	})
}

// readyFor asks every server whether it can store a new key, before anything is
// changed anywhere.
func (c *cluster) readyFor(ctx context.Context, kind string) error {
	voter := map[string]bool{}
	for _, s := range c.servers() {
		voter[s.ID] = s.Voter
	}
	for _, m := range c.members() {
		if m.Role != conf.MemberServer {
			continue
		}
		var err error
		if m.NodeID == c.self() {
			err = c.canRotate(kind)
		} else {
			cctx, cancel := context.WithTimeout(ctx, 2*statusTimeout)
			err = c.call(cctx, m.NodeID, "/keys/ready?kind="+kind, nil, nil)
			cancel()
		}
		code := conf.CodeOf(err)
		switch {
		case err == nil:
		case code == conf.CodeImmutable || code == conf.CodeUsage || code == conf.CodeStorageFull:
			return conf.Errorf(code, "%s cannot take a new %s key: %w", m.NodeID, kind, err).
				WithHint("move its keys to a .env file that the agent may write (CONFIG_ENV_FILE); or rotate by hand: on every server put the new key in place and the old one into the _OLD_ variables, and restart them one by one")
		case voter[m.NodeID]:
			return conf.Errorf(conf.CodeNoQuorum, "the voter %s does not answer: %w", m.NodeID, err).
				WithHint("start it, or remove it: holdfast cluster remove %s; then rotate again", m.NodeID)
		}
	}
	return nil
}

// canRotate says whether this agent can store a new key.
func (c *cluster) canRotate(kind string) error {
	if kind == conf.KeyCA {
		return nil
	}
	return keys.Rotatable(c.o.Env, c.o.EnvFile, kind, c.s.keyOptions())
}

func (ss *session) abortKey(ctx context.Context, who conf.Principal, kind string) error {
	next := ss.s.known().Next(kind)
	if next == nil {
		return conf.Errorf(conf.CodeNotFound, "no %s key is announced that is not in use", kind).WithHint("see: holdfast keys status")
	}
	at := conf.FormatTime(time.Now())
	return ss.proposeKeys(ctx, &command.Keyring{
		At: at, By: who.Name, End: []command.KeyEnd{{Kind: kind, ID: next.ID, NotAfter: at}},
		Audit: []conf.Access{{UserID: who.Name, Action: "write", Success: true, Reason: fmt.Sprintf("%s key %s given up", kind, next.ID), Timestamp: at}},
	})
}

// retireKey ends the time of the old key now, when nothing needs it any more.
func (ss *session) retireKey(ctx context.Context, who conf.Principal, kind string) error {
	s := ss.s
	now := time.Now()
	at := conf.FormatTime(now)
	ring := s.known()
	old, active := ring.Old(kind, at), ring.Active(kind)
	if old == nil || active == nil {
		return conf.Errorf(conf.CodeNotFound, "there is no old %s key", kind).WithHint("see: holdfast keys status")
	}
	needed := func(what string) error {
		return conf.Errorf(conf.CodeConflict, "the old %s key %s is still needed: %s", kind, old.ID, what).WithHint("wait until the rotation is through: holdfast keys status")
	}
	switch kind {
	case conf.KeyMaster:
		if n, err := ss.store.SecretKeyIDs(ctx); err != nil || n[old.ID] > 0 {
			return needed(fmt.Sprintf("%d secrets are under it", n[old.ID]))
		}
	case conf.KeySigning:
		if n := s.signedBy()[old.ID]; n > 0 {
			return needed(fmt.Sprintf("%d services are signed by it", n))
		}
	case conf.KeyCA:
		if away := s.cluster.notUsing(*active, s.cluster.keyMembers(ctx)); len(away) > 0 {
			return conf.Errorf(conf.CodeConflict, "the old CA is still needed by %s", away[0]).
				WithHint("start that member, or remove it: holdfast cluster remove NODE; it would be shut out and would have to join anew")
		}
	}
	return ss.proposeKeys(ctx, &command.Keyring{
		At: at, By: who.Name, End: []command.KeyEnd{{Kind: kind, ID: old.ID, NotAfter: at}},
		Audit: []conf.Access{{UserID: who.Name, Action: "write", Success: true, Reason: fmt.Sprintf("old %s key %s retired", kind, old.ID), Timestamp: at}},
	})
}

// Keys tells of the keys of the cluster. It answers without a leader, too.
func (c *cluster) Keys(ctx context.Context) (conf.KeysStatus, error) {
	return ask(c.s, func(ss *session) (conf.KeysStatus, error) {
		if err := ss.loadRing(ctx); err != nil {
			return conf.KeysStatus{}, err
		}
		secrets, err := ss.store.SecretKeyIDs(ctx)
		if err != nil {
			return conf.KeysStatus{}, err
		}
		now := time.Now()
		at := conf.FormatTime(now)
		ring, signed := c.s.known(), c.s.signedBy()
		out := conf.KeysStatus{Keys: []conf.KeyInfo{}, Rotations: []conf.KeyRotation{}, Members: c.keyMembers(ctx)}
		slices.SortFunc(out.Members, func(a, b conf.KeyMember) int {
			if a.NodeID < b.NodeID {
				return -1
			}
			return 1
		})
		for _, k := range ring {
			i := conf.KeyInfo{
				Kind: k.Kind, ID: k.ID, Public: k.Public, AnnouncedAt: k.AnnouncedAt, NotBefore: k.NotBefore, NotAfter: k.NotAfter,
				CreatedBy: k.CreatedBy, Proof: k.Proof, State: k.State(at),
			}
			switch k.Kind {
			case conf.KeyMaster:
				i.Secrets = secrets[k.ID]
			case conf.KeySigning:
				i.Signatures = signed[k.ID]
			}
			out.Keys = append(out.Keys, i)
		}
		for _, kind := range conf.KeyKinds() {
			if r, ok := c.rotation(ring, kind, out.Members, secrets, signed, now); ok {
				out.Rotations = append(out.Rotations, r)
			}
		}
		out.Encryption = encryption(c.s, ring, out.Rotations, at)
		return out, nil
	})
}

// rotation is where the rotation of a kind stands, if one is not at its end.
func (c *cluster) rotation(ring conf.Keyring, kind string, members []conf.KeyMember, secrets, signed map[string]int, now time.Time) (conf.KeyRotation, bool) {
	at := conf.FormatTime(now)
	next, active, old := ring.Next(kind), ring.Active(kind), ring.Old(kind, at)
	if active == nil {
		return conf.KeyRotation{}, false
	}
	if next != nil {
		r := conf.KeyRotation{Kind: kind, KeyID: next.ID, OldID: active.ID, Phase: conf.PhaseHandover, Waiting: c.waitingFor(*next, members, now)}
		lost := kind != conf.KeyCA || c.nextCA(next.ID) == nil // this agent may not trust yet what it made
		if lost && !slices.ContainsFunc(members, func(m conf.KeyMember) bool { return m.Role == conf.MemberServer && m.Holds[kind].Has(next.ID) }) {
			r.Waiting = append(r.Waiting, "a server that has the new key, for none that answers does: start the one that led when it was announced, or give the key up: holdfast keys rotate "+kind+" --abort")
		}
		if next.Hold {
			r.Phase = conf.PhasePrepared
		}
		return r, true
	}
	r := conf.KeyRotation{Kind: kind, KeyID: active.ID, Waiting: []string{}}
	count := func(by map[string]int) {
		for id, n := range by {
			r.Total += n
			if id == active.ID {
				r.Done += n
			}
		}
	}
	switch kind {
	case conf.KeyMaster:
		count(secrets)
	case conf.KeySigning:
		count(signed)
	case conf.KeyCA:
		if old != nil {
			r.Waiting = c.notUsing(*active, members)
			r.Total = len(members)
			r.Done = r.Total - len(r.Waiting)
		}
	case conf.KeyHMAC:
		if old != nil {
			r.Waiting = c.notUsing(*active, members)
			r.Total = len(members)
			r.Done = r.Total - len(r.Waiting)
		}
	}
	if old != nil {
		r.OldID, r.Until = old.ID, old.NotAfter
		if kind == conf.KeyCA {
			r.Until = ""
			if left := c.s.graceLeft(*active, now); left > 0 {
				r.Until = conf.FormatTime(now.Add(left))
			}
		}
	}
	switch {
	case r.Done < r.Total:
		r.Phase = conf.PhaseRenewal
	case old != nil:
		r.Phase = conf.PhaseGrace
	default:
		return r, false
	}
	return r, true
}

func encryption(s *supervisor, ring conf.Keyring, running []conf.KeyRotation, at string) conf.EncryptionMetadata {
	set := s.keys.Get()
	e := conf.EncryptionMetadata{HMACKeyID: s.inUse(conf.KeyHMAC), RotationStatus: "idle", SignaturePublicKeyHash: s.publicHash()}
	if e.MasterKeyID = set.MasterID; ring.Active(conf.KeyMaster) != nil {
		e.MasterKeyID = ring.Active(conf.KeyMaster).ID
	}
	for _, r := range running {
		if r.Kind != conf.KeyMaster {
			continue
		}
		e.RotationStatus = "in-progress"
		if r.Phase == conf.PhaseGrace {
			e.RotationStatus = "completed"
		}
	}
	if old := ring.Old(conf.KeyMaster, at); old != nil {
		e.GraceWindowUntil = &old.NotAfter
	}
	return e
}
