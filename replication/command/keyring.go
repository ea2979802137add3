package command

import "github.com/holdfast-config/holdfast/replication/conf"

// Keyring tells of keys by their names: announced to the members, put to use,
// ended; all of it or nothing, in this order. It never holds a secret. Applying one
// that was applied before changes nothing.
type Keyring struct {
	At       string        `json:"at"` // conf.FormatTime's form
	By       string        `json:"by,omitempty"`
	Announce []NewKey      `json:"announce,omitempty"`
	Activate []KeyTurn     `json:"activate,omitempty"`
	End      []KeyEnd      `json:"end,omitempty"`
	Audit    []conf.Access `json:"audit,omitempty"`
}

// NewKey is a key that the members are to get.
type NewKey struct {
	Kind   string `json:"kind"` // conf.KeyMaster, ...
	ID     string `json:"key_id"`
	Public string `json:"public,omitempty"` // base64
	Proof  string `json:"proof,omitempty"`  // base64 of a signature of the key in use
	Hold   bool   `json:"hold,omitempty"`   // not to be put to use before it is announced again without
}

// KeyTurn puts an announced key to use. The one before it is taken until OldUntil.
type KeyTurn struct {
	Kind     string `json:"kind"`
	ID       string `json:"key_id"`
	OldUntil string `json:"old_until,omitempty"` // conf.FormatTime's form
}

// KeyEnd ends a key that is not in use: one that was announced is withdrawn, one of
// before is taken until NotAfter.
type KeyEnd struct {
	Kind     string `json:"kind"`
	ID       string `json:"key_id"`
	NotAfter string `json:"not_after"` // conf.FormatTime's form
}

// Kind is KindKeyring.
func (*Keyring) Kind() Kind { return KindKeyring }

func checkKeyring(c *Keyring) error {
	if err := checkTime("at", c.At); err != nil {
		return err
	}
	if err := text("keyring", c.By); err != nil {
		return err
	}
	for _, k := range c.Announce {
		if err := checkKeyName(k.Kind, k.ID); err != nil {
			return err
		}
		if err := text("key "+k.ID, k.Public, k.Proof); err != nil {
			return err
		}
	}
	for _, k := range c.Activate {
		if err := checkKeyName(k.Kind, k.ID); err != nil {
			return err
		}
		if k.OldUntil != "" {
			if err := checkTime("old_until", k.OldUntil); err != nil {
				return err
			}
		}
	}
	for _, k := range c.End {
		if err := checkKeyName(k.Kind, k.ID); err != nil {
			return err
		}
		if err := checkTime("not_after", k.NotAfter); err != nil {
			return err
		}
	}
	return checkAccess(c.Audit)
}

// checkKeyName takes a UUID and hex digits, of which key ids are made.
func checkKeyName(kind, id string) error {
	if err := conf.CheckKeyKind(kind); err != nil {
		return err
	}
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && c != '-' {
			return conf.Errorf(conf.CodeInternal, "%q is not the id of a key", id)
		}
	}
	if id == "" || len(id) > 64 {
		return conf.Errorf(conf.CodeInternal, "an id of %d bytes names no key", len(id))
	}
	return nil
}
