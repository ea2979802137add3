package rotation

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store"
)

// Keys reports the keys of the cluster. It answers without a leader, too.
func (m *Manager) Keys(ctx context.Context) (conf.KeysStatus, error) {
	return replica.Query(m.sup, func(st *store.Store) (conf.KeysStatus, error) {
		if err := m.LoadKeyring(ctx, st); err != nil {
			return conf.KeysStatus{}, err
		}
		secrets, err := st.Queries.SecretKeyIDs(ctx)
		if err != nil {
			return conf.KeysStatus{}, err
		}
		now := m.o.Options.Clock()
		at := conf.FormatTime(now)
		ring, signed := m.Keyring(), signedBy(m.o.View)
		out := conf.KeysStatus{Keys: []conf.KeyInfo{}, Rotations: []conf.KeyRotation{}, Members: m.members.all(ctx)}
		slices.SortFunc(out.Members, func(a, b conf.MemberKeys) int { return strings.Compare(a.NodeID, b.NodeID) })
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
		report := keyReport{m, ring, out.Members, secrets, signed, now}
		for _, kind := range conf.KeyKinds() {
			if r, ok := report.rotation(kind); ok {
				out.Rotations = append(out.Rotations, r)
			}
		}
		out.Encryption = report.encryption(out.Rotations)
		return out, nil
	})
}

// keyReport is the state of the cluster's keys at one moment.
type keyReport struct {
	m               *Manager
	ring            conf.Keyring
	members         []conf.MemberKeys
	secrets, signed map[string]int // secrets and services by key id
	now             time.Time
}

// spread is how long a new key may take to the other servers before it seems lost.
const spread = 10 * time.Second

// longAnnounced reports whether a key was announced so long ago that a healthy cluster
// has it on more than one server.
func longAnnounced(k conf.Key, now time.Time) bool {
	at, err := conf.ParseTime(k.AnnouncedAt)
	return err != nil || now.Sub(at) > spread
}

// rotation is the state of the rotation of a kind, if one is not complete.
func (k keyReport) rotation(kind string) (conf.KeyRotation, bool) {
	next, active, old := k.ring.Next(kind), k.ring.Active(kind), k.ring.Old(kind, conf.FormatTime(k.now))
	if active == nil {
		return conf.KeyRotation{}, false
	}
	if next != nil {
		r := conf.KeyRotation{Kind: kind, KeyID: next.ID, OldID: active.ID, Phase: conf.PhaseHandover, Waiting: k.m.members.missing(*next, k.members, k.now)}
		lost := kind != conf.KeyCA || k.m.ca.next(next.ID) == nil // this agent may not trust yet what it made
		lost = lost && longAnnounced(*next, k.now)
		if lost && !slices.ContainsFunc(k.members, func(km conf.MemberKeys) bool { return km.Role == conf.MemberServer && km.Holds[kind].Has(next.ID) }) {
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
		count(k.secrets)
	case conf.KeySigning:
		count(k.signed)
	case conf.KeyCA, conf.KeyHMAC:
		if old != nil {
			r.Waiting = membersNotUsing(*active, k.members)
			r.Total = len(k.members)
			r.Done = r.Total - len(r.Waiting)
		}
	}
	if old != nil {
		r.OldID, r.Until = old.ID, old.NotAfter
		if kind == conf.KeyCA {
			r.Until = ""
			if left := graceRemaining(k.m.o.Options.KeyGrace, *active, k.now); left > 0 {
				r.Until = conf.FormatTime(k.now.Add(left))
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

func (k keyReport) encryption(running []conf.KeyRotation) conf.EncryptionMetadata {
	m, ring := k.m, k.ring
	e := conf.EncryptionMetadata{HMACKeyID: m.ActiveID(conf.KeyHMAC), RotationStatus: "idle", SignaturePublicKeyHash: m.PublicHash()}
	if e.MasterKeyID = m.Set().MasterID; ring.Active(conf.KeyMaster) != nil {
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
	if old := ring.Old(conf.KeyMaster, conf.FormatTime(k.now)); old != nil {
		e.GraceWindowUntil = &old.NotAfter
	}
	return e
}
