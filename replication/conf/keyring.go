package conf

// Kinds of keys that a cluster has and can rotate.
const (
	KeyMaster  = "master"  // AES-256: seals the secrets of the database
	KeyHMAC    = "hmac"    // of the last-known-good files
	KeySigning = "signing" // Ed25519: signs every version
	KeyCA      = "ca"      // of the certificates between the members
)

// KeyKinds lists them.
func KeyKinds() []string { return []string{KeyMaster, KeyHMAC, KeySigning, KeyCA} }

// CheckKeyKind says whether s is one of the kinds.
func CheckKeyKind(s string) error {
	for _, k := range KeyKinds() {
		if s == k {
			return nil
		}
	}
	return Errorf(CodeUsage, "there is no key of the kind %q", clip(s)).WithHint("use master, hmac, signing or ca")
}

// States of a key.
const (
	KeyAnnounced = "announced" // handed to the members, not in use yet
	KeyActive    = "active"    // in use
	KeyOld       = "old"       // what it sealed or signed is still taken, until NotAfter
	KeyExpired   = "expired"   // and no more
	KeyWithdrawn = "withdrawn" // announced, and given up before it was in use
)

// Key is one row of the keyring. It holds nothing secret. All times have
// FormatTime's form.
type Key struct {
	Kind        string `json:"kind"`
	ID          string `json:"key_id"`
	Public      string `json:"public,omitempty"` // signing: base64 of the 32 bytes; ca: base64 of the certificate
	AnnouncedAt string `json:"announced_at"`
	NotBefore   string `json:"not_before"` // since when it is in use, "" while it is not
	NotAfter    string `json:"not_after"`  // until when it is taken, "" without an end
	CreatedBy   string `json:"created_by"`
	Proof       string `json:"proof,omitempty"` // base64 of a signature of the key before it
	Hold        bool   `json:"hold,omitempty"`  // announced, and to be used when the operator says so
}

// State is what k is at that time.
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

// Keyring is what the cluster knows of its keys, oldest first.
type Keyring []Key

// Find is the key with that id, nil for none.
func (r Keyring) Find(kind, id string) *Key {
	for i := range r {
		if r[i].Kind == kind && r[i].ID == id {
			return &r[i]
		}
	}
	return nil
}

// Active is the key in use, nil when the cluster has none yet.
func (r Keyring) Active(kind string) *Key {
	for i := range r {
		if r[i].Kind == kind && r[i].NotBefore != "" && r[i].NotAfter == "" {
			return &r[i]
		}
	}
	return nil
}

// Next is the key that was announced and is not in use yet, nil for none.
func (r Keyring) Next(kind string) *Key {
	for i := range r {
		if r[i].Kind == kind && r[i].NotBefore == "" && r[i].NotAfter == "" {
			return &r[i]
		}
	}
	return nil
}

// Old is the key that was in use before and is still taken at that time, nil for none.
func (r Keyring) Old(kind, at string) *Key {
	for i := range r {
		if r[i].Kind == kind && r[i].State(at) == KeyOld {
			return &r[i]
		}
	}
	return nil
}
