package seal

import (
	"crypto/ed25519"
	"encoding/base64"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// ProveKey is what the owner of a signing key says of the key that follows it: who
// trusts the old one may trust the new one. It is base64.
func ProveKey(old ed25519.PrivateKey, next ed25519.PublicKey) string {
	return base64.StdEncoding.EncodeToString(ed25519.Sign(old, keyStatement(next)))
}

// CheckKeyProof says whether the owner of old proved next.
func CheckKeyProof(old, next ed25519.PublicKey, proof string) bool {
	sig, ok := decodeSignature(proof)
	return ok && len(old) == ed25519.PublicKeySize && ed25519.Verify(old, keyStatement(next), sig)
}

// keyStatement begins like no signed update, which begins with its format's number.
func keyStatement(next ed25519.PublicKey) []byte {
	return append([]byte("holdfast next signing key v1|"), next...)
}

// EncodePublic is the base64 of the 32 bytes of a public key.
func EncodePublic(pub ed25519.PublicKey) string { return base64.StdEncoding.EncodeToString(pub) }

// DecodePublic reads what EncodePublic wrote.
func DecodePublic(text string) (ed25519.PublicKey, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, conf.Errorf(conf.CodeCorrupt, "not the base64 of a public key")
	}
	return raw, nil
}
