package command

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Reseal replaces sealed values by the same values under another key, which makes
// no new version. An item whose secret is not any more what it was made from is
// left out, and the rest stands: whoever set it meanwhile used the newest key.
type Reseal struct {
	Epoch string        `json:"epoch"`
	At    string        `json:"at"` // conf.FormatTime's form
	By    string        `json:"by,omitempty"`
	Items []ResealItem  `json:"items"`
	Audit []conf.Access `json:"audit,omitempty"`
}

// ResealItem is one secret, sealed anew for the epoch of its record.
type ResealItem struct {
	Service        string `json:"service"`
	Key            string `json:"key"`
	PrevDigest     string `json:"prev_digest"` // SealedDigest of what it replaces
	EncryptedValue string `json:"encrypted_value"`
	KeyID          string `json:"key_id"`
}

// SealedDigest names a sealed value: the lower-case hex SHA-256 of its text.
func SealedDigest(encryptedValue string) string {
	sum := sha256.Sum256([]byte(encryptedValue))
	return hex.EncodeToString(sum[:])
}

// Kind is KindReseal.
func (*Reseal) Kind() Kind { return KindReseal }

func checkReseal(r *Reseal) error {
	if err := checkTime("at", r.At); err != nil {
		return err
	}
	if err := text("reseal", r.Epoch, r.By); err != nil {
		return err
	}
	if len(r.Items) == 0 {
		return conf.Errorf(conf.CodeInternal, "encode a reseal: it has no items")
	}
	for _, i := range r.Items {
		if err := checkSecretName(i.Service, i.Key); err != nil {
			return err
		}
		if err := checkHash("digest of the sealed "+i.Key, i.PrevDigest); err != nil {
			return err
		}
		if err := checkSealedValue(i.Key, i.EncryptedValue, i.KeyID); err != nil {
			return err
		}
	}
	return checkAccess(r.Audit)
}

func checkSecrets(secrets []Secret) error {
	for _, s := range secrets {
		if err := checkSecretName(s.Service, s.Key); err != nil {
			return err
		}
		if s.Deleted {
			if s != (Secret{Service: s.Service, Key: s.Key, Deleted: true}) {
				return conf.Errorf(conf.CodeInternal, "encode the secret %s: a removal has no value", s.Key)
			}
			continue
		}
		if err := checkSealedValue(s.Key, s.EncryptedValue, s.KeyID); err != nil {
			return err
		}
		for _, at := range []string{s.CreatedAt, s.UpdatedAt} {
			if at == "" {
				continue
			}
			if err := checkTime("time of the secret "+s.Key, at); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkSecretName(service, key string) error {
	if err := conf.CheckService(service); err != nil {
		return err
	}
	return conf.CheckKey(key)
}

// base64Only are the bytes of a sealed value. The last guard against a value in
// clear: nothing but base64 ever stands in its place.
const base64Only = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="

// minSealed is the length of a nonce and a tag in base64.
const minSealed = 40

func checkSealedValue(key, value, keyID string) error {
	bad := func(c byte) bool { return !slices.Contains([]byte(base64Only), c) }
	if len(value) < minSealed || len(value)%4 != 0 || slices.ContainsFunc([]byte(value), bad) {
		return conf.Errorf(conf.CodeInternal, "encode the secret %s: its value is not sealed", key)
	}
	if keyID == "" {
		return conf.Errorf(conf.CodeInternal, "encode the secret %s: no key id", key)
	}
	return text("secret "+key, keyID)
}
