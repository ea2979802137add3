package command

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Reseal replaces sealed values by the same values under another key, which makes
// no new version. An item changes nothing when its secret is no longer the one that
// PrevDigest names: a later write used the newest key.
type Reseal struct {
	Epoch string        `json:"epoch"`
	At    string        `json:"at"` // conf.FormatTime's form
	By    string        `json:"by,omitempty"`
	Items []ResealItem  `json:"items"`
	Audit []conf.Access `json:"audit,omitempty"`
}

// ResealItem is one secret, sealed again for the epoch of its record.
type ResealItem struct {
	Service        string `json:"service"`
	Key            string `json:"key"`
	PrevDigest     string `json:"prev_digest"` // SealedDigest of the replaced value
	EncryptedValue string `json:"encrypted_value"`
	KeyID          string `json:"key_id"`
}

// SealedDigest returns the lower-case hex SHA-256 of a sealed value.
func SealedDigest(encryptedValue string) string {
	sum := sha256.Sum256([]byte(encryptedValue))
	return hex.EncodeToString(sum[:])
}

// Kind is KindReseal.
func (*Reseal) Kind() Kind { return KindReseal }

func checkReseal(r *Reseal) error {
	if err := cmp.Or(checkTime("at", r.At), checkText("reseal", r.Epoch, r.By)); err != nil {
		return err
	}
	if len(r.Items) == 0 {
		return conf.Errorf(conf.CodeInternal, "encode a reseal: it has no items")
	}
	return cmp.Or(checkAll(r.Items, func(i ResealItem) error {
		return cmp.Or(checkSecretName(i.Service, i.Key), checkHash("digest of the sealed "+i.Key, i.PrevDigest),
			checkSealedValue(i.Key, i.EncryptedValue, i.KeyID))
	}), checkAccess(r.Audit))
}

func checkSecret(s Secret) error {
	if err := checkSecretName(s.Service, s.Key); err != nil {
		return err
	}
	if s.Deleted {
		if s != (Secret{Service: s.Service, Key: s.Key, Deleted: true}) {
			return conf.Errorf(conf.CodeInternal, "encode the secret %s: a removal has no value", s.Key)
		}
		return nil
	}
	what := "time of the secret " + s.Key
	return cmp.Or(checkSealedValue(s.Key, s.EncryptedValue, s.KeyID), checkOptionalTime(what, s.CreatedAt), checkOptionalTime(what, s.UpdatedAt))
}

func checkSecretName(service, key string) error {
	return cmp.Or(conf.CheckService(service), conf.CheckAnyKey(key))
}

// base64Only are the bytes of a sealed value. They are checked as the last guard
// against a value in clear.
const base64Only = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="

// minSealed is the length of a nonce and a tag in base64.
const minSealed = 40

func checkSealedValue(key, value, keyID string) error {
	if len(value) < minSealed || len(value)%4 != 0 || strings.Trim(value, base64Only) != "" {
		return conf.Errorf(conf.CodeInternal, "encode the secret %s: its value is not sealed", key)
	}
	if keyID == "" {
		return conf.Errorf(conf.CodeInternal, "encode the secret %s: no key id", key)
	}
	return checkText("secret "+key, keyID)
}
