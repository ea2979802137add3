package keys

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// Holder has the current Set of an agent. It is safe for concurrent use.
type Holder struct{ set atomic.Pointer[Set] }

// NewHolder returns a Holder of s.
func NewHolder(s Set) *Holder {
	h := &Holder{}
	h.Store(s)
	return h
}

// Load returns the current Set.
func (h *Holder) Load() Set { return *h.set.Load() }

// Store replaces the Set, after the file was replaced.
func (h *Holder) Store(s Set) { h.set.Store(&s) }

// Material is one key in the form that agents exchange and files contain: the base64
// of a symmetric key, or the PEM of a private key or, for a sidecar, of a public one.
// It prints as its kind and id.
type Material struct {
	Kind, ID, Value string
}

// String is the kind and the id, without the value.
func (m Material) String() string { return m.Kind + " key " + m.ID }

// slots are the variables of one kind of key: the key, its id ("" when it is derived
// from the key), and those of the old key. Public keys are derived from private ones.
type slots struct{ key, id, oldKey, oldID, public, oldPublic string }

func slotsOf(kind, role string) (slots, error) {
	switch {
	case kind == conf.KeyMaster && role != conf.MemberSidecar:
		return slots{key: EnvMasterKey, id: EnvMasterID, oldKey: EnvMasterOldKey, oldID: EnvMasterOldID}, nil
	case kind == conf.KeyMaster: // its Material is the key derived for the service
		return slots{key: EnvServiceKey, id: EnvServiceID, oldKey: EnvServiceOldKey, oldID: EnvServiceOldID}, nil
	case kind == conf.KeyHMAC:
		return slots{key: EnvHMACKey, id: EnvHMACID, oldKey: EnvHMACOldKey, oldID: EnvHMACOldID}, nil
	case kind == conf.KeySigning && role == conf.MemberSidecar:
		return slots{key: EnvPublicKey, oldKey: EnvPublicOldKey}, nil
	case kind == conf.KeySigning:
		return slots{key: EnvPrivateKey, oldKey: EnvPrivateOldKey, public: EnvPublicKey, oldPublic: EnvPublicOldKey}, nil
	}
	return slots{}, conf.Errorf(conf.CodeUnsupported, "a %s keeps no %s key in its .env file", role, kind)
}

// IDs returns the ids of the main and the old key of a kind, "" for none.
func (s Set) IDs(kind string) (main, old string) {
	switch kind {
	case conf.KeyMaster:
		if s.MasterID == "" {
			return s.ServiceKeyID, s.OldServiceKeyID
		}
		return s.MasterID, s.OldMasterID
	case conf.KeyHMAC:
		return s.HMACID, s.OldHMACID
	case conf.KeySigning:
		return publicID(s.Public), publicID(s.OldPublic)
	}
	return "", ""
}

func publicID(k ed25519.PublicKey) string {
	if len(k) == 0 {
		return ""
	}
	return seal.KeyID(k)
}

// Holds reports whether the set has the key with that id.
func (s Set) Holds(kind, id string) bool {
	main, old := s.IDs(kind)
	return id != "" && (id == main || id == old)
}

// Material returns a key in the form that another server accepts.
func (s Set) Material(kind, id string) (Material, bool) {
	main, _ := s.IDs(kind)
	m := Material{Kind: kind, ID: id}
	if !s.Holds(kind, id) {
		return m, false
	}
	master, hmac, private := s.Master, s.HMAC, s.Private
	if id != main {
		master, hmac, private = s.OldMaster, s.OldHMAC, s.OldPrivate
	}
	switch kind {
	case conf.KeyMaster:
		m.Value = encode(master)
	case conf.KeyHMAC:
		m.Value = encode(hmac)
	case conf.KeySigning:
		m.Value = encodePrivate(private)
	}
	return m, m.Value != ""
}

// Signing returns the private key with that id, nil when the set lacks it.
func (s Set) Signing(id string) ed25519.PrivateKey {
	switch main, old := s.IDs(conf.KeySigning); id {
	case main:
		return s.Private
	case old:
		return s.OldPrivate
	}
	return nil
}

// PublicKeys returns the keys that the agent trusts because its file has them.
func (s Set) PublicKeys() []ed25519.PublicKey {
	out := []ed25519.PublicKey{s.Public}
	if len(s.OldPublic) > 0 {
		out = append(out, s.OldPublic)
	}
	return out
}

// HMACKeys returns the keys of the last-known-good file, the one with that id first:
// it authenticates the file that is written, and each authenticates one that is read.
func (s Set) HMACKeys(id string) [][]byte {
	switch {
	case len(s.OldHMAC) == 0:
		return [][]byte{s.HMAC}
	case id == s.OldHMACID:
		return [][]byte{s.OldHMAC, s.HMAC}
	}
	return [][]byte{s.HMAC, s.OldHMAC}
}

// NewMaterial generates a key. With an id the key gets that id, as a sidecar's key of
// its own last-known-good file.
func NewMaterial(kind, id string) (Material, error) {
	m := Material{Kind: kind, ID: id}
	switch kind {
	case conf.KeyMaster, conf.KeyHMAC:
		m.Value = encode(random())
		if id == "" {
			m.ID = uuid.NewString()
		}
	case conf.KeySigning:
		private := ed25519.NewKeyFromSeed(random())
		m.ID, m.Value = seal.KeyID(private.Public().(ed25519.PublicKey)), encodePrivate(private)
	default:
		return m, conf.Errorf(conf.CodeUsage, "there is no key of the kind %q", kind)
	}
	return m, nil
}

// PublicMaterial returns a public signing key as Material for a sidecar.
func PublicMaterial(key ed25519.PublicKey) Material {
	return Material{Kind: conf.KeySigning, ID: seal.KeyID(key), Value: encodePublic(key)}
}

// PrivateOf returns the private key of signing material.
func (m Material) PrivateOf() (ed25519.PrivateKey, error) {
	received := source{file: map[string]string{EnvPrivateKey: m.Value}, path: "the received keys"}
	k, _, _, err := keyPair(received, EnvPrivateKey, EnvPublicKey)
	if err == nil && (k == nil || seal.KeyID(k.Public().(ed25519.PublicKey)) != m.ID) {
		err = conf.Errorf(conf.CodeMalformed, "the received signing key is not %s", m.ID)
	}
	return k, err
}

// Rotatable checks whether Rotate can store a key of this kind. It changes nothing.
func Rotatable(env func(string) (string, bool), envFile, kind string, opts Options) error {
	opts = opts.withDefaults()
	if _, err := fileSlots(env, kind, opts.Role); err != nil {
		return err
	}
	if envFile == "" {
		return cannotRotate(envFile, errors.New("none is configured"))
	}
	target, err := lockEnvFile(envFile, opts.LockTimeout)
	if err != nil {
		return cannotRotate(envFile, err)
	}
	defer target.close()
	tmp, err := os.CreateTemp(filepath.Dir(target.path), "."+filepath.Base(target.path)+".tmp-*")
	if err != nil { // a single file that is mounted is open for writing, and write appends to it
		return nil //nolint:nilerr // see above
	}
	_, err = tmp.Write(make([]byte, 4096))
	_ = tmp.Close()
	_ = os.Remove(tmp.Name())
	if err != nil {
		return cannotRotate(envFile, err)
	}
	return nil
}

// fileSlots returns the variables of a kind, none of which may be in the environment:
// the agent can change its .env file only.
func fileSlots(env func(string) (string, bool), kind, role string) (slots, error) {
	s, err := slotsOf(kind, role)
	if err != nil {
		return slots{}, err
	}
	for _, name := range []string{s.key, s.id, s.public, s.oldKey, s.oldID, s.oldPublic} {
		if v, _ := (source{env: env}).get(name); v != "" {
			return slots{}, conf.Errorf(conf.CodeImmutable, "%s is set in the environment of the agent, which it cannot change", name).
				WithHint("move the keys from the environment to the .env file (CONFIG_ENV_FILE); or rotate by hand: " +
					"set the new key in its place and the old one in the _OLD_ variables, on every server, and restart them one by one")
		}
	}
	return s, nil
}

func cannotRotate(path string, cause error) error {
	return conf.Errorf(conf.CodeUsage, "a new key cannot be stored in %s: %w", orEnv(path), withoutPath(cause)).
		WithHint("make the file and its directory writable for the agent; or rotate by hand: put the new key into it, the old one into the _OLD_ variables, and restart")
}

// Rotate makes m the main key of its kind in envFile, durably, and keeps the key with
// the id keep as the old one. It returns the Set of the file afterwards. It is safe to
// call again.
func Rotate(env func(string) (string, bool), envFile string, m Material, keep string, opts Options) (Set, error) {
	return changeKey(env, envFile, m.Kind, opts, func(s slots, set Set, file map[string]string) (map[string]string, error) {
		main, old := set.IDs(m.Kind)
		if main == m.ID {
			return nil, nil
		}
		out := map[string]string{s.key: m.Value, s.id: m.ID}
		if s.public != "" {
			private, err := m.PrivateOf()
			if err != nil {
				return nil, err
			}
			out[s.public] = encodePublic(private.Public().(ed25519.PublicKey))
		}
		if old != keep || old == "" { // else the main key was never active: the old one stays
			out[s.oldKey], out[s.oldID], out[s.oldPublic] = file[s.key], file[s.id], encodePublic(set.Public)
		}
		delete(out, "")
		return out, nil
	})
}

// Drop removes the old key of a kind, when its id is old.
func Drop(env func(string) (string, bool), envFile, kind, old string, opts Options) (Set, error) {
	return changeKey(env, envFile, kind, opts, func(s slots, set Set, _ map[string]string) (map[string]string, error) {
		if _, is := set.IDs(kind); is != old || old == "" {
			return nil, nil
		}
		out := map[string]string{s.oldKey: "", s.oldID: "", s.oldPublic: ""}
		delete(out, "")
		return out, nil
	})
}

// Undo makes the old key of a kind the main one again, when the main key has the id
// withdrawn.
func Undo(env func(string) (string, bool), envFile, kind, withdrawn string, opts Options) (Set, error) {
	return changeKey(env, envFile, kind, opts, func(s slots, set Set, file map[string]string) (map[string]string, error) {
		if main, old := set.IDs(kind); main != withdrawn || old == "" {
			return nil, nil
		}
		out := map[string]string{
			s.key: file[s.oldKey], s.id: file[s.oldID], s.public: encodePublic(set.OldPublic),
			s.oldKey: "", s.oldID: "", s.oldPublic: "",
		}
		delete(out, "")
		return out, nil
	})
}
