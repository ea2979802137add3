package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	keyBytes   = 32
	nonceBytes = 12
	tagBytes   = 16

	// infoSecret tells these derived keys from whatever else is ever derived from
	// the same master key.
	infoSecret = "holdfast secret v1"
)

// SecretID says which secret a ciphertext is. It opens under no other: not in
// the place of another secret, of another service, or of another epoch.
type SecretID struct {
	Epoch   string // of the record that the secret belongs to
	Service string
	Key     string
	KeyID   string // of the master key
}

// Derive makes the key that seals the secrets of one service out of the master
// key with that id (HKDF-SHA256, no salt: the master key is uniform). Who holds
// it can open and seal what belongs to that service, and learns nothing of the
// master key or of another service's key.
func Derive(master []byte, service, keyID string) ([]byte, error) {
	if len(master) != keyBytes {
		return nil, conf.Errorf(conf.CodeInternal, "a master key has %d bytes, not %d", keyBytes, len(master))
	}
	key, err := hkdf.Key(sha256.New, master, nil, string(prefixed(infoSecret, service, keyID)), keyBytes)
	if err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "derive the key of %s: %w", service, err)
	}
	return key, nil
}

// SealSecret encrypts plain under a derived key (AES-256-GCM, random nonce). It
// gives the text that encrypted_value holds: base64 of nonce and ciphertext.
func SealSecret(derived []byte, id SecretID, plain []byte) (string, error) {
	nonce := make([]byte, nonceBytes)
	_, _ = rand.Read(nonce) // never fails
	return sealSecret(derived, id, nonce, plain)
}

func sealSecret(derived []byte, id SecretID, nonce, plain []byte) (string, error) {
	gcm, err := newGCM(derived)
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(gcm.Seal(nonce, nonce, plain, id.bound())), nil
}

// OpenSecret decrypts what SealSecret made for the same id under the same key;
// CodeCorrupt for anything else, without a word on why.
func OpenSecret(derived []byte, id SecretID, encrypted string) ([]byte, error) {
	gcm, err := newGCM(derived)
	if err != nil {
		return nil, err
	}
	raw := unbase64(encrypted)
	if raw == nil {
		return nil, unopened(id)
	}
	plain, err := gcm.Open(nil, raw[:nonceBytes], raw[nonceBytes:], id.bound())
	if err != nil {
		return nil, unopened(id)
	}
	return plain, nil
}

// CheckSealed says whether encrypted can be the work of SealSecret, for whoever
// has no key to open it.
func CheckSealed(encrypted string) error {
	if unbase64(encrypted) == nil {
		return conf.Errorf(conf.CodeInvalid, "a sealed value is the base64 of at least %d bytes", nonceBytes+tagBytes)
	}
	return nil
}

// unbase64 reads the one spelling that SealSecret writes; nil for any other text.
func unbase64(encrypted string) []byte {
	raw, err := base64.StdEncoding.DecodeString(encrypted)
	if err != nil || len(raw) < nonceBytes+tagBytes || base64.StdEncoding.EncodeToString(raw) != encrypted {
		return nil
	}
	return raw
}

func unopened(id SecretID) error {
	return conf.Errorf(conf.CodeCorrupt, "the secret %s of %s does not open with the key %s", id.Key, id.Service, id.KeyID).
		WithHint("set it again: holdfast secret set %s %s", id.Service, id.Key)
}

func newGCM(derived []byte) (cipher.AEAD, error) {
	if len(derived) != keyBytes {
		return nil, conf.Errorf(conf.CodeInternal, "a derived key has %d bytes, not %d", keyBytes, len(derived))
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "AES: %w", err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "GCM: %w", err)
	}
	return gcm, nil
}

// bound is the associated data.
func (id SecretID) bound() []byte { return prefixed(id.Epoch, id.Service, id.Key, id.KeyID) }

// prefixed joins parts with their lengths before them (32 bits, big endian), so
// that no two lists of parts give the same bytes.
func prefixed(parts ...string) []byte {
	var b []byte
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p))) //nolint:gosec // names are short
		b = append(b, p...)
	}
	return b
}
