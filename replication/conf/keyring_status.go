package conf

// KeysStatus is the keys of the cluster as one agent sees them. Nothing in it is
// secret.
type KeysStatus struct {
	Keys       []KeyInfo          `json:"keys"`
	Rotations  []KeyRotation      `json:"rotations"` // those that are not at their end
	Members    []KeyMember        `json:"members"`
	Encryption EncryptionMetadata `json:"encryption"`
}

// KeyInfo is a key of the keyring and what is made with it.
type KeyInfo struct {
	Kind        string `json:"kind"`
	ID          string `json:"key_id"`
	Public      string `json:"public,omitempty"`
	AnnouncedAt string `json:"announced_at"`
	NotBefore   string `json:"not_before"`
	NotAfter    string `json:"not_after"`
	CreatedBy   string `json:"created_by"`
	Proof       string `json:"proof,omitempty"`

	State      string `json:"state"`                // KeyAnnounced, ...
	Secrets    int    `json:"secrets"`              // master: sealed under it
	Signatures int    `json:"signatures,omitempty"` // signing: services signed with it
}

// Phases of a KeyRotation.
const (
	PhasePrepared = "prepared" // the members are getting the new key, which is not to be used yet
	PhaseHandover = "handover" // the members are getting the new key
	PhaseRenewal  = "renewal"  // it is in use; what the old one made is made anew
	PhaseGrace    = "grace"    // all is made anew; the old one is still taken
)

// KeyRotation is one that is not at its end.
type KeyRotation struct {
	Kind    string   `json:"kind"`
	KeyID   string   `json:"key_id"` // the new key
	OldID   string   `json:"old_key_id"`
	Phase   string   `json:"phase"`
	Done    int      `json:"done"`    // renewal: of secrets, signatures or certificates
	Total   int      `json:"total"`   //
	Waiting []string `json:"waiting"` // members that it waits for, each with the reason
	Until   string   `json:"until"`   // until when the old key is taken; "" when that is not known yet
}

// KeyMember is what one member holds.
type KeyMember struct {
	NodeID    string              `json:"node_id"`
	Role      string              `json:"role"`
	Reachable bool                `json:"reachable"`
	Holds     map[string]KeysHeld `json:"holds"` // by kind
}

// KeysHeld are the ids of the keys of one kind that a member has.
type KeysHeld struct {
	IDs []string `json:"key_ids"`
	Use string   `json:"use"`           // the one that it works with
	Err string   `json:"err,omitempty"` // why it does not get the one that it should have
}

// Has says whether id is among them.
func (h KeysHeld) Has(id string) bool {
	for _, k := range h.IDs {
		if k == id {
			return true
		}
	}
	return false
}

// EncryptionMetadata is the seed's model of that name.
type EncryptionMetadata struct {
	MasterKeyID            string  `json:"master_key_id"`
	HMACKeyID              string  `json:"hmac_key_id"`
	SignaturePublicKeyHash string  `json:"signature_public_key_hash"`
	RotationStatus         string  `json:"rotation_status"` // idle, in-progress, completed
	GraceWindowUntil       *string `json:"grace_window_until"`
}

// What a caller may ask for of a kind of key.
const (
	KeysPrepare = "prepare" // hand a new key out, and wait with its use until KeysRotate
	KeysRotate  = "rotate"  // begin a rotation; while one runs, tell of that
	KeysAbort   = "abort"   // give a key up that was announced and is not in use
	KeysRetire  = "retire"  // end the grace of the old key now
)
