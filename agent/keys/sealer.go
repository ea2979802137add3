package keys

import (
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// Sealer seals and opens the secrets of services with the keys of a Holder. A sidecar's
// opens those of its own service and seals none. All methods are safe for concurrent
// use.
type Sealer struct {
	holder *Holder

	// Active returns the id of the master key that seals. Without it the main one does.
	Active func() string
}

// NewSealer returns a Sealer that uses the keys of holder.
func NewSealer(holder *Holder) *Sealer { return &Sealer{holder: holder} }

// Seal encrypts the value of a secret for an epoch, and returns the id of the master key.
func (s *Sealer) Seal(epoch, service, key string, plain []byte) (encrypted, keyID string, err error) {
	set := s.holder.Load()
	keyID = set.MasterID
	if s.Active != nil {
		if id := s.Active(); set.Holds(conf.KeyMaster, id) {
			keyID = id
		}
	}
	derived, err := set.SecretKey(service, keyID)
	if err != nil {
		return "", "", err
	}
	encrypted, err = seal.SealSecret(derived, seal.SecretID{Epoch: epoch, Service: service, Key: key, KeyID: keyID}, plain)
	return encrypted, keyID, err
}

// Open decrypts a secret of a record of that epoch. It returns CodeUnsupported when
// this agent lacks the key, and CodeCorrupt when the value does not decrypt.
func (s *Sealer) Open(epoch, service string, sealed conf.SealedSecret) ([]byte, error) {
	derived, err := s.holder.Load().SecretKey(service, sealed.KeyID)
	if err != nil {
		return nil, err
	}
	return seal.OpenSecret(derived, seal.SecretID{Epoch: epoch, Service: service, Key: sealed.Key, KeyID: sealed.KeyID}, sealed.Value)
}

// ServiceOnly reports whether the keys are those of a sidecar, for one service.
func (s *Sealer) ServiceOnly() bool { return len(s.holder.Load().Master) == 0 }

// RequestKeys returns keys for request ids that reveal nothing of the request. A sidecar
// has none, and makes no ids.
func (s Set) RequestKeys(active string) [][]byte { return s.sharedKeys("request ids", active) }

// SessionKeys returns keys for the sessions of browsers. A sidecar has none.
func (s Set) SessionKeys(active string) [][]byte { return s.sharedKeys("browser sessions", active) }

// sharedKeys returns what every server derives from the master keys for one purpose. The
// first is that of the active one; those of the others follow.
func (s Set) sharedKeys(purpose, active string) [][]byte {
	var out [][]byte
	for _, m := range []struct {
		id  string
		key []byte
	}{{s.MasterID, s.Master}, {s.OldMasterID, s.OldMaster}} {
		key, err := seal.Derive(m.key, purpose, m.id) // no service has a space in its name
		switch {
		case err != nil: // it has none
		case m.id == active:
			out = append([][]byte{key}, out...)
		default:
			out = append(out, key)
		}
	}
	return out
}

// SecretKey returns the key that seals the secrets of a service under a master key:
// derived from that one, or the sidecar's own.
func (s Set) SecretKey(service, keyID string) ([]byte, error) {
	switch {
	case keyID == "":
	case keyID == s.MasterID && len(s.Master) > 0:
		return seal.Derive(s.Master, service, keyID)
	case keyID == s.OldMasterID && len(s.OldMaster) > 0:
		return seal.Derive(s.OldMaster, service, keyID)
	case keyID == s.ServiceKeyID && len(s.ServiceKey) > 0:
		return s.ServiceKey, nil // the service is bound to each value, so it opens only its own
	case keyID == s.OldServiceKeyID && len(s.OldServiceKey) > 0:
		return s.OldServiceKey, nil
	}
	return nil, conf.Errorf(conf.CodeUnsupported, "this agent has neither the master key %s nor the key derived from it for %s", orNone(keyID), service)
}

// Reseal re-encrypts a secret of the database under another master key of the set.
func (s Set) Reseal(epoch, service string, sec conf.SealedSecret, keyID string) (string, error) {
	id := seal.SecretID{Epoch: epoch, Service: service, Key: sec.Key, KeyID: sec.KeyID}
	old, err := s.SecretKey(service, sec.KeyID)
	if err != nil {
		return "", err
	}
	plain, err := seal.OpenSecret(old, id, sec.Value)
	if err != nil {
		return "", err
	}
	next, err := s.SecretKey(service, keyID)
	if err != nil {
		return "", err
	}
	id.KeyID = keyID
	value, err := seal.SealSecret(next, id, plain)
	clear(plain)
	return value, err
}
