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

	// infoSecret separates these keys from all others derived from a master key.
	infoSecret = "holdfast secret v1"
)

// SecretID identifies the secret of a ciphertext, which opens under no other: not as
// another secret, nor for another service or epoch.
type SecretID struct {
	Epoch   string // of the record that the secret belongs to
	Service string
	Key     string
	KeyID   string // of the master key
}

// Derive returns the key for the secrets of one service, derived from the master key
// with that id (HKDF-SHA256, no salt: the master key is uniform). Its holder can open
// and seal the secrets of that service, and learns nothing about the master key or
// the keys of other services.
func Derive(master []byte, service, keyID string) ([]byte, error) {
	if len(master) != keyBytes {
		return nil, conf.Errorf(conf.CodeInternal, "a master key has %d bytes, not %d", keyBytes, len(master))
	}
	key, err := hkdf.Key(sha256.New, master, nil, string(lengthPrefixed(infoSecret, service, keyID)), keyBytes)
	if err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "derive the key of %s: %w", service, err)
	}
	return key, nil
}

// SealSecret encrypts plain under a derived key (AES-256-GCM, random nonce). It
// returns the value of encrypted_value: base64 of nonce and ciphertext.
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
	return base64.StdEncoding.EncodeToString(gcm.Seal(nonce, nonce, plain, id.associatedData())), nil
}

// OpenSecret decrypts what SealSecret made for the same id under the same key. All
// other input gets the same CodeCorrupt error.
func OpenSecret(derived []byte, id SecretID, encrypted string) ([]byte, error) {
	gcm, err := newGCM(derived)
	if err != nil {
		return nil, err
	}
	raw := decodeSealed(encrypted)
	if raw == nil {
		return nil, openError(id)
	}
	plain, err := gcm.Open(nil, raw[:nonceBytes], raw[nonceBytes:], id.associatedData())
	if err != nil {
		return nil, openError(id)
	}
	return plain, nil
}

// decodeSealed decodes the one spelling that SealSecret writes; nil for any other.
func decodeSealed(encrypted string) []byte {
	raw, err := base64.StdEncoding.DecodeString(encrypted)
	if err != nil || len(raw) < nonceBytes+tagBytes || base64.StdEncoding.EncodeToString(raw) != encrypted {
		return nil
	}
	return raw
}

func openError(id SecretID) error {
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

func (id SecretID) associatedData() []byte {
	return lengthPrefixed(id.Epoch, id.Service, id.Key, id.KeyID)
}

// lengthPrefixed joins parts, each after its length (32 bits, big endian). No two
// lists of parts give the same bytes.
func lengthPrefixed(parts ...string) []byte {
	var b []byte
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p))) //nolint:gosec // names are short
		b = append(b, p...)
	}
	return b
}
