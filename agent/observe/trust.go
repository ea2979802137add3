package observe

import (
	"crypto/ed25519"
	"slices"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// maxLearned bounds the keys that are learned; a cluster has two at a time.
const maxLearned = 64

// Learn takes the signing keys of a keyring that somebody sent. One is trusted from
// then on when a chain of proofs leads to it from a key that is trusted, each by the
// key before, and the cluster uses it, will, or did lately. It returns those that are
// new. What the keyring says of a key beside its proof nobody signed: it can keep a
// key out, and let none in.
func (r *Receiver) Learn(ring []conf.KeyInfo) (fresh []ed25519.PublicKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	proven := slices.Clone(r.trust)
	for grown := true; grown && len(proven) < len(r.trust)+maxLearned; {
		grown = false
		for _, k := range ring {
			pub, err := seal.DecodePublic(k.Public)
			if k.Kind != conf.KeySigning || k.State == conf.KeyWithdrawn || err != nil || seal.KeyID(pub) != k.ID || has(proven, pub) {
				continue
			}
			if slices.ContainsFunc(proven, func(by ed25519.PublicKey) bool { return seal.CheckKeyProof(by, pub, k.Proof) }) {
				proven, grown = append(proven, pub), true
			}
		}
	}
	trust := slices.Clone(r.trust) // a reader may have the old one
	for _, k := range ring {
		for _, pub := range proven {
			live := k.State == conf.KeyActive || k.State == conf.KeyAnnounced || k.State == conf.KeyOld
			if live && k.ID == seal.KeyID(pub) && !has(trust, pub) && r.learned < maxLearned {
				trust, fresh = append(trust, pub), append(fresh, pub)
				r.learned++
			}
		}
	}
	r.trust = trust
	return fresh
}

// Trusted lists the keys that are trusted now.
func (r *Receiver) Trusted() []ed25519.PublicKey { return slices.Clone(r.trusted()) }

func (r *Receiver) trusted() []ed25519.PublicKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.trust
}

func has(list []ed25519.PublicKey, k ed25519.PublicKey) bool {
	return slices.ContainsFunc(list, func(o ed25519.PublicKey) bool { return o.Equal(k) })
}
