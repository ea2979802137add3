package agent

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// sidecarPatience is how long a sidecar that answers is waited for: its host's
// trouble with a file must not hold up the cluster.
const sidecarPatience = 30 * time.Second

// rotateOften is a duty of the leader: it brings rotations forward, one step at a
// time. What the next step is follows from the keyring and from what the members
// say that they hold, so that a new leader goes on where the old one was.
func (ss *session) rotateOften(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if err := ss.rotateStep(ctx); err != nil && ctx.Err() == nil {
			ss.s.log.Debug("rotation of keys: tried again", "err", err)
		}
		select {
		case <-tick.C:
		case <-ss.s.rotateTurn:
		case <-ctx.Done():
			return
		}
	}
}

func (ss *session) rotateStep(ctx context.Context) error {
	ss.stepping.Lock()
	defer ss.stepping.Unlock()
	s := ss.s
	if s.reviving.Load() || !ss.leads() || s.cur.Load() != ss {
		return nil
	}
	if err := ss.loadRing(ctx); err != nil {
		return err
	}
	if s.rotating.TryLock() { // else a key that is being handed out would look like one put in place by hand
		err := ss.adoptKeys(ctx)
		s.rotating.Unlock()
		if err != nil {
			return err
		}
	}
	ring := s.known()
	now := time.Now()
	at := conf.FormatTime(now)
	var members []conf.KeyMember
	for _, kind := range conf.KeyKinds() {
		next, active := ring.Next(kind), ring.Active(kind)
		if next == nil || active == nil || next.Hold {
			continue
		}
		if members == nil {
			members = s.cluster.keyMembers(ctx)
		}
		if waiting := s.cluster.waitingFor(*next, members, now); len(waiting) > 0 {
			continue
		}
		until := conf.FormatTime(now.Add(s.o.KeyGrace))
		if kind == conf.KeyCA {
			// Not by time alone: it ends when every member has its certificate from the
			// new one.
			if id := s.cluster.port.Identity(); id.CA != nil {
				until = conf.FormatTime(id.CA.Certificate().NotAfter)
			}
		}
		cmd := &command.Keyring{
			At: at, By: next.CreatedBy, Activate: []command.KeyTurn{{Kind: kind, ID: next.ID, OldUntil: until}},
			Audit: []conf.Access{{UserID: next.CreatedBy, Action: "write", Success: true, Reason: fmt.Sprintf("%s key %s is in use", kind, next.ID), Timestamp: at}},
		}
		if err := ss.proposeKeys(ctx, cmd); err != nil {
			return err
		}
		s.log.Info("a new key is in use", "kind", kind, "key", next.ID, "old", active.ID, "old_until", until)
	}
	if err := ss.resign(ctx); err != nil {
		return err
	}
	if err := ss.reseal(ctx); err != nil {
		return err
	}
	ss.renewTokenFiles(ctx)
	return ss.endCA(ctx, now)
}

func (ss *session) proposeKeys(ctx context.Context, cmd *command.Keyring) error {
	res, err := ss.member.Propose(ctx, cmd)
	if err == nil && res.Err != nil {
		err = res.Err
	}
	if err == nil {
		err = ss.loadRing(ctx)
		ss.s.turnKeys()
	}
	return err
}

// adoptKeys writes into the keyring what it does not know: the keys of a cluster
// that has none yet, and a key that the operator put into this agent's file by hand,
// which begins a rotation.
func (ss *session) adoptKeys(ctx context.Context) error {
	s := ss.s
	set, ring := s.keys.Get(), s.known()
	cmd := &command.Keyring{At: conf.FormatTime(time.Now())}
	for _, kind := range conf.KeyKinds() {
		var main, old string
		if kind == conf.KeyCA {
			id := s.cluster.port.Identity()
			if id.CA == nil {
				continue
			}
			main = id.CA.Hash()
		} else {
			main, old = set.IDs(kind)
		}
		if a := ring.Active(kind); kind == conf.KeyCA && a != nil && s.foreign(a) {
			// The store is a copy of another cluster's, such as a backup.
			if next := ring.Next(kind); next != nil && s.foreign(next) {
				end := &command.Keyring{At: cmd.At, End: []command.KeyEnd{{Kind: kind, ID: next.ID, NotAfter: cmd.At}}}
				if err := ss.proposeKeys(ctx, end); err != nil {
					return err
				}
			}
			cmd.Announce = append(cmd.Announce, s.newKey(kind, main, nil))
			cmd.Activate = append(cmd.Activate, command.KeyTurn{Kind: kind, ID: main, OldUntil: cmd.At})
			continue
		}
		if ring.Active(kind) == nil {
			first := main
			if old != "" && ring.Find(kind, old) == nil {
				first = old // by hand, on the first start that knows of a keyring
			}
			cmd.Announce = append(cmd.Announce, s.newKey(kind, first, nil))
			cmd.Activate = append(cmd.Activate, command.KeyTurn{Kind: kind, ID: first})
			continue
		}
		if kind == conf.KeyCA || ring.Find(kind, main) != nil || ring.Next(kind) != nil {
			continue
		}
		s.log.Info("a key was put in place by hand: rotating to it", "kind", kind, "key", main)
		cmd.Announce = append(cmd.Announce, s.newKey(kind, main, set.Signing(ring.Active(conf.KeySigning).ID)))
	}
	if len(cmd.Announce) == 0 {
		return nil
	}
	return ss.proposeKeys(ctx, cmd)
}

// newKey names a key of this agent's for the keyring. by is the private key that
// proves a signing key, nil for none.
func (s *supervisor) newKey(kind, id string, by ed25519.PrivateKey) command.NewKey {
	k := command.NewKey{Kind: kind, ID: id}
	switch kind {
	case conf.KeySigning:
		if private := s.keys.Get().Signing(id); private != nil {
			pub := private.Public().(ed25519.PublicKey)
			k.Public = seal.EncodePublic(pub)
			if by != nil {
				k.Proof = seal.ProveKey(by, pub)
			}
		}
	case conf.KeyCA:
		for _, c := range s.cluster.port.Identity().CAs {
			if transport.HashCA(c) == id {
				k.Public = encodeCA(c)
			}
		}
		if ca := s.cluster.nextCA(id); ca != nil {
			k.Public = encodeCA(ca.Certificate())
		}
	}
	return k
}

// keyMembers asks all members what they hold.
func (c *cluster) keyMembers(ctx context.Context) []conf.KeyMember {
	members := c.members()
	out := make([]conf.KeyMember, len(members))
	done := make(chan struct{})
	for i, m := range members {
		go func() {
			defer func() { done <- struct{}{} }()
			out[i] = conf.KeyMember{NodeID: m.NodeID, Role: m.Role, Holds: map[string]conf.KeysHeld{}}
			if m.NodeID == c.self() {
				out[i].Reachable, out[i].Holds = true, c.s.held()
				return
			}
			cctx, cancel := context.WithTimeout(ctx, statusTimeout)
			defer cancel()
			var h map[string]conf.KeysHeld
			if err := c.call(cctx, m.NodeID, "/keys/held", nil, &h); err == nil {
				out[i].Reachable, out[i].Holds = true, h
			}
		}()
	}
	for range members {
		<-done
	}
	return out
}

// waitingFor names the members that must have an announced key before it is used,
// and do not: every voter, every server that answers, and for a while every sidecar
// that answers. The key of the last-known-good file is each agent's own business.
func (c *cluster) waitingFor(k conf.Key, members []conf.KeyMember, now time.Time) []string {
	out := []string{}
	voter := map[string]bool{}
	for _, s := range c.servers() {
		voter[s.ID] = s.Voter
	}
	since, err := conf.ParseTime(k.AnnouncedAt)
	patient := err == nil && now.Sub(since) < sidecarPatience
	for _, m := range members {
		h := m.Holds[k.Kind]
		switch {
		case m.Reachable && h.Has(k.ID):
		case k.Kind == conf.KeyHMAC && m.NodeID != c.self():
		case !m.Reachable && voter[m.NodeID]:
			out = append(out, m.NodeID+": a voter that does not answer; start it, or remove it: holdfast cluster remove "+m.NodeID)
		case !m.Reachable:
		case m.Role == conf.MemberSidecar && (!patient || len(h.IDs) == 0):
		case h.Err != "":
			out = append(out, m.NodeID+": "+h.Err)
		default:
			out = append(out, m.NodeID+": does not have it yet")
		}
	}
	return out
}

// resign has everything signed by the key in use.
func (ss *session) resign(ctx context.Context) error {
	s := ss.s
	active := s.known().Active(conf.KeySigning)
	if active == nil || s.inUse(conf.KeySigning) != active.ID {
		return nil
	}
	done, snap := true, s.view.Load()
	snap.Range(func(e *entry) bool {
		done = e.Record.Signature == "" || e.Record.Epoch != snap.Epoch || e.Record.KeyID == active.ID
		return done
	})
	if done {
		return nil
	}
	n, err := s.editor.Reissue(ctx)
	if err == nil && n > 0 {
		s.log.Info("everything is signed by the new key", "key", active.ID, "services", n)
	}
	return err
}

// signedBy counts the services by the key that signed them.
func (s *supervisor) signedBy() map[string]int {
	out := map[string]int{}
	snap := s.view.Load()
	snap.Range(func(e *entry) bool {
		if e.Record.Signature != "" && e.Record.Epoch == snap.Epoch {
			out[e.Record.KeyID]++
		}
		return true
	})
	return out
}

// resealBatch is how many secrets one entry of the log seals anew: small, so that
// the writes of others do not wait for it.
const resealBatch = 50

// reseal puts the secrets of the database under the key in use, a batch at a time.
// It needs no note of where it was: what is still under another key says it.
func (ss *session) reseal(ctx context.Context) error {
	s := ss.s
	active := s.known().Active(conf.KeyMaster)
	set := s.keys.Get()
	if active == nil || !set.Holds(conf.KeyMaster, active.ID) {
		return nil
	}
	counts, err := ss.store.SecretKeyIDs(ctx)
	if err != nil {
		return err
	}
	todo := 0
	for id, n := range counts {
		if id != active.ID && set.Holds(conf.KeyMaster, id) {
			todo += n
		}
	}
	if todo == 0 {
		return nil
	}
	start := time.Now()
	done := 0
	batch := &command.Reseal{Epoch: ss.store.Epoch(), By: active.CreatedBy}
	flush := func() error {
		if len(batch.Items) == 0 {
			return nil
		}
		batch.At = conf.FormatTime(time.Now())
		res, err := ss.member.Propose(ctx, batch)
		if err == nil && res.Err != nil {
			err = res.Err
		}
		done += len(batch.Items)
		batch.Items = nil
		return err
	}
	var failed error
	for _, r := range (records{s.view}).Services() {
		if r.Epoch != batch.Epoch {
			continue
		}
		for _, sec := range r.Secrets {
			if sec.KeyID == active.ID || !set.Holds(conf.KeyMaster, sec.KeyID) {
				continue
			}
			value, err := set.Reseal(r.Epoch, r.Service, sec, active.ID)
			if err != nil { // one that does not open must not hold up the others
				failed = err
				continue
			}
			batch.Items = append(batch.Items, command.ResealItem{
				Service: r.Service, Key: sec.Key, PrevDigest: command.SealedDigest(sec.Value), EncryptedValue: value, KeyID: active.ID,
			})
			if len(batch.Items) == resealBatch {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	if done > 0 {
		s.log.Info("secrets are sealed under the new key", "key", active.ID, "secrets", done, "took", time.Since(start))
	}
	if failed != nil && (done > 0 || ss.unsealed == nil || ss.unsealed.Error() != failed.Error()) {
		ss.unsealed = failed
		s.log.Warn("a secret was not sealed under the new key", "err", failed, "hint", conf.HintOf(failed))
	}
	return nil
}

// endCA ends the old CA when its time is over and every member has its certificate
// from the new one.
func (ss *session) endCA(ctx context.Context, now time.Time) error {
	s := ss.s
	ring, at := s.known(), conf.FormatTime(now)
	old, active := ring.Old(conf.KeyCA, at), ring.Active(conf.KeyCA)
	if old == nil || active == nil || ss.s.graceLeft(*active, now) > 0 {
		return nil
	}
	if len(s.cluster.notUsing(*active, s.cluster.keyMembers(ctx))) > 0 {
		return nil
	}
	return ss.proposeKeys(ctx, &command.Keyring{At: at, End: []command.KeyEnd{{Kind: conf.KeyCA, ID: old.ID, NotAfter: at}}})
}

// renewTokenFiles replaces the join tokens in the files of the agent that started the
// cluster: those of an old CA end with it.
func (ss *session) renewTokenFiles(ctx context.Context) {
	c := ss.s.cluster
	if a := ss.s.known().Active(conf.KeyCA); a == nil || a.ID == ss.tokensOf || transport.HashCA(c.port.Identity().CAs[0]) != a.ID {
		return
	}
	for _, path := range []string{ss.s.o.ServerTokenPath, ss.s.o.SidecarTokenPath} {
		if _, err := os.Stat(path); path != "none" && err == nil && !c.ownToken(path) {
			ss.keepJoinTokens(ctx)
		}
	}
	ss.tokensOf = ss.s.known().Active(conf.KeyCA).ID
}

// graceLeft is how long the key before k is taken at least.
func (s *supervisor) graceLeft(k conf.Key, now time.Time) time.Duration {
	since, err := conf.ParseTime(k.NotBefore)
	if err != nil {
		return s.o.KeyGrace
	}
	return since.Add(s.o.KeyGrace).Sub(now)
}

// notUsing names the members that do not work with a key yet.
func (c *cluster) notUsing(k conf.Key, members []conf.KeyMember) []string {
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
