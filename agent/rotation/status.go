package rotation

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/agent/peers"
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
		secrets, err := st.SecretKeyIDs(ctx)
		if err != nil {
			return conf.KeysStatus{}, err
		}
		now := time.Now()
		at := conf.FormatTime(now)
		ring, signed := m.Keyring(), m.signedBy()
		out := conf.KeysStatus{Keys: []conf.KeyInfo{}, Rotations: []conf.KeyRotation{}, Members: m.keyMembers(ctx)}
		slices.SortFunc(out.Members, func(a, b conf.KeyMember) int { return strings.Compare(a.NodeID, b.NodeID) })
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
			if r, ok := m.rotation(ring, kind, out.Members, secrets, signed, now); ok {
				out.Rotations = append(out.Rotations, r)
			}
		}
		out.Encryption = m.encryption(ring, out.Rotations, at)
		return out, nil
	})
}

// rotation is the state of the rotation of a kind, if one is not complete.
func (m *Manager) rotation(ring conf.Keyring, kind string, members []conf.KeyMember, secrets, signed map[string]int, now time.Time) (conf.KeyRotation, bool) {
	at := conf.FormatTime(now)
	next, active, old := ring.Next(kind), ring.Active(kind), ring.Old(kind, at)
	if active == nil {
		return conf.KeyRotation{}, false
	}
	if next != nil {
		r := conf.KeyRotation{Kind: kind, KeyID: next.ID, OldID: active.ID, Phase: conf.PhaseHandover, Waiting: m.membersMissing(*next, members, now)}
		lost := kind != conf.KeyCA || m.ca.next(next.ID) == nil // this agent may not trust yet what it made
		if lost && !slices.ContainsFunc(members, func(km conf.KeyMember) bool { return km.Role == conf.MemberServer && km.Holds[kind].Has(next.ID) }) {
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
	case conf.KeyCA, conf.KeyHMAC:
		if old != nil {
			r.Waiting = membersNotUsing(*active, members)
			r.Total = len(members)
			r.Done = r.Total - len(r.Waiting)
		}
	}
	if old != nil {
		r.OldID, r.Until = old.ID, old.NotAfter
		if kind == conf.KeyCA {
			r.Until = ""
			if left := m.graceRemaining(*active, now); left > 0 {
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

func (m *Manager) encryption(ring conf.Keyring, running []conf.KeyRotation, at string) conf.EncryptionMetadata {
	set := m.Set()
	e := conf.EncryptionMetadata{HMACKeyID: m.ActiveID(conf.KeyHMAC), RotationStatus: "idle", SignaturePublicKeyHash: m.PublicHash()}
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

// keyMembers asks all members what they have.
func (m *Manager) keyMembers(ctx context.Context) []conf.KeyMember {
	c := m.o.Cluster
	members := c.Members()
	out := make([]conf.KeyMember, len(members))
	var wg sync.WaitGroup
	for i, row := range members {
		wg.Go(func() {
			out[i] = conf.KeyMember{NodeID: row.NodeID, Role: row.Role, Holds: map[string]conf.KeysHeld{}}
			if row.NodeID == c.Self() {
				out[i].Reachable, out[i].Holds = true, m.heldKeys()
				return
			}
			cctx, cancel := context.WithTimeout(ctx, peers.StatusTimeout)
			defer cancel()
			var h map[string]conf.KeysHeld
			if err := c.Call(cctx, row.NodeID, routeHeld, nil, &h); err == nil {
				out[i].Reachable, out[i].Holds = true, h
			}
		})
	}
	wg.Wait()
	return out
}

// membersMissing names the members that must have an announced key before it is used,
// and do not: every voter, every server that answers, and for sidecarTimeout every
// sidecar that answers. The key of the last-known-good file concerns its agent alone.
func (m *Manager) membersMissing(k conf.Key, members []conf.KeyMember, now time.Time) []string {
	out := []string{}
	voter, self := m.o.Cluster.Voters(), m.o.Cluster.Self()
	since, err := conf.ParseTime(k.AnnouncedAt)
	patient := err == nil && now.Sub(since) < sidecarTimeout
	for _, km := range members {
		h := km.Holds[k.Kind]
		switch {
		case km.Reachable && h.Has(k.ID):
		case k.Kind == conf.KeyHMAC && km.NodeID != self:
		case !km.Reachable && voter[km.NodeID]:
			out = append(out, km.NodeID+": a voter that does not answer; start it, or remove it: holdfast cluster remove "+km.NodeID)
		case !km.Reachable:
		case km.Role == conf.MemberSidecar && (!patient || len(h.IDs) == 0):
		case h.Err != "":
			out = append(out, km.NodeID+": "+h.Err)
		default:
			out = append(out, km.NodeID+": does not have it yet")
		}
	}
	return out
}

// membersNotUsing names the members that do not work with a key yet.
func membersNotUsing(k conf.Key, members []conf.KeyMember) []string {
	out := []string{}
	for _, m := range members {
		switch {
		case !m.Reachable:
			out = append(out, m.NodeID+": does not answer")
		case m.Holds[k.Kind].Use != k.ID:
			why := "not yet"
			if e := m.Holds[k.Kind].Err; e != "" {
				why = e
			}
			out = append(out, m.NodeID+": "+why)
		}
	}
	return out
}
