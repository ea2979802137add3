package keys

import (
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// Vault seals and opens the secrets of services with the keys of a Ring. A
// sidecar's opens those of its own service and seals none. All methods are safe
// for concurrent use.
type Vault struct {
	ring *Ring

	// Active names the master key that seals; nil: the one in the main variable.
	Active func() string
}

// NewVault makes a Vault of the keys in ring.
func NewVault(ring *Ring) *Vault { return &Vault{ring: ring} }

// Seal encrypts the value of a secret for an epoch, and names the master key.
func (v *Vault) Seal(epoch, service, key string, plain []byte) (encrypted, keyID string, err error) {
	set := v.ring.Get()
	keyID = set.MasterID
	if v.Active != nil {
		if id := v.Active(); set.Holds(conf.KeyMaster, id) {
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

// Open decrypts a secret of a record of that epoch. CodeUnsupported says that this
// agent does not hold the key, CodeCorrupt that the value is not what was sealed.
func (v *Vault) Open(epoch, service string, s conf.SealedSecret) ([]byte, error) {
	derived, err := v.ring.Get().SecretKey(service, s.KeyID)
	if err != nil {
		return nil, err
	}
	return seal.OpenSecret(derived, seal.SecretID{Epoch: epoch, Service: service, Key: s.Key, KeyID: s.KeyID}, s.Value)
}

// Narrow says that the keys are those of a sidecar, for one service.
func (v *Vault) Narrow() bool { return len(v.ring.Get().Master) == 0 }

// RequestKeys make ids of requests that tell nothing of what was in them: first
// that of the master key in use, which every server holds, then those of the
// others that this one holds. None at a sidecar, which makes no ids.
func (s Set) RequestKeys(active string) [][]byte {
	var out [][]byte
	for _, m := range []struct {
		id  string
		key []byte
	}{{s.MasterID, s.Master}, {s.OldMasterID, s.OldMaster}} {
		key, err := seal.Derive(m.key, "request ids", m.id) // no service has a space in its name
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

// SecretKey is the key that seals the secrets of a service under a master key:
// derived from that one, or the sidecar's own.
func (s Set) SecretKey(service, keyID string) ([]byte, error) {
	switch {
	case keyID == "":
	case keyID == s.MasterID && len(s.Master) > 0:
		return seal.Derive(s.Master, service, keyID)
	case keyID == s.OldMasterID && len(s.OldMaster) > 0:
		return seal.Derive(s.OldMaster, service, keyID)
	case keyID == s.ServiceKeyID && len(s.ServiceKey) > 0:
		return s.ServiceKey, nil // it opens nothing but its own service's: the service is bound to each value
	case keyID == s.OldServiceKeyID && len(s.OldServiceKey) > 0:
		return s.OldServiceKey, nil
	}
	return nil, conf.Errorf(conf.CodeUnsupported, "this agent does not hold the master key %s, nor what is derived of it for %s", orNone(keyID), service)
}
