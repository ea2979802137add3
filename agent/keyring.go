package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// known is the keyring as this agent knows it; empty before a replica was up.
func (s *supervisor) known() conf.Keyring {
	if r := s.ring.Load(); r != nil {
		return *r
	}
	return nil
}

// inUse is the id of the key to work with: that of the keyring if this agent holds
// it, else the one in the main variable.
func (s *supervisor) inUse(kind string) string {
	set := s.keys.Get()
	if a := s.known().Active(kind); a != nil && set.Holds(kind, a.ID) {
		return a.ID
	}
	main, _ := set.IDs(kind)
	return main
}

// signer signs with the key in use. Only servers have one.
func (s *supervisor) signer() *seal.Signer {
	return seal.NewSigner(s.keys.Get().Signing(s.inUse(conf.KeySigning)))
}

// lacking is the refusal of a leader that does not hold a key in use yet: what it
// signed or sealed would look like the past to the others.
func (s *supervisor) lacking() error {
	set := s.keys.Get()
	for _, kind := range []string{conf.KeySigning, conf.KeyMaster} {
		if a := s.known().Active(kind); a != nil && !set.Holds(kind, a.ID) {
			return conf.Errorf(conf.CodeReadOnly, "this leader does not hold the %s key %s yet, and asks the others for it", kind, a.ID).
				WithHint("try again in a moment; if it stays so, start a server that has the key or put it back into CONFIG_ENV_FILE, or put a new key in its place by hand and restart: holdfast keys status")
		}
	}
	return nil
}

// publicKeys are the signing keys that verify, by their ids: those of this agent's
// own file, and what is proven by them.
func (s *supervisor) publicKeys() map[string]ed25519.PublicKey {
	out := map[string]ed25519.PublicKey{}
	for _, k := range s.keys.Get().PublicKeys() {
		if len(k) > 0 {
			out[seal.KeyID(k)] = k
		}
	}
	ring := s.known()
	for grown := true; grown; {
		grown = false
		for _, k := range ring {
			if k.Kind != conf.KeySigning || out[k.ID] != nil {
				continue
			}
			pub, err := seal.DecodePublic(k.Public)
			if err != nil || seal.KeyID(pub) != k.ID {
				continue
			}
			for _, by := range out {
				if seal.CheckKeyProof(by, pub, k.Proof) {
					out[k.ID], grown = pub, true
					break
				}
			}
		}
	}
	return out
}

// verifying are the keys of /v1/keys: what receivers may take now. The one in use
// comes first.
func (s *supervisor) verifying() []localapi.Key {
	ring, at := s.known(), conf.FormatTime(time.Now())
	trusted := s.publicKeys()
	var out []localapi.Key
	add := func(id string, k conf.Key) {
		if pub := trusted[id]; pub != nil {
			if lk, err := localapi.NewKey(id, pub); err == nil {
				lk.State, lk.NotBefore, lk.NotAfter, lk.Proof = k.State(at), k.NotBefore, k.NotAfter, k.Proof
				out = append(out, lk)
			}
		}
	}
	for _, state := range []string{conf.KeyActive, conf.KeyAnnounced, conf.KeyOld} {
		for _, k := range ring {
			if k.Kind == conf.KeySigning && k.State(at) == state {
				add(k.ID, k)
			}
		}
	}
	if len(out) == 0 { // no replica yet, or nobody wrote the keyring
		for _, pub := range s.keys.Get().PublicKeys() {
			if k := ring.Find(conf.KeySigning, seal.KeyID(pub)); k == nil || k.State(at) == conf.KeyExpired {
				add(seal.KeyID(pub), conf.Key{Kind: conf.KeySigning, ID: seal.KeyID(pub), NotBefore: "-"})
			}
		}
		for i := range out {
			out[i].NotBefore = ""
		}
	}
	return out
}

// held tells what this agent holds, by kind.
func (s *supervisor) held() map[string]conf.KeysHeld {
	set := s.keys.Get()
	out := map[string]conf.KeysHeld{}
	for _, kind := range []string{conf.KeyMaster, conf.KeyHMAC, conf.KeySigning} {
		h := conf.KeysHeld{IDs: []string{}}
		main, old := set.IDs(kind)
		for _, id := range []string{main, old} {
			if id != "" {
				h.IDs = append(h.IDs, id)
			}
		}
		h.Use = s.inUse(kind)
		out[kind] = h
	}
	id := s.cluster.port.Identity()
	if id.Role == transport.RoleSidecar {
		h := out[conf.KeySigning]
		h.IDs = conf.SortedKeys(s.publicKeys())
		if a := s.known().Active(conf.KeySigning); a != nil && h.Has(a.ID) {
			h.Use = a.ID
		}
		out[conf.KeySigning] = h
	}
	ca := conf.KeysHeld{IDs: []string{}, Use: transport.HashCA(id.Issuer())}
	for _, c := range id.CAs {
		// A server holds a CA when it could go on with it.
		if hash := transport.HashCA(c); id.Role != transport.RoleServer || id.CA == nil || hash == id.CA.Hash() || hash == ca.Use || s.cluster.nextCA(hash) != nil {
			ca.IDs = append(ca.IDs, hash)
		}
	}
	out[conf.KeyCA] = ca
	s.keyMu.Lock()
	defer s.keyMu.Unlock()
	for kind, err := range s.keyErrs {
		h := out[kind]
		h.Err = err.Error()
		if hint := conf.HintOf(err); hint != "" {
			h.Err += "; " + hint
		}
		out[kind] = h
	}
	return out
}

// trouble keeps why a key could not be had, and logs what is new.
func (s *supervisor) trouble(kind string, err error) {
	s.keyMu.Lock()
	defer s.keyMu.Unlock()
	was := s.keyErrs[kind]
	if err == nil {
		delete(s.keyErrs, kind)
		return
	}
	if s.keyErrs == nil {
		s.keyErrs = map[string]error{}
	}
	s.keyErrs[kind] = err
	if was == nil || conf.CodeOf(was) != conf.CodeOf(err) { // the texts name ports, which change each time
		s.log.Warn("a key of the cluster is not here yet: it is tried again", "kind", kind, "err", err, "hint", conf.HintOf(err))
	}
}

func (s *supervisor) keyOptions() keys.Options {
	return keys.Options{Role: string(s.cluster.port.Identity().Role), Joined: true, LockTimeout: 2 * time.Second}
}

// stored takes over what the .env file holds now.
func (s *supervisor) stored(set keys.Set, err error) error {
	if err == nil {
		s.keys.Put(set)
	}
	return err
}

// loadRing reads the keyring of the replica.
func (ss *session) loadRing(ctx context.Context) error {
	ring, err := ss.store.Keyring(ctx)
	if err != nil {
		return err
	}
	if old := ss.s.ring.Load(); old == nil || !slices.Equal(*old, ring) {
		ss.s.ring.Store(&ring)
	}
	return nil
}

func encodeCA(c *x509.Certificate) string { return base64.StdEncoding.EncodeToString(c.Raw) }

// parsedCA is a CA certificate of the keyring, and the cluster that it is of.
type parsedCA struct {
	cert    *x509.Certificate
	cluster string
}

// parsedCAs keeps those that were parsed, and checked, before: the loops that tend
// to the keys ask each second.
type parsedCAs struct {
	mu sync.Mutex
	by map[string]parsedCA
}

// maxParsedCAs is far more than a keyring has at a time.
const maxParsedCAs = 16

func (p *parsedCAs) decode(text string) (parsedCA, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ca, ok := p.by[text]; ok {
		return ca, nil
	}
	der, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return parsedCA{}, conf.Errorf(conf.CodeCorrupt, "the keyring holds a damaged CA certificate")
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return parsedCA{}, err
	}
	if p.by == nil || len(p.by) >= maxParsedCAs {
		p.by = map[string]parsedCA{}
	}
	ca := parsedCA{cert, transport.ClusterOf(cert)}
	p.by[text] = ca
	return ca, nil
}

// foreign says whether a CA of the keyring is of another cluster.
func (s *supervisor) foreign(k *conf.Key) bool {
	ca, err := s.cas.decode(k.Public)
	return err != nil || ca.cluster != s.cluster.port.Identity().ClusterID
}

// publicHash is the hex SHA-256 of the public key in use.
func (s *supervisor) publicHash() string {
	id := s.inUse(conf.KeySigning)
	if a := s.known().Active(conf.KeySigning); a != nil {
		id = a.ID
	}
	if pub := s.publicKeys()[id]; pub != nil {
		return seal.Checksum(pub)
	}
	return ""
}
