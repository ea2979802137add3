package conf

import "slices"

// Kinds of keys of a cluster.
const (
	KeyMaster  = "master"  // AES-256, for the secrets in the database
	KeyHMAC    = "hmac"    // for the last-known-good files
	KeySigning = "signing" // Ed25519, for every version
	KeyCA      = "ca"      // for the certificates of the members
)

// KeyKinds returns the kinds of keys.
func KeyKinds() []string { return []string{KeyMaster, KeyHMAC, KeySigning, KeyCA} }

// CheckKeyKind checks the kind of a key.
func CheckKeyKind(s string) error {
	if slices.Contains(KeyKinds(), s) {
		return nil
	}
	return Errorf(CodeUsage, "there is no key of the kind %q", Clip(s)).WithHint("use master, hmac, signing or ca")
}

// States of a key.
const (
	KeyAnnounced = "announced" // distributed to the members, not active yet
	KeyActive    = "active"    // signs or seals
	KeyOld       = "old"       // still accepted, until NotAfter
	KeyExpired   = "expired"   // no longer accepted
	KeyWithdrawn = "withdrawn" // announced, and discarded before it was active
)

// Key is one row of the keyring. It contains nothing secret. Times have FormatTime's
// form.
type Key struct {
	Kind        string `json:"kind"`
	ID          string `json:"key_id"`
	Public      string `json:"public,omitempty"` // signing: base64 of the 32 bytes; ca: base64 of the certificate
	AnnouncedAt string `json:"announced_at"`
	NotBefore   string `json:"not_before"` // when it became active, "" before that
	NotAfter    string `json:"not_after"`  // until when it is accepted, "" for no end
	CreatedBy   string `json:"created_by"`
	Proof       string `json:"proof,omitempty"` // base64 of a signature by the key before it
	Hold        bool   `json:"hold,omitempty"`  // announced, and activated only when an operator rotates it
}

// State returns the state of k at that time.
func (k Key) State(at string) string {
	switch {
	case k.NotBefore == "" && k.NotAfter == "":
		return KeyAnnounced
	case k.NotBefore == "":
		return KeyWithdrawn
	case k.NotAfter == "":
		return KeyActive
	case at <= k.NotAfter:
		return KeyOld
	}
	return KeyExpired
}

// Keyring is the list of the cluster's keys, oldest first.
type Keyring []Key

// Find returns the key with that id, nil for none.
func (r Keyring) Find(kind, id string) *Key {
	return r.first(kind, func(k *Key) bool { return k.ID == id })
}

// Active returns the active key, nil for none.
func (r Keyring) Active(kind string) *Key {
	return r.first(kind, func(k *Key) bool { return k.NotBefore != "" && k.NotAfter == "" })
}

// Next returns the announced key, nil for none.
func (r Keyring) Next(kind string) *Key {
	return r.first(kind, func(k *Key) bool { return k.NotBefore == "" && k.NotAfter == "" })
}

// Old returns the key that is old at that time, nil for none.
func (r Keyring) Old(kind, at string) *Key {
	return r.first(kind, func(k *Key) bool { return k.State(at) == KeyOld })
}

func (r Keyring) first(kind string, match func(*Key) bool) *Key {
	for i := range r {
		if r[i].Kind == kind && match(&r[i]) {
			return &r[i]
		}
	}
	return nil
}
