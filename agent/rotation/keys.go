package rotation

import (
	"context"
	"crypto/ed25519"
	"slices"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/replication/store"
)

// AgentKeys are the keys of this agent as its rooms use them. Every method reads immutable
// values and takes no lock.
type AgentKeys struct {
	holder  *keys.Holder
	keyring atomic.Pointer[conf.Keyring]     // as the replica has it; nil before one was up
	errs    atomic.Pointer[map[string]error] // why this agent lacks a key, by kind
}

// NewKeys has the key set of holder and no keyring yet.
func NewKeys(holder *keys.Holder) *AgentKeys { return &AgentKeys{holder: holder} }

// Set is the key set on the disk of this agent.
func (k *AgentKeys) Set() keys.Set { return k.holder.Load() }

// Keyring is the replicated keyring; empty before a replica was up.
func (k *AgentKeys) Keyring() conf.Keyring {
	if r := k.keyring.Load(); r != nil {
		return *r
	}
	return nil
}

// LoadKeyring reads the keyring of a store.
func (k *AgentKeys) LoadKeyring(ctx context.Context, st *store.Store) error {
	ring, err := st.Queries.Keyring(ctx)
	if err != nil {
		return err
	}
	if old := k.keyring.Load(); old == nil || !slices.Equal(*old, ring) {
		k.keyring.Store(&ring)
	}
	return nil
}

// Err is why this agent lacks a key of that kind, nil when it lacks none.
func (k *AgentKeys) Err(kind string) error {
	if errs := k.errs.Load(); errs != nil {
		return (*errs)[kind]
	}
	return nil
}

// ActiveID is the id of the key to work with: that of the keyring if this agent has it,
// else the one in the main variable.
func (k *AgentKeys) ActiveID(kind string) string {
	set := k.Set()
	if a := k.Keyring().Active(kind); a != nil && set.Holds(kind, a.ID) {
		return a.ID
	}
	main, _ := set.IDs(kind)
	return main
}

// Signer signs with the active key. Only servers have one.
func (k *AgentKeys) Signer() *seal.Signer {
	return seal.NewSigner(k.Set().Signing(k.ActiveID(conf.KeySigning)))
}

// MissingActiveKey is the error of a leader that does not have an active key yet: what it
// signed or sealed would look outdated to the other members.
func (k *AgentKeys) MissingActiveKey() error {
	set := k.Set()
	for _, kind := range []string{conf.KeySigning, conf.KeyMaster} {
		if a := k.Keyring().Active(kind); a != nil && !set.Holds(kind, a.ID) {
			return conf.Errorf(conf.CodeReadOnly, "this leader does not hold the %s key %s yet, and asks the others for it", kind, a.ID).
				WithHint("try again in a moment; if it stays so, start a server that has the key or put it back into CONFIG_ENV_FILE, or put a new key in its place by hand and restart: holdfast keys status")
		}
	}
	return nil
}

// PublicKeys are the signing keys that verify, by their ids: those of this agent's own
// file, and those with a key proof by one of them.
func (k *AgentKeys) PublicKeys() map[string]ed25519.PublicKey {
	out := map[string]ed25519.PublicKey{}
	for _, pub := range k.Set().PublicKeys() {
		if len(pub) > 0 {
			out[seal.KeyID(pub)] = pub
		}
	}
	ring := k.Keyring()
	for grown := true; grown; {
		grown = false
		for _, e := range ring {
			if e.Kind != conf.KeySigning || out[e.ID] != nil {
				continue
			}
			pub, err := seal.DecodePublic(e.Public)
			if err != nil || seal.KeyID(pub) != e.ID {
				continue
			}
			for _, by := range out {
				if seal.CheckKeyProof(by, pub, e.Proof) {
					out[e.ID], grown = pub, true
					break
				}
			}
		}
	}
	return out
}

// VerificationKeys are the keys of /v1/keys: what receivers may accept now. The active
// one comes first.
func (k *AgentKeys) VerificationKeys() []localapi.Key {
	ring, at := k.Keyring(), conf.FormatTime(time.Now())
	trusted := k.PublicKeys()
	var out []localapi.Key
	add := func(id string, e conf.Key) {
		if pub := trusted[id]; pub != nil {
			if lk, err := localapi.NewKey(id, pub); err == nil {
				lk.State, lk.NotBefore, lk.NotAfter, lk.Proof = e.State(at), e.NotBefore, e.NotAfter, e.Proof
				out = append(out, lk)
			}
		}
	}
	for _, state := range []string{conf.KeyActive, conf.KeyAnnounced, conf.KeyOld} {
		for _, e := range ring {
			if e.Kind == conf.KeySigning && e.State(at) == state {
				add(e.ID, e)
			}
		}
	}
	if len(out) == 0 { // no replica yet, or nobody wrote the keyring
		for _, pub := range k.Set().PublicKeys() {
			if e := ring.Find(conf.KeySigning, seal.KeyID(pub)); e == nil || e.State(at) == conf.KeyExpired {
				add(seal.KeyID(pub), conf.Key{Kind: conf.KeySigning, ID: seal.KeyID(pub), NotBefore: "-"})
			}
		}
		for i := range out {
			out[i].NotBefore = ""
		}
	}
	return out
}

// PublicHash is the hex SHA-256 of the active public key.
func (k *AgentKeys) PublicHash() string {
	id := k.ActiveID(conf.KeySigning)
	if a := k.Keyring().Active(conf.KeySigning); a != nil {
		id = a.ID
	}
	if pub := k.PublicKeys()[id]; pub != nil {
		return seal.Checksum(pub)
	}
	return ""
}

// SignEpoch signs that the epoch next follows the epoch old; nil when there was none, and
// where no private key is.
func (k *AgentKeys) SignEpoch(old, next string, at time.Time) *conf.EpochChange {
	if old == "" || len(k.Set().Private) == 0 {
		return nil
	}
	c := k.Signer().SignEpoch(old, next, at)
	return &c
}
