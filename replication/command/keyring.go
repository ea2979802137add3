package command

import (
	"cmp"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Keyring announces, activates and ends keys, which it names by their ids: all of it
// or nothing, in this order. It contains no key material except public keys. Applying
// it again changes nothing.
type Keyring struct {
	At       string          `json:"at"` // conf.FormatTime's form
	By       string          `json:"by,omitempty"`
	Announce []NewKey        `json:"announce,omitempty"`
	Activate []KeyActivation `json:"activate,omitempty"`
	End      []KeyExpiry     `json:"end,omitempty"`
	Audit    []conf.Access   `json:"audit,omitempty"`
}

// NewKey announces a key to the members.
type NewKey struct {
	Kind   string `json:"kind"` // conf.KeyMaster, ...
	ID     string `json:"key_id"`
	Public string `json:"public,omitempty"` // base64
	Proof  string `json:"proof,omitempty"`  // base64 of a signature by the active key
	Hold   bool   `json:"hold,omitempty"`   // not activated until it is announced again without Hold
}

// KeyActivation activates an announced key. The key before it is accepted until OldUntil.
type KeyActivation struct {
	Kind     string `json:"kind"`
	ID       string `json:"key_id"`
	OldUntil string `json:"old_until,omitempty"` // conf.FormatTime's form
}

// KeyExpiry ends a key that is not active: an announced key is withdrawn, an old one is
// accepted until NotAfter.
type KeyExpiry struct {
	Kind     string `json:"kind"`
	ID       string `json:"key_id"`
	NotAfter string `json:"not_after"` // conf.FormatTime's form
}

// Kind is KindKeyring.
func (*Keyring) Kind() Kind { return KindKeyring }

func checkKeyring(c *Keyring) error {
	return cmp.Or(
		checkTime("at", c.At),
		checkText("keyring", c.By),
		checkAll(c.Announce, func(k NewKey) error {
			return cmp.Or(checkKeyName(k.Kind, k.ID), checkText("key "+k.ID, k.Public, k.Proof))
		}),
		checkAll(c.Activate, func(k KeyActivation) error {
			return cmp.Or(checkKeyName(k.Kind, k.ID), checkOptionalTime("old_until", k.OldUntil))
		}),
		checkAll(c.End, func(k KeyExpiry) error {
			return cmp.Or(checkKeyName(k.Kind, k.ID), checkTime("not_after", k.NotAfter))
		}),
		checkAccess(c.Audit),
	)
}

// checkKeyName accepts UUIDs and hex digits as the id.
func checkKeyName(kind, id string) error {
	if err := conf.CheckKeyKind(kind); err != nil {
		return err
	}
	if strings.Trim(id, "0123456789abcdef-") != "" {
		return conf.Errorf(conf.CodeInternal, "%q is not the id of a key", id)
	}
	if id == "" || len(id) > 64 {
		return conf.Errorf(conf.CodeInternal, "an id of %d bytes names no key", len(id))
	}
	return nil
}
