package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
)

// NewMAC returns a hash for MAC of a stream: the hex of its Sum is the MAC.
func NewMAC(key []byte) hash.Hash { return hmac.New(sha256.New, key) }

// MAC returns the lower-case hex HMAC-SHA256 of data.
func MAC(key, data []byte) string {
	h := NewMAC(key)
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}

// CheckMAC reports, in constant time, whether hexMAC is MAC(key, data). It accepts
// lower-case digits only, and no empty key.
func CheckMAC(key, data []byte, hexMAC string) bool {
	return len(key) > 0 && hmac.Equal([]byte(MAC(key, data)), []byte(hexMAC))
}
