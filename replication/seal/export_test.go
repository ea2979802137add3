package seal

import "github.com/holdfast-config/holdfast/replication/conf"

// SignedBytes returns the bytes that the signature of u covers.
func SignedBytes(u conf.Update) ([]byte, error) {
	canonical, err := canonicalConfig(u.Config)
	if err != nil {
		return nil, err
	}
	return joinSigned(u, canonical), checkParts(u)
}
