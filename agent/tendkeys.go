package agent

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// tendKeys is one goroutine a session that brings the keys of this agent to where
// the keyring says. Each step looks at what is, so that it makes no difference
// when it was cut short.
func (ss *session) tendKeys(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		ss.tend(ctx)
		select {
		case <-tick.C:
		case <-ss.s.keyTurn:
		case <-ctx.Done():
			return
		}
	}
}

// turnKeys wakes tendKeys, after something changed here.
func (s *supervisor) turnKeys() {
	select {
	case s.keyTurn <- struct{}{}:
	default:
	}
}

// catchUpKeys gets what was rotated while this agent was away, before it serves
// what is made with it. Without anybody to ask it goes on: what it can open it serves.
func (ss *session) catchUpKeys(ctx context.Context) error {
	if err := ss.loadRing(ctx); err != nil {
		return err
	}
	held := ss.s.held()
	for _, kind := range []string{conf.KeyMaster, conf.KeySigning} {
		if a := ss.s.known().Active(kind); a != nil && !held[kind].Has(a.ID) {
			cctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			ss.tend(cctx)
			cancel()
			return ctx.Err()
		}
	}
	return nil
}

func (ss *session) tend(ctx context.Context) {
	s := ss.s
	if s.reviving.Load() {
		return
	}
	ss.tending.Lock()
	defer ss.tending.Unlock()
	if err := ss.loadRing(ctx); err != nil {
		return // the store says so itself
	}
	ring, at := s.known(), conf.FormatTime(time.Now())
	for _, kind := range conf.KeyKinds() {
		var err error
		if kind == conf.KeyCA {
			err = ss.tendCA(ctx, ring, at)
		} else {
			err = ss.tendKey(ctx, ring, kind, at)
		}
		if ctx.Err() != nil {
			return
		}
		s.trouble(kind, err)
	}
}

// tendKey gets what is announced or in use, and drops what is at its end.
func (ss *session) tendKey(ctx context.Context, ring conf.Keyring, kind, at string) error {
	s := ss.s
	sidecar := s.cluster.port.Identity().Role == transport.RoleSidecar
	if main, _ := s.keys.Get().IDs(kind); sidecar && kind == conf.KeyMaster && main == "" {
		return nil // it is beside no service that it was admitted for
	}
	active, next := ring.Active(kind), ring.Next(kind)
	if active == nil {
		return nil
	}
	for _, k := range []*conf.Key{active, next} {
		if k == nil || s.keys.Get().Holds(kind, k.ID) {
			continue
		}
		m, err := ss.obtain(ctx, *k, sidecar)
		if err != nil {
			return err
		}
		if err := s.stored(keys.Rotate(s.o.Env, s.o.EnvFile, m, active.ID, s.keyOptions())); err != nil {
			return err
		}
		if sidecar && kind == conf.KeyHMAC {
			s.log.Info("made a key of its own, named like that of the cluster", "kind", kind, "key", k.ID)
		} else {
			s.log.Info("received a key of the cluster", "kind", kind, "key", k.ID)
		}
		if kind == conf.KeyMaster { // what could not be made whole without it
			s.view.Refresh(s.lost.of)
		}
	}
	main, old := s.keys.Get().IDs(kind)
	if k := ring.Find(kind, main); k != nil && k.State(at) == conf.KeyWithdrawn && old == active.ID {
		return s.stored(keys.Undo(s.o.Env, s.o.EnvFile, kind, main, s.keyOptions()))
	}
	if err := ss.giveBack(ring, kind, main); err != nil {
		return err
	}
	if kind == conf.KeyHMAC {
		ss.tendLKG(ctx) // before anything is dropped that the file may still need
	}
	if sidecar && kind == conf.KeyHMAC && old != "" && ring.Find(kind, old) == nil && s.lkg.Status().Valid {
		return s.stored(keys.Drop(s.o.Env, s.o.EnvFile, kind, old, s.keyOptions())) // the one of before it knew the cluster's
	}
	if k := ring.Find(kind, old); k != nil && main == active.ID && k.State(at) == conf.KeyExpired {
		if kind == conf.KeyMaster {
			if n, err := ss.store.SecretKeyIDs(ctx); err != nil || n[old] > 0 {
				return err
			}
		}
		if kind == conf.KeyHMAC && !s.lkg.Status().Valid {
			return nil // the file may still need it
		}
		err := s.stored(keys.Drop(s.o.Env, s.o.EnvFile, kind, old, s.keyOptions()))
		if conf.CodeOf(err) == conf.CodeImmutable {
			return nil // it is the user's to remove
		}
		if err == nil {
			s.log.Info("removed an old key at the end of its time", "kind", kind, "key", old)
		}
		return err
	}
	return nil
}

// obtain gets a key: from another server; or, at a sidecar, from the keyring,
// or what is derived for its own service.
func (ss *session) obtain(ctx context.Context, k conf.Key, sidecar bool) (keys.Material, error) {
	switch {
	case sidecar && k.Kind == conf.KeyHMAC:
		return keys.NewMaterial(conf.KeyHMAC, k.ID)
	case sidecar && k.Kind == conf.KeyMaster:
		set := ss.s.keys.Get()
		sealed, err := ss.s.cluster.pull(ctx, k.Kind, k.ID, set.ServiceKeyID)
		if conf.CodeOf(err) == conf.CodeUnsupported {
			// No server has the key any more under which it could be handed on: it is
			// given as when this sidecar joined.
			value, again := ss.s.cluster.ask(ctx, k.Kind, k.ID, "/keys/granted?id="+k.ID)
			if again == nil {
				return keys.Granted(k.ID, value)
			}
			return keys.Material{}, conf.Errorf(conf.CodeUnsupported, "this sidecar missed more than one rotation of the master key: no server holds the key %s any more, by which it could receive %s, nor gives it that anew: %w",
				set.ServiceKeyID, k.ID, again).WithHint("%s", joinAnew(ss.s.cluster.self(), ss.s.o.ServiceName))
		}
		if err != nil {
			return keys.Material{}, err
		}
		return set.Receive(ss.s.o.ServiceName, k.ID, sealed)
	case sidecar:
		pub := ss.s.publicKeys()[k.ID]
		if pub == nil {
			return keys.Material{}, conf.Errorf(conf.CodeDenied, "no key that this agent trusts vouches for the signing key %s", k.ID).
				WithHint("put the CONFIG_SIGNATURE_PUBLIC_KEY of a server into %s", ss.s.o.EnvFile)
		}
		return keys.PublicMaterial(pub), nil
	}
	value, err := ss.s.cluster.pull(ctx, k.Kind, k.ID, "")
	if err != nil {
		return keys.Material{}, err
	}
	return received(k.Kind, k.ID, value)
}

// received is a key that another server gave.
func received(kind, id, value string) (keys.Material, error) {
	m := keys.Material{Kind: kind, ID: id, Value: value}
	if kind == conf.KeySigning {
		private, err := m.PrivateOf()
		if err != nil {
			return m, err
		}
		if seal.NewSigner(private).KeyID() != id {
			return m, conf.Errorf(conf.CodeDenied, "the key that was received is not %s", id)
		}
	}
	return m, nil
}

type pulledKey struct {
	Value string `json:"value"`
}

// pull asks the servers for a key, the leader first.
func (c *cluster) pull(ctx context.Context, kind, id, have string) (string, error) {
	return c.ask(ctx, kind, id, "/keys/pull?kind="+kind+"&id="+id+"&have="+have)
}

func (c *cluster) ask(ctx context.Context, kind, id, path string) (string, error) {
	var order []string
	if leader, ok := c.leader(); ok {
		order = append(order, leader)
	}
	for _, m := range c.members() {
		if m.Role == string(transport.RoleServer) && m.NodeID != c.self() && (len(order) == 0 || m.NodeID != order[0]) {
			order = append(order, m.NodeID)
		}
	}
	err := error(conf.Errorf(conf.CodeNotFound, "no other server that could have the %s key %s", kind, id))
	for _, node := range order {
		cctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		var k pulledKey
		e := c.call(cctx, node, path, nil, &k)
		cancel()
		if e == nil {
			return k.Value, nil
		}
		err = conf.Errorf(conf.CodeOf(e), "no server gave the %s key %s: %w", kind, id, e).
			WithHint("start a server that has it; or give it up while it is not in use: holdfast keys rotate %s --abort", kind)
	}
	return "", err
}

// tendLKG keeps the last-known-good file under the key in use.
func (ss *session) tendLKG(ctx context.Context) {
	set := ss.s.keys.Get()
	key := set.HMACKeys(ss.s.inUse(conf.KeyHMAC))[0]
	if !ss.s.lkg.Rekey(key) {
		return
	}
	if err := ss.s.lkg.Flush(ctx); err != nil {
		ss.s.log.Warn("the last-known-good file was not written under the new key: it is tried again", "err", err)
	}
}

// nextCA is the CA that is handed over and not in use yet, when it has this hash.
func (c *cluster) nextCA(hash string) *transport.CA {
	ca, err := transport.LoadNextCA(c.o.tlsDir())
	if err != nil || ca.Hash() != hash {
		return nil
	}
	return ca
}

// tendCA trusts the CA that is announced or in use, has its certificate from the one
// in use, and forgets what is at its end.
func (ss *session) tendCA(ctx context.Context, ring conf.Keyring, at string) error {
	c := ss.s.cluster
	active, next := ring.Active(conf.KeyCA), ring.Next(conf.KeyCA)
	if active == nil || ss.s.foreign(active) {
		return nil // nobody wrote this cluster's own yet
	}
	for _, k := range []*conf.Key{active, next} {
		if k == nil {
			continue
		}
		ca, err := ss.s.cas.decode(k.Public)
		if err != nil {
			return err
		}
		if err := c.trustCA(ca.cert); err != nil {
			return err
		}
		if err := c.holdCA(ctx, k.ID); err != nil {
			return err
		}
	}
	id := c.port.Identity()
	if transport.HashCA(id.Issuer()) != active.ID {
		if err := c.moveTo(ctx, active.ID); err != nil {
			return err
		}
	}
	id = c.port.Identity()
	if transport.HashCA(id.Issuer()) != active.ID {
		return nil
	}
	if len(id.CAs) > 1 { // so that no call is cut when the old CA is forgotten
		c.port.CloseIdle()
	}
	for _, ca := range id.CAs {
		k := ring.Find(conf.KeyCA, transport.HashCA(ca))
		if k == nil || k.ID == active.ID {
			continue
		}
		if s := k.State(at); s == conf.KeyExpired || s == conf.KeyWithdrawn {
			fresh, err := id.Forget(k.ID)
			if err != nil {
				return err
			}
			if err := c.become(fresh); err != nil {
				return err
			}
			ss.s.log.Info("an old CA of the cluster is not trusted any more", "ca", k.ID)
			id = fresh
		}
	}
	if next == nil && !ss.s.offered(conf.KeyCA, "") {
		return transport.DropNextCA(c.o.tlsDir())
	}
	return nil
}

// become keeps an identity and uses it.
func (c *cluster) become(id *transport.Identity) error {
	if err := id.Save(c.o.tlsDir()); err != nil {
		return err
	}
	return c.port.SetIdentity(id)
}

func (c *cluster) trustCA(cert *x509.Certificate) error {
	id := c.port.Identity()
	fresh, err := id.Learn(cert)
	if err != nil || fresh == id {
		return err
	}
	return c.become(fresh)
}

// holdCA gets the key of a CA to a server that may have to issue by it.
func (c *cluster) holdCA(ctx context.Context, hash string) error {
	id := c.port.Identity()
	if id.Role != transport.RoleServer || (id.CA != nil && id.CA.Hash() == hash) || c.nextCA(hash) != nil {
		return nil
	}
	text, err := c.pull(ctx, conf.KeyCA, hash, "")
	if err != nil {
		return err
	}
	ca, err := transport.ParseCAPEM([]byte(text))
	if err != nil || ca.Hash() != hash {
		return conf.Errorf(conf.CodeCorrupt, "the CA that was received is not %s", hash)
	}
	if hash == transport.HashCA(id.Issuer()) {
		if id, err = id.WithCA(ca); err != nil {
			return err
		}
		return c.become(id)
	}
	return transport.SaveNextCA(c.o.tlsDir(), ca)
}

// moveTo gets this agent a certificate from another CA that it trusts.
func (c *cluster) moveTo(ctx context.Context, hash string) error {
	id := c.port.Identity()
	var fresh *transport.Identity
	var err error
	if id.Role == transport.RoleServer {
		ca := c.nextCA(hash)
		if ca == nil {
			return conf.Errorf(conf.CodeNotFound, "the key of the CA %s is not here yet", hash)
		}
		fresh, err = id.Adopt(ca, transport.DefaultTTL, time.Now())
	} else {
		leader, ok := c.leader()
		if !ok {
			return nil
		}
		rctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if fresh, err = c.port.Renew(rctx, leader); err == nil && transport.HashCA(fresh.Issuer()) != hash {
			return nil // the leader has not moved itself: in a moment
		}
	}
	if err != nil {
		return err
	}
	if err := c.become(fresh); err != nil {
		return err
	}
	c.log.Info("this agent has a certificate from the new CA", "ca", hash)
	return nil
}
