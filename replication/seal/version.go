package seal

import (
	"crypto/ed25519"
	"encoding/base64"
	"strconv"
)

// SignVersion returns the signature of the statement that a service has the document with
// this checksum at this version of an epoch. It has no time: it is the same at each reissue.
func (s *Signer) SignVersion(service, epoch string, version uint64, checksum string) string {
	return base64.StdEncoding.EncodeToString(ed25519.Sign(s.private, versionStatement(service, epoch, version, checksum)))
}

// VerifyVersion reports whether pub signed the statement of SignVersion.
func VerifyVersion(pub ed25519.PublicKey, service, epoch string, version uint64, checksum, signature string) bool {
	sig, ok := decodeSignature(signature)
	return ok && len(pub) == ed25519.PublicKeySize && version > 0 && ed25519.Verify(pub, versionStatement(service, epoch, version, checksum), sig)
}

// versionStatement is holdfast-version|SERVICE|CONFIG_EPOCH|CONFIG_VERSION|CHECKSUM. The
// parts have no "|": Verify checks those of an update.
func versionStatement(service, epoch string, version uint64, checksum string) []byte {
	b := make([]byte, 0, len(service)+len(epoch)+len(checksum)+48)
	b = append(append(b, "holdfast-version|"...), service...)
	b = append(append(b, '|'), epoch...)
	b = strconv.AppendUint(append(b, '|'), version, 10)
	return append(append(b, '|'), checksum...)
}
