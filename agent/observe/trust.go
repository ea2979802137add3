package observe

import (
	"crypto/ed25519"
	"slices"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// maxLearned bounds the keys that are learned; a cluster has two at a time, and
// remembers a hundred.
const maxLearned = 256

// Learn takes the signing keys of a keyring that somebody sent. One is trusted from
// then on when a chain of proofs leads to it from a key of Options.Trust, each by the
// key before, and the cluster uses it, will, or did lately. It returns those that are
// trusted now and were not before, and those that no more are. What the keyring says
// of a key beside its proof nobody signed: it can keep a key out, and let none in.
func (r *Receiver) Learn(ring []conf.KeyInfo) (fresh, gone []ed25519.PublicKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.ContainsFunc(ring, func(k conf.KeyInfo) bool { return k.Kind == conf.KeySigning }) {
		return nil, nil // of a member that has no keyring yet
	}
	all := slices.Clone(ring)
	for _, k := range r.learned {
		i := slices.IndexFunc(all, func(o conf.KeyInfo) bool { return o.Kind == k.Kind && o.ID == k.ID })
		if i < 0 {
			k.State = conf.KeyExpired // forgotten by the cluster; another one may be proven by it
			all = append(all, k)
			continue
		}
		all[i].Public, all[i].Proof = k.Public, k.Proof // good ones
	}
	was := r.trust
	r.adopt(all)
	for _, k := range r.trust {
		if !containsKey(was, k) {
			fresh = append(fresh, k)
		}
	}
	for _, k := range was {
		if !containsKey(r.trust, k) {
			gone = append(gone, k)
		}
	}
	return fresh, gone
}

// adopt makes what is proven of a keyring all that was learned.
func (r *Receiver) adopt(ring []conf.KeyInfo) {
	proven := slices.Clone(r.roots)
	trust := slices.Clone(r.roots) // a reader may have the old one
	learned := []conf.KeyInfo{}
	at := conf.FormatTime(r.now())
	for grown := true; grown && len(learned) < maxLearned; {
		grown = false
		for _, k := range ring {
			pub, err := seal.DecodePublic(k.Public)
			if k.Kind != conf.KeySigning || k.State == conf.KeyWithdrawn || err != nil || seal.KeyID(pub) != k.ID || containsKey(proven, pub) || len(learned) == maxLearned {
				continue
			}
			if !slices.ContainsFunc(proven, func(by ed25519.PublicKey) bool { return seal.CheckKeyProof(by, pub, k.Proof) }) {
				continue
			}
			if k.State == conf.KeyOld && k.NotAfter != "" && k.NotAfter < at {
				k.State = conf.KeyExpired
			}
			proven, learned, grown = append(proven, pub), append(learned, k), true
			if k.State == conf.KeyActive || k.State == conf.KeyAnnounced || k.State == conf.KeyOld {
				trust = append(trust, pub)
			}
		}
	}
	r.trust, r.learned = trust, learned
}

// Learned lists the keys that were learned, those at their end too as far as they may
// prove another one: what Options.Learned takes after a restart.
func (r *Receiver) Learned() []conf.KeyInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.learned)
}

// Trusted lists the keys that are trusted now.
func (r *Receiver) Trusted() []ed25519.PublicKey { return slices.Clone(r.trusted()) }

func (r *Receiver) trusted() []ed25519.PublicKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.trust
}

func containsKey(list []ed25519.PublicKey, k ed25519.PublicKey) bool {
	return slices.ContainsFunc(list, func(o ed25519.PublicKey) bool { return o.Equal(k) })
}
