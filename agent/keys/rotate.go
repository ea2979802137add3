package keys

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// Ring holds the newest Set of an agent. All methods are safe for concurrent use.
type Ring struct{ set atomic.Pointer[Set] }

// NewRing makes a Ring of a Set.
func NewRing(s Set) *Ring {
	r := &Ring{}
	r.Put(s)
	return r
}

// Get is the newest Set.
func (r *Ring) Get() Set { return *r.set.Load() }

// Put replaces the Set, after its file was replaced.
func (r *Ring) Put(s Set) { r.set.Store(&s) }

// Material is one key as it travels between agents and stands in a file: the
// base64 of a symmetric key, or the PEM of a private key or, for a sidecar, of a
// public one. It prints as its kind and id.
type Material struct {
	Kind, ID, Value string
}

func (m Material) String() string { return m.Kind + " key " + m.ID }

// slots are the variables of one kind: the key, its id ("" when it follows from
// the key), and the same of the key before. The public ones follow from private ones.
type slots struct{ key, id, oldKey, oldID, public, oldPublic string }

func slotsOf(kind, role string) (slots, error) {
	switch {
	case kind == conf.KeyMaster && role != conf.MemberSidecar:
		return slots{key: EnvMasterKey, id: EnvMasterID, oldKey: EnvMasterOldKey, oldID: EnvMasterOldID}, nil
	case kind == conf.KeyMaster: // its Material is what is derived for the service
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

func (s slots) names() []string {
	return slices.DeleteFunc([]string{s.key, s.id, s.public, s.oldKey, s.oldID, s.oldPublic}, func(n string) bool { return n == "" })
}

// IDs names the key in the main variable and the one before it, "" for none.
func (s Set) IDs(kind string) (main, old string) {
	id := func(k ed25519.PublicKey) string {
		if len(k) == 0 {
			return ""
		}
		return seal.KeyID(k)
	}
	switch kind {
	case conf.KeyMaster:
		if s.MasterID == "" {
			return s.ServiceKeyID, s.OldServiceKeyID
		}
		return s.MasterID, s.OldMasterID
	case conf.KeyHMAC:
		return s.HMACID, s.OldHMACID
	case conf.KeySigning:
		return id(s.Public), id(s.OldPublic)
	}
	return "", ""
}

// Holds says whether the set has the key: for signing, at a server, the private one.
func (s Set) Holds(kind, id string) bool {
	main, old := s.IDs(kind)
	return id != "" && (id == main || id == old)
}

// Material gives a key to hand to another server.
func (s Set) Material(kind, id string) (Material, bool) {
	main, _ := s.IDs(kind)
	m := Material{Kind: kind, ID: id}
	if !s.Holds(kind, id) {
		return m, false
	}
	pick := func(a, b string) string {
		if id == main {
			return a
		}
		return b
	}
	switch kind {
	case conf.KeyMaster:
		m.Value = pick(encode(s.Master), encode(s.OldMaster))
	case conf.KeyHMAC:
		m.Value = pick(encode(s.HMAC), encode(s.OldHMAC))
	case conf.KeySigning:
		m.Value = pick(encodePrivate(s.Private), encodePrivate(s.OldPrivate))
	}
	return m, m.Value != ""
}

// Signing is the private key with that id, nil when the set lacks it.
func (s Set) Signing(id string) ed25519.PrivateKey {
	switch main, old := s.IDs(conf.KeySigning); id {
	case main:
		return s.Private
	case old:
		return s.OldPrivate
	}
	return nil
}

// PublicKeys are those that the agent trusts by its file.
func (s Set) PublicKeys() []ed25519.PublicKey {
	out := []ed25519.PublicKey{s.Public}
	if len(s.OldPublic) > 0 {
		out = append(out, s.OldPublic)
	}
	return out
}

// HMACKeys are the keys of the last-known-good file, the one in id first: the
// file is written with that one and read with each.
func (s Set) HMACKeys(id string) [][]byte {
	switch {
	case len(s.OldHMAC) == 0:
		return [][]byte{s.HMAC}
	case id == s.OldHMACID:
		return [][]byte{s.OldHMAC, s.HMAC}
	}
	return [][]byte{s.HMAC, s.OldHMAC}
}

// NewMaterial makes a key. With an id it makes one for that id, as a sidecar does
// for its own last-known-good file.
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

// PublicMaterial is a public signing key, for a sidecar.
func PublicMaterial(key ed25519.PublicKey) Material {
	return Material{Kind: conf.KeySigning, ID: seal.KeyID(key), Value: encodePublic(key)}
}

// PrivateOf is the private key of signing material.
func (m Material) PrivateOf() (ed25519.PrivateKey, error) {
	var missing []string
	k, _, err := keyPair(source{file: map[string]string{EnvPrivateKey: m.Value}, path: "the received keys"}, EnvPrivateKey, EnvPublicKey, &missing)
	if err == nil && (k == nil || seal.KeyID(k.Public().(ed25519.PublicKey)) != m.ID) {
		err = conf.Errorf(conf.CodeMalformed, "the received signing key is not %s", m.ID)
	}
	return k, err
}

// Rotatable says whether Rotate can store a key of this kind, and changes nothing.
// A variable of the environment is not the agent's to change.
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
	if err != nil { // a single file that is mounted is still open for writing, and appended to
		return nil //nolint:nilerr // see above: the lock was taken on a writable descriptor
	}
	_, err = tmp.Write(make([]byte, 4096))
	_ = tmp.Close()
	_ = os.Remove(tmp.Name())
	if err != nil {
		return cannotRotate(envFile, err)
	}
	return nil
}

// fileSlots is slotsOf for a key that the agent can change: one of its .env file.
func fileSlots(env func(string) (string, bool), kind, role string) (slots, error) {
	s, err := slotsOf(kind, role)
	if err != nil {
		return slots{}, err
	}
	return s, notFromEnv(env, s)
}

func notFromEnv(env func(string) (string, bool), s slots) error {
	if env == nil {
		return nil
	}
	for _, name := range s.names() {
		if v, ok := env(name); ok && strings.TrimSpace(v) != "" {
			return conf.Errorf(conf.CodeImmutable, "%s is set in the environment of the agent, which it cannot change", name).
				WithHint("move the keys from the environment to the .env file (CONFIG_ENV_FILE); or rotate by hand: " +
					"set the new key in its place and the old one in the _OLD_ variables, on every server, and restart them one by one")
		}
	}
	return nil
}

func cannotRotate(path string, cause error) error {
	if pe, ok := errors.AsType[*fs.PathError](cause); ok {
		cause = pe.Err
	}
	return conf.Errorf(conf.CodeUsage, "a new key cannot be stored in %s: %w", orEnv(path), cause).
		WithHint("make the file and its directory writable for the agent; or rotate by hand: put the new key into it, the old one into the _OLD_ variables, and restart")
}

// Rotate makes m the key of its kind in envFile, durably, and keeps the one named
// keep as the old one. It returns the Set of the file as it is then. It is safe to
// call again.
func Rotate(env func(string) (string, bool), envFile string, m Material, keep string, opts Options) (Set, error) {
	opts = opts.withDefaults()
	s, err := fileSlots(env, m.Kind, opts.Role)
	if err != nil {
		return Set{}, err
	}
	return replace(env, envFile, opts, func(set Set, file map[string]string) (map[string]string, error) {
		main, old := set.IDs(m.Kind)
		if main == m.ID {
			return nil, nil
		}
		out := map[string]string{s.key: m.Value}
		if s.id != "" {
			out[s.id] = m.ID
		}
		if s.public != "" {
			private, err := m.PrivateOf()
			if err != nil {
				return nil, err
			}
			out[s.public] = encodePublic(private.Public().(ed25519.PublicKey))
		}
		if old == keep && old != "" {
			return out, nil // what is in main was never in use
		}
		out[s.oldKey] = file[s.key]
		if s.oldID != "" {
			out[s.oldID] = file[s.id]
		}
		if s.oldPublic != "" {
			out[s.oldPublic] = encodePublic(set.Public)
		}
		return out, nil
	})
}

// Drop removes the key before, when its id is old.
func Drop(env func(string) (string, bool), envFile, kind, old string, opts Options) (Set, error) {
	opts = opts.withDefaults()
	s, err := fileSlots(env, kind, opts.Role)
	if err != nil {
		return Set{}, err
	}
	return replace(env, envFile, opts, func(set Set, _ map[string]string) (map[string]string, error) {
		if _, is := set.IDs(kind); is != old || old == "" {
			return nil, nil
		}
		out := map[string]string{s.oldKey: ""}
		for _, n := range []string{s.oldID, s.oldPublic} {
			if n != "" {
				out[n] = ""
			}
		}
		return out, nil
	})
}

// Undo puts the key before back into its place, when the one after it, new, was
// given up.
func Undo(env func(string) (string, bool), envFile, kind, was string, opts Options) (Set, error) {
	opts = opts.withDefaults()
	s, err := fileSlots(env, kind, opts.Role)
	if err != nil {
		return Set{}, err
	}
	return replace(env, envFile, opts, func(set Set, file map[string]string) (map[string]string, error) {
		if main, old := set.IDs(kind); main != was || old == "" {
			return nil, nil
		}
		out := map[string]string{s.key: file[s.oldKey], s.oldKey: ""}
		for of, old := range map[string]string{s.id: s.oldID, s.public: s.oldPublic} {
			if of != "" {
				out[of], out[old] = file[old], ""
			}
		}
		if s.public != "" {
			out[s.public] = encodePublic(set.OldPublic)
		}
		return out, nil
	})
}

// loadOld reads the keys of before.
func (s *Set) loadOld(src source, role string) (err error) {
	one := func(keyName, idName, main string) (key []byte, id string, err error) {
		var missing []string
		if key, id, err = keyWithID(src, keyName, idName, &missing); err != nil || key == nil {
			return nil, "", err
		}
		if id == "" {
			return nil, "", conf.Errorf(conf.CodeInvalid, "%s is set, but %s is not", keyName, idName).
				WithHint("set the id that the old key had")
		}
		if id == main {
			return nil, "", conf.Errorf(conf.CodeInvalid, "%s is the id of the key that replaces it, too", idName).
				WithHint("give the new key a new id: `uuidgen` makes one")
		}
		return key, id, nil
	}
	if s.OldHMAC, s.OldHMACID, err = one(EnvHMACOldKey, EnvHMACOldID, s.HMACID); err != nil {
		return err
	}
	if role == conf.MemberSidecar {
		if s.OldServiceKey, s.OldServiceKeyID, err = one(EnvServiceOldKey, EnvServiceOldID, s.ServiceKeyID); err != nil {
			return err
		}
		if text, where := src.get(EnvPublicOldKey); text != "" {
			s.OldPublic, err = publicKey(EnvPublicOldKey, text, where)
		}
		return err
	}
	if s.OldMaster, s.OldMasterID, err = one(EnvMasterOldKey, EnvMasterOldID, s.MasterID); err != nil {
		return err
	}
	var missing []string
	s.OldPrivate, s.OldPublic, err = keyPair(src, EnvPrivateOldKey, EnvPublicOldKey, &missing)
	return err
}

// Reseal seals a secret of the database under another master key of the set.
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

// HandOn is the key that is derived for a service of the master key with the id next,
// for a sidecar that holds the one of the master key have: it is sealed under that, so
// that nobody else can make use of it.
func (s Set) HandOn(service, have, next string) (string, error) {
	old, err := s.SecretKey(service, have)
	if err != nil {
		return "", err
	}
	key, err := s.SecretKey(service, next)
	if err != nil {
		return "", err
	}
	return seal.SealSecret(old, handID(service, have, next), key)
}

// Receive opens what HandOn sealed for this sidecar.
func (s Set) Receive(service, next, sealed string) (Material, error) {
	m := Material{Kind: conf.KeyMaster, ID: next}
	key, err := seal.OpenSecret(s.ServiceKey, handID(service, s.ServiceKeyID, next), sealed)
	m.Value = encode(key)
	return m, err
}

func handID(service, have, next string) seal.SecretID {
	return seal.SecretID{Epoch: "handed on", Service: service, Key: next, KeyID: have}
}

// Granted is what is derived of the master key id for a sidecar's own service, as a
// server gives it.
func Granted(id, value string) (Material, error) {
	key, err := base64.StdEncoding.Strict().DecodeString(value)
	if err != nil || len(key) != keySize {
		return Material{}, conf.Errorf(conf.CodeMalformed, "the received key of the service is not one")
	}
	return Material{Kind: conf.KeyMaster, ID: id, Value: value}, nil
}
