package seal

import (
	"crypto/ed25519"
	"encoding/base64"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// ProveKey returns the key proof of next: the base64 of a signature by the old key,
// for receivers that trust the old one.
func ProveKey(old ed25519.PrivateKey, next ed25519.PublicKey) string {
	return base64.StdEncoding.EncodeToString(ed25519.Sign(old, keyStatement(next)))
}

// CheckKeyProof reports whether proof is a proof of next by old.
func CheckKeyProof(old, next ed25519.PublicKey, proof string) bool {
	sig, ok := decodeSignature(proof)
	return ok && len(old) == ed25519.PublicKeySize && ed25519.Verify(old, keyStatement(next), sig)
}

// keyStatement differs from any update, whose signed bytes begin with a digit.
func keyStatement(next ed25519.PublicKey) []byte {
	return append([]byte("holdfast next signing key v1|"), next...)
}

// EncodePublic returns the base64 of the 32 bytes of a public key.
func EncodePublic(pub ed25519.PublicKey) string { return base64.StdEncoding.EncodeToString(pub) }

// DecodePublic decodes the text of EncodePublic.
func DecodePublic(text string) (ed25519.PublicKey, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, conf.Errorf(conf.CodeCorrupt, "not the base64 of a public key")
	}
	return raw, nil
}
