package conf

import "slices"

// KeysStatus is the status of the cluster's keys, as one agent sees it. It contains
// nothing secret.
type KeysStatus struct {
	Keys       []KeyInfo          `json:"keys"`
	Rotations  []KeyRotation      `json:"rotations"` // those in progress
	Members    []MemberKeys       `json:"members"`
	Encryption EncryptionMetadata `json:"encryption"`
}

// KeyInfo is a key of the keyring and its use.
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
	PhasePrepared = "prepared" // as PhaseHandover, but the key is not activated yet
	PhaseHandover = "handover" // the members receive the new key
	PhaseRenewal  = "renewal"  // the new key is active; what the old one signed or sealed is renewed
	PhaseGrace    = "grace"    // all is renewed; the old key is still accepted
)

// KeyRotation is a rotation in progress.
type KeyRotation struct {
	Kind    string   `json:"kind"`
	KeyID   string   `json:"key_id"` // the new key
	OldID   string   `json:"old_key_id"`
	Phase   string   `json:"phase"`
	Done    int      `json:"done"`    // renewal: of secrets, signatures or certificates
	Total   int      `json:"total"`   //
	Waiting []string `json:"waiting"` // the members that it waits for, each with the reason
	Until   string   `json:"until"`   // until when the old key is accepted; "" when not known yet
}

// MemberKeys are the keys of one member.
type MemberKeys struct {
	NodeID    string              `json:"node_id"`
	Role      string              `json:"role"`
	Reachable bool                `json:"reachable"`
	Holds     map[string]KeysHeld `json:"holds"` // by kind
}

// KeysHeld are the key ids of one kind that a member has.
type KeysHeld struct {
	IDs []string `json:"key_ids"`
	Use string   `json:"use"`           // the one that it signs or seals with
	Err string   `json:"err,omitempty"` // why it cannot get the key that it should have
}

// Has reports whether the member has the key with that id.
func (h KeysHeld) Has(id string) bool { return slices.Contains(h.IDs, id) }

// EncryptionMetadata is the seed's model of that name.
type EncryptionMetadata struct {
	MasterKeyID            string  `json:"master_key_id"`
	HMACKeyID              string  `json:"hmac_key_id"`
	SignaturePublicKeyHash string  `json:"signature_public_key_hash"`
	RotationStatus         string  `json:"rotation_status"` // idle, in-progress, completed
	GraceWindowUntil       *string `json:"grace_window_until"`
}

// Requests for a kind of key.
const (
	KeysPrepare = "prepare" // distribute a new key, and activate it with KeysRotate
	KeysRotate  = "rotate"  // start a rotation, or return the one in progress
	KeysAbort   = "abort"   // withdraw an announced key
	KeysRetire  = "retire"  // end the grace period of the old key now
)
