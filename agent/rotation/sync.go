package rotation

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// RunKeySync is a job of every replica that brings the keys of this agent to where the
// keyring says. Each step checks the present state, so that it makes no difference when
// the one before was cut short.
func (m *Manager) RunKeySync(ctx context.Context, rep *replica.Replica) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		m.syncKeys(ctx, rep)
		// A pause after each step, also after one that waited for servers that do not answer:
		// the leader takes mu to announce a key only when it is free.
		tick.Reset(time.Second)
		select {
		case <-tick.C:
		case <-m.wakeSync:
		case <-ctx.Done():
			return
		}
	}
}

// CatchUp fetches what was rotated while this agent was away, before it serves what is
// made with it. Without another member to ask it continues: what it can open it serves.
func (m *Manager) CatchUp(ctx context.Context, rep *replica.Replica) error {
	if err := m.LoadKeyring(ctx, rep.Store()); err != nil {
		return err
	}
	held := m.members.own()
	for _, kind := range []string{conf.KeyMaster, conf.KeySigning} {
		if a := m.Keyring().Active(kind); a != nil && !held[kind].Has(a.ID) {
			cctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			m.syncKeys(cctx, rep)
			cancel()
			return ctx.Err()
		}
	}
	return nil
}

func (m *Manager) syncKeys(ctx context.Context, rep *replica.Replica) {
	if m.o.Pending() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.LoadKeyring(ctx, rep.Store()); err != nil {
		return // the store reports it itself
	}
	ring, at := m.Keyring(), conf.FormatTime(m.o.Options.Clock())
	for _, kind := range conf.KeyKinds() {
		var err error
		if kind == conf.KeyCA {
			err = m.ca.sync(ctx, ring, at, m.isPending(conf.KeyCA, ""))
		} else {
			err = m.syncKey(ctx, rep, ring, kind, at)
		}
		if ctx.Err() != nil {
			return
		}
		m.setKeyError(kind, err)
	}
}

// syncKey fetches what is announced or active, and drops what has expired.
func (m *Manager) syncKey(ctx context.Context, rep *replica.Replica, ring conf.Keyring, kind, at string) error {
	sidecar := m.ca.port.Identity().Role == pki.RoleSidecar
	if main, _ := m.Set().IDs(kind); sidecar && kind == conf.KeyMaster && main == "" {
		return nil // it was admitted for no service
	}
	active, next := ring.Active(kind), ring.Next(kind)
	if active == nil {
		return nil
	}
	for _, k := range []*conf.Key{active, next} {
		if k == nil || m.Set().Holds(kind, k.ID) {
			continue
		}
		got, err := m.fetchKey(ctx, *k, sidecar)
		if err != nil {
			return err
		}
		if err := m.file.rotate(got, active.ID); err != nil {
			return err
		}
		if sidecar && kind == conf.KeyHMAC {
			m.log.Info("made a key of its own, named like that of the cluster", "kind", kind, "key", k.ID)
		} else {
			m.log.Info("received a key of the cluster", "kind", kind, "key", k.ID)
		}
		if kind == conf.KeyMaster { // documents that lack secrets without it
			m.o.Served.Views().Served.Rerender(m.o.Secrets.IsIncomplete)
		}
	}
	main, old := m.Set().IDs(kind)
	if k := ring.Find(kind, main); k != nil && k.State(at) == conf.KeyWithdrawn && old == active.ID {
		return m.file.undo(kind, main)
	}
	if err := m.discardStalePending(rep, ring, kind, main); err != nil {
		return err
	}
	if kind == conf.KeyHMAC {
		m.rekeyLKG(ctx) // before anything is dropped that the file may still need
	}
	if sidecar && kind == conf.KeyHMAC && old != "" && ring.Find(kind, old) == nil && m.o.LKG.Status().Valid {
		return m.file.drop(kind, old) // the one of before it knew the cluster's
	}
	if k := ring.Find(kind, old); k != nil && main == active.ID && k.State(at) == conf.KeyExpired {
		if kind == conf.KeyMaster {
			if n, err := rep.Store().Queries.SecretKeyIDs(ctx); err != nil || n[old] > 0 {
				return err
			}
		}
		if kind == conf.KeyHMAC && (!m.o.LKG.Status().Valid || m.o.Served.Rekey(m.activeHMAC()) != nil) {
			return nil // a file may still need it
		}
		err := m.file.drop(kind, old)
		if conf.CodeOf(err) == conf.CodeImmutable {
			return nil // it is the user's to remove
		}
		if err == nil {
			m.log.Info("removed an old key at the end of its time", "kind", kind, "key", old)
		}
		return err
	}
	return nil
}

// fetchKey gets a key: from another server; or, at a sidecar, from the keyring, or what is
// derived for its own service.
func (m *Manager) fetchKey(ctx context.Context, k conf.Key, sidecar bool) (keys.Material, error) {
	switch {
	case sidecar && k.Kind == conf.KeyHMAC:
		return keys.NewMaterial(conf.KeyHMAC, k.ID)
	case sidecar && k.Kind == conf.KeyMaster:
		set := m.Set()
		sealed, err := pullKey(ctx, m.o.Cluster, k.Kind, k.ID, set.ServiceKeyID)
		if conf.CodeOf(err) == conf.CodeUnsupported {
			// No server has the key any more under which it could be handed on: it is
			// given as when this sidecar joined.
			value, again := askServers(ctx, m.o.Cluster, k.Kind, k.ID, routeGranted+"?id="+k.ID)
			if again == nil {
				return keys.ServiceKeyMaterial(k.ID, value)
			}
			return keys.Material{}, conf.Errorf(conf.CodeUnsupported, "this sidecar missed more than one rotation of the master key: no server holds the key %s any more, by which it could receive %s, nor sends it: %w",
				set.ServiceKeyID, k.ID, again).WithHint("%s", RejoinHint(m.o.Cluster.Self(), m.o.Options.ServiceName))
		}
		if err != nil {
			return keys.Material{}, err
		}
		return set.UnwrapServiceKey(m.o.Options.ServiceName, k.ID, sealed)
	case sidecar:
		pub := m.PublicKeys()[k.ID]
		if pub == nil {
			return keys.Material{}, conf.Errorf(conf.CodeDenied, "no key that this agent trusts vouches for the signing key %s", k.ID).
				WithHint("put the CONFIG_SIGNATURE_PUBLIC_KEY of a server into %s", m.o.Options.EnvFile)
		}
		return keys.PublicMaterial(pub), nil
	}
	value, err := pullKey(ctx, m.o.Cluster, k.Kind, k.ID, "")
	if err != nil {
		return keys.Material{}, err
	}
	return parseReceivedKey(k.Kind, k.ID, value)
}

// parseReceivedKey checks a key that another server sent.
func parseReceivedKey(kind, id, value string) (keys.Material, error) {
	key := keys.Material{Kind: kind, ID: id, Value: value}
	if kind == conf.KeySigning {
		private, err := key.PrivateOf()
		if err != nil {
			return key, err
		}
		if seal.NewSigner(private).KeyID() != id {
			return key, conf.Errorf(conf.CodeDenied, "the key that was received is not %s", id)
		}
	}
	return key, nil
}

type keyReply struct {
	Value string `json:"value"`
}

// pullKey asks the servers for a key, the leader first. have is the key of a sidecar under
// which it can receive the one of its service.
func pullKey(ctx context.Context, c *peers.Cluster, kind, id, have string) (string, error) {
	return askServers(ctx, c, kind, id, routePull+"?kind="+kind+"&id="+id+"&have="+have)
}

func askServers(ctx context.Context, c *peers.Cluster, kind, id, path string) (string, error) {
	var order []string
	leader, ok := c.Leader()
	if ok {
		order = append(order, leader)
	}
	for _, node := range c.OtherServers() {
		if node != leader {
			order = append(order, node)
		}
	}
	err := error(conf.Errorf(conf.CodeNotFound, "no other server that could have the %s key %s", kind, id))
	for _, node := range order {
		cctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		var k keyReply
		e := c.Call(cctx, node, path, nil, &k)
		cancel()
		if e == nil {
			return k.Value, nil
		}
		err = conf.Errorf(conf.CodeOf(e), "no server gave the %s key %s: %w", kind, id, e).
			WithHint("it is asked for again by itself; holdfast keys status names the servers that have it")
	}
	return "", err
}

func (m *Manager) activeHMAC() []byte { return m.Set().HMACKeys(m.ActiveID(conf.KeyHMAC))[0] }

// rekeyLKG keeps the last-known-good file and the marks under the active key.
func (m *Manager) rekeyLKG(ctx context.Context) {
	key := m.activeHMAC()
	if err := m.o.Served.Rekey(key); err != nil {
		m.log.Warn("the marks of refused versions were not written under the new key: it is tried again", "err", err)
	}
	if !m.o.LKG.Rekey(key) {
		return
	}
	if err := m.o.LKG.Flush(ctx); err != nil {
		m.log.Warn("the last-known-good file was not written under the new key: it is tried again", "err", err)
	}
}

// RejoinHint is the way out of a sidecar that has no key of its service, and cannot get it.
func RejoinHint(node, service string) string {
	return fmt.Sprintf("plain values are read on; for its secrets it has to join again: holdfast cluster remove %s, then start it with an empty data directory and .env file, and what this prints: "+
		"holdfast token create --role sidecar --service %s", node, service)
}
