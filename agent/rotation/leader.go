package rotation

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"time"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// sidecarTimeout is how long an announced key waits for a sidecar that answers: a fault of
// its host's disk must not block the cluster.
const sidecarTimeout = 30 * time.Second

// leaderRotation brings rotations forward while this agent leads. Only its own goroutine
// uses it.
type leaderRotation struct {
	m          *Manager
	rep        *replica.Replica
	unresealed error  // a secret that does not open, as it was logged last
	tokensOf   string // the CA for which NewCA was called last
}

// RunRotations is a leader job: it brings rotations forward, one step at a time. The next
// step follows from the keyring and from what the members have, so that a new leader
// continues where the old one was.
func (m *Manager) RunRotations(ctx context.Context, rep *replica.Replica) {
	l := &leaderRotation{m: m, rep: rep}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if err := l.advance(ctx); err != nil && ctx.Err() == nil {
			m.log.Debug("rotation of keys: tried again", "err", err)
		}
		select {
		case <-tick.C:
		case <-m.wakeLeader:
		case <-ctx.Done():
			return
		}
	}
}

// Advance is one step of RunRotations.
func (m *Manager) Advance(ctx context.Context, rep *replica.Replica) error {
	return (&leaderRotation{m: m, rep: rep}).advance(ctx)
}

func (l *leaderRotation) advance(ctx context.Context) error {
	m := l.m
	if m.o.Pending() || !l.rep.IsReadyLeader() || !l.rep.IsCurrent() {
		return nil
	}
	if err := m.LoadKeyring(ctx, l.rep.Store()); err != nil {
		return err
	}
	if m.mu.TryLock() { // else a change of the keys runs, or this agent fetches some: the next step does it
		err := m.announceUnlistedKeys(ctx, l.rep)
		m.mu.Unlock()
		if err != nil {
			return err
		}
	}
	now := m.o.Options.Clock()
	if err := l.activate(ctx, now); err != nil {
		return err
	}
	if err := l.reissueWithActiveKey(ctx); err != nil {
		return err
	}
	if err := l.reseal(ctx); err != nil {
		return err
	}
	l.renewTokens(ctx)
	return l.expireCA(ctx, now)
}

// activate makes an announced key active when all members that must have it do.
func (l *leaderRotation) activate(ctx context.Context, now time.Time) error {
	m := l.m
	ring := m.Keyring()
	at := conf.FormatTime(now)
	var members []conf.MemberKeys
	for _, kind := range conf.KeyKinds() {
		next, active := ring.Next(kind), ring.Active(kind)
		if next == nil || active == nil || next.Hold {
			continue
		}
		if members == nil {
			members = m.members.all(ctx)
		}
		if waiting := m.members.missing(*next, members, now); len(waiting) > 0 {
			continue
		}
		until := conf.FormatTime(now.Add(m.o.Options.KeyGrace))
		if kind == conf.KeyCA {
			// Not by time alone: it ends when every member has its certificate from the
			// new one.
			if id := m.ca.port.Identity(); id.CA != nil {
				until = conf.FormatTime(id.CA.Certificate().NotAfter)
			}
		}
		cmd := &command.Keyring{
			At: at, By: next.CreatedBy, Activate: []command.KeyActivation{{Kind: kind, ID: next.ID, OldUntil: until}},
			Audit: []conf.Access{{UserID: next.CreatedBy, Action: "write", Success: true, Reason: fmt.Sprintf("%s key %s is in use", kind, next.ID), Timestamp: at}},
		}
		if err := m.proposeKeys(ctx, l.rep, cmd); err != nil {
			return err
		}
		m.log.Info("a new key is in use", "kind", kind, "key", next.ID, "old", active.ID, "old_until", until)
	}
	return nil
}

// proposeKeys puts a change of the keyring through the log.
func (m *Manager) proposeKeys(ctx context.Context, rep *replica.Replica, cmd *command.Keyring) error {
	err := rep.Propose(ctx, cmd)
	if err == nil {
		err = m.LoadKeyring(ctx, rep.Store())
		wake(m.wakeSync)
	}
	return err
}

// announceUnlistedKeys writes into the keyring what it lacks: the keys of a cluster that
// has none yet, and a key that the operator put into this agent's file by hand, which
// begins a rotation. The caller holds mu: a key that is being distributed would look like
// one put in place by hand.
func (m *Manager) announceUnlistedKeys(ctx context.Context, rep *replica.Replica) error {
	set, ring := m.Set(), m.Keyring()
	cmd := &command.Keyring{At: conf.FormatTime(m.o.Options.Clock())}
	for _, kind := range conf.KeyKinds() {
		var main, old string
		if kind == conf.KeyCA {
			id := m.ca.port.Identity()
			if id.CA == nil {
				continue
			}
			main = id.CA.Hash()
		} else {
			main, old = set.IDs(kind)
		}
		if a := ring.Active(kind); kind == conf.KeyCA && a != nil && m.ca.isForeign(a) {
			// The store is a copy of another cluster's, such as a backup.
			if next := ring.Next(kind); next != nil && m.ca.isForeign(next) {
				end := &command.Keyring{At: cmd.At, End: []command.KeyExpiry{{Kind: kind, ID: next.ID, NotAfter: cmd.At}}}
				if err := m.proposeKeys(ctx, rep, end); err != nil {
					return err
				}
			}
			cmd.Announce = append(cmd.Announce, m.newKey(kind, main, nil))
			cmd.Activate = append(cmd.Activate, command.KeyActivation{Kind: kind, ID: main, OldUntil: cmd.At})
			continue
		}
		if ring.Active(kind) == nil {
			first := main
			if old != "" && ring.Find(kind, old) == nil {
				first = old // by hand, on the first start that knows of a keyring
			}
			cmd.Announce = append(cmd.Announce, m.newKey(kind, first, nil))
			cmd.Activate = append(cmd.Activate, command.KeyActivation{Kind: kind, ID: first})
			continue
		}
		if kind == conf.KeyCA || ring.Find(kind, main) != nil || ring.Next(kind) != nil {
			continue
		}
		m.log.Info("a key was put in place by hand: rotating to it", "kind", kind, "key", main)
		cmd.Announce = append(cmd.Announce, m.newKey(kind, main, set.Signing(ring.Active(conf.KeySigning).ID)))
	}
	if len(cmd.Announce) == 0 {
		return nil
	}
	return m.proposeKeys(ctx, rep, cmd)
}

// newKey is the entry of a key of this agent for the keyring. by is the private key that
// signs the proof of a signing key, nil for none.
func (m *Manager) newKey(kind, id string, by ed25519.PrivateKey) command.NewKey {
	k := command.NewKey{Kind: kind, ID: id}
	switch kind {
	case conf.KeySigning:
		if private := m.Set().Signing(id); private != nil {
			pub := private.Public().(ed25519.PublicKey)
			k.Public = seal.EncodePublic(pub)
			if by != nil {
				k.Proof = seal.ProveKey(by, pub)
			}
		}
	case conf.KeyCA:
		for _, c := range m.ca.port.Identity().CAs {
			if pki.HashCA(c) == id {
				k.Public = encodeCA(c)
			}
		}
		if ca := m.ca.next(id); ca != nil {
			k.Public = encodeCA(ca.Certificate())
		}
	}
	return k
}

// reissueWithActiveKey signs everything with the active key.
func (l *leaderRotation) reissueWithActiveKey(ctx context.Context) error {
	m := l.m
	active := m.Keyring().Active(conf.KeySigning)
	if active == nil || m.ActiveID(conf.KeySigning) != active.ID {
		return nil
	}
	done, snap := true, m.o.View.Load()
	snap.Range(func(e *documents.Entry) bool {
		for id := range e.Record.KeyIDs() {
			done = done && (e.Record.Epoch != snap.Epoch || id == active.ID)
		}
		return done
	})
	if done {
		return nil
	}
	n, err := m.o.Editor.Reissue(ctx)
	if err == nil && n > 0 {
		m.log.Info("everything is signed by the new key", "key", active.ID, "services", n)
	}
	return err
}

// signedBy counts the services, and the versions of their rollouts, by the key that signed them.
func signedBy(v *documents.View) map[string]int {
	out := map[string]int{}
	snap := v.Load()
	snap.Range(func(e *documents.Entry) bool {
		for id := range e.Record.KeyIDs() {
			if e.Record.Epoch == snap.Epoch {
				out[id]++
			}
		}
		return true
	})
	return out
}

// resealBatch is how many secrets one entry of the log reseals: few, so that the writes of
// other callers do not wait for it.
const resealBatch = 50

// reseal encrypts the secrets of the database under the active key, a batch at a time. It
// stores no position: the secrets that are still under another key are what is left.
func (l *leaderRotation) reseal(ctx context.Context) error {
	m := l.m
	active := m.Keyring().Active(conf.KeyMaster)
	set := m.Set()
	if active == nil || !set.Holds(conf.KeyMaster, active.ID) {
		return nil
	}
	counts, err := l.rep.Store().Queries.SecretKeyIDs(ctx)
	if err != nil {
		return err
	}
	left := 0
	for id, n := range counts {
		if id != active.ID && set.Holds(conf.KeyMaster, id) {
			left += n
		}
	}
	if left == 0 {
		return nil
	}
	start := time.Now()
	done := 0
	batch := &command.Reseal{Epoch: l.rep.Store().Epoch(), By: active.CreatedBy}
	flush := func() error {
		if len(batch.Items) == 0 {
			return nil
		}
		batch.At = conf.FormatTime(m.o.Options.Clock())
		err := l.rep.Propose(ctx, batch)
		done += len(batch.Items)
		batch.Items = nil
		return err
	}
	var failed error
	for _, r := range (documents.Records{View: m.o.View}).Services() {
		if r.Epoch != batch.Epoch {
			continue
		}
		for _, sec := range r.Secrets {
			if sec.KeyID == active.ID || !set.Holds(conf.KeyMaster, sec.KeyID) {
				continue
			}
			value, err := set.Reseal(r.Epoch, r.Service, sec, active.ID)
			if err != nil { // one that does not open must not block the rest
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
		m.log.Info("secrets are sealed under the new key", "key", active.ID, "secrets", done, "took", time.Since(start))
	}
	if failed != nil && (done > 0 || l.unresealed == nil || l.unresealed.Error() != failed.Error()) {
		l.unresealed = failed
		m.log.Warn("a secret was not sealed under the new key", "err", failed, "hint", conf.HintOf(failed))
	}
	return nil
}

// expireCA ends the old CA when its grace period is over and every member has its
// certificate from the new one.
func (l *leaderRotation) expireCA(ctx context.Context, now time.Time) error {
	m := l.m
	ring, at := m.Keyring(), conf.FormatTime(now)
	old, active := ring.Old(conf.KeyCA, at), ring.Active(conf.KeyCA)
	if old == nil || active == nil || graceRemaining(m.o.Options.KeyGrace, *active, now) > 0 {
		return nil
	}
	if len(membersNotUsing(*active, m.members.all(ctx))) > 0 {
		return nil
	}
	return m.proposeKeys(ctx, l.rep, &command.Keyring{At: at, End: []command.KeyExpiry{{Kind: conf.KeyCA, ID: old.ID, NotAfter: at}}})
}

// graceRemaining is how long the key before k is still accepted at least.
func graceRemaining(grace time.Duration, k conf.Key, now time.Time) time.Duration {
	since, err := conf.ParseTime(k.NotBefore)
	if err != nil {
		return grace
	}
	return since.Add(grace).Sub(now)
}

// renewTokens calls NewCA once for each new CA.
func (l *leaderRotation) renewTokens(ctx context.Context) {
	a := l.m.Keyring().Active(conf.KeyCA)
	if a == nil || a.ID == l.tokensOf || pki.HashCA(l.m.ca.port.Identity().CAs[0]) != a.ID {
		return
	}
	l.m.o.NewCA(ctx, l.rep)
	l.tokensOf = a.ID
}
