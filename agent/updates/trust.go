package updates

import (
	"crypto/ed25519"
	"slices"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// maxLearned bounds the learned keys; a cluster has two at a time, and lists a hundred old
// ones.
const maxLearned = 256

// MergeKeyring merges the signing keys of a received keyring. A key is trusted if a chain of key
// proofs leads to it from a key of Options.Trust, and it is announced, active or old.
// It returns the keys that are now trusted, and those that no longer are. The rest of
// the keyring is not signed: it can exclude a key, but not add one.
func (r *Receiver) MergeKeyring(ring []conf.KeyInfo) (fresh, gone []ed25519.PublicKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.ContainsFunc(ring, func(k conf.KeyInfo) bool { return k.Kind == conf.KeySigning }) {
		return nil, nil // from a member without a keyring
	}
	all := slices.Clone(ring)
	for _, k := range r.learned {
		i := slices.IndexFunc(all, func(o conf.KeyInfo) bool { return o.Kind == k.Kind && o.ID == k.ID })
		if i < 0 {
			k.State = conf.KeyExpired // removed by the cluster; it may still prove another one
			all = append(all, k)
			continue
		}
		all[i].Public, all[i].Proof = k.Public, k.Proof // the verified ones
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

// adopt replaces the learned keys with the verified ones of a keyring.
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

// Learned returns the learned keys, also expired ones that may prove another: the value of
// Options.Learned after a restart.
func (r *Receiver) Learned() []conf.KeyInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.learned)
}

// Trusted returns the trusted keys.
func (r *Receiver) Trusted() []ed25519.PublicKey { return slices.Clone(r.trusted()) }

func (r *Receiver) trusted() []ed25519.PublicKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.trust
}

func containsKey(list []ed25519.PublicKey, k ed25519.PublicKey) bool {
	return slices.ContainsFunc(list, func(o ed25519.PublicKey) bool { return o.Equal(k) })
}
