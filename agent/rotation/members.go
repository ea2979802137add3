package rotation

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
)

// memberKeys are the keys that the members have, as they report it. It takes no lock.
type memberKeys struct {
	cluster *peers.Cluster
	keys    *AgentKeys
	ca      *caKeys
}

// own reports what this agent has, by kind.
func (m *memberKeys) own() map[string]conf.KeysHeld {
	set := m.keys.Set()
	out := map[string]conf.KeysHeld{}
	for _, kind := range []string{conf.KeyMaster, conf.KeyHMAC, conf.KeySigning} {
		h := conf.KeysHeld{IDs: []string{}}
		main, old := set.IDs(kind)
		for _, id := range []string{main, old} {
			if id != "" {
				h.IDs = append(h.IDs, id)
			}
		}
		h.Use = m.keys.ActiveID(kind)
		out[kind] = h
	}
	id := m.cluster.Port.Identity()
	if id.Role == pki.RoleSidecar {
		h := out[conf.KeySigning]
		h.IDs = conf.SortedKeys(m.keys.PublicKeys())
		if a := m.keys.Keyring().Active(conf.KeySigning); a != nil && h.Has(a.ID) {
			h.Use = a.ID
		}
		out[conf.KeySigning] = h
	}
	ca := conf.KeysHeld{IDs: []string{}, Use: pki.HashCA(id.Issuer())}
	for _, c := range id.CAs {
		// A server has a CA when it could issue by it.
		if hash := pki.HashCA(c); id.Role != pki.RoleServer || id.CA == nil || hash == id.CA.Hash() || hash == ca.Use || m.ca.next(hash) != nil {
			ca.IDs = append(ca.IDs, hash)
		}
	}
	out[conf.KeyCA] = ca
	errs := m.keys.errs.Load()
	if errs == nil {
		return out
	}
	for kind, err := range *errs {
		h := out[kind]
		h.Err = err.Error()
		if hint := conf.HintOf(err); hint != "" {
			h.Err += "; " + hint
		}
		out[kind] = h
	}
	return out
}

// all asks all members what they have.
func (m *memberKeys) all(ctx context.Context) []conf.MemberKeys {
	c := m.cluster
	members := c.Members()
	out := make([]conf.MemberKeys, len(members))
	var wg sync.WaitGroup
	for i, row := range members {
		wg.Go(func() {
			out[i] = conf.MemberKeys{NodeID: row.NodeID, Role: row.Role, Holds: map[string]conf.KeysHeld{}}
			if row.NodeID == c.Self() {
				out[i].Reachable, out[i].Holds = true, m.own()
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

// missing names the members that must have an announced key before it is used,
// and do not: every voter, every server that answers, and for sidecarTimeout every
// sidecar that answers. The key of the last-known-good file concerns its agent alone.
func (m *memberKeys) missing(k conf.Key, members []conf.MemberKeys, now time.Time) []string {
	out := []string{}
	voter, self := m.cluster.Voters(), m.cluster.Self()
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
func membersNotUsing(k conf.Key, members []conf.MemberKeys) []string {
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
