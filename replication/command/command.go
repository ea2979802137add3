package command

import (
	"cmp"
	"encoding/json"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Kind is the second byte of an entry. Values are never reused.
type Kind byte

// The kinds of this build.
const (
	KindGenesis Kind = 1
	KindEdit    Kind = 2
	KindAudit   Kind = 3
	KindCluster Kind = 4
	KindDigest  Kind = 5
	KindReseal  Kind = 7
	KindKeyring Kind = 9

	KindAPITokens Kind = 8
	KindReissue   Kind = 6
	KindPrune     Kind = 10
	KindRollout   Kind = 11
)

func (k Kind) String() string {
	switch k {
	case KindGenesis:
		return "genesis"
	case KindEdit:
		return "edit"
	case KindAudit:
		return "audit"
	case KindCluster:
		return "cluster"
	case KindDigest:
		return "digest"
	case KindReseal:
		return "reseal"
	case KindKeyring:
		return "keyring"
	case KindPrune:
		return "prune"
	case KindAPITokens:
		return "api tokens"
	case KindReissue:
		return "reissue"
	case KindRollout:
		return "rollout"
	default:
		return "unknown"
	}
}

// Command is one of *Genesis, *Edit, *Audit, *Cluster, *Digest, *Reseal,
// *APITokens, *Keyring, *Reissue, *Prune and *Rollout.
type Command interface {
	Kind() Kind
}

// Genesis starts an epoch. A store with services rejects it unless it names the
// store's epoch, or keeps the services.
type Genesis struct {
	Epoch         string `json:"epoch"`
	At            string `json:"at"` // conf.FormatTime's form
	NodeID        string `json:"node_id,omitempty"`
	Reason        string `json:"reason,omitempty"`
	SchemaVersion int    `json:"schema_version,omitempty"` // version to start from, 0 = 1
	Keep          bool   `json:"keep,omitempty"`           // the services stay, and are reissued next
	// Signed is the epoch change for clients of the previous epoch; nil for none.
	Signed *conf.EpochChange `json:"signed,omitempty"`
}

// Actions of an Edit, as config_history stores them.
const (
	ActionPut             = "put"
	ActionPatch           = "patch"
	ActionDelete          = "delete"
	ActionRestore         = "restore"
	ActionSchema          = "schema"
	ActionProfileSave     = "profile-save"
	ActionProfileActivate = "profile-activate"
	ActionProfileDelete   = "profile-delete"
	ActionRebuild         = "rebuild"
	ActionSecretSet       = "secret-set"    // also of the row of a secret that another edit set
	ActionSecretDelete    = "secret-delete" // also of the row of a secret that another edit removed

	ActionRollout         = "rollout"          // a Rollout promoted its candidate
	ActionRolloutRollback = "rollout-rollback" // a Rollout went on to its revert
)

// Edit changes documents, schemas and profiles: all of it or nothing. ID is the
// request id: an Edit whose ID was applied before returns its earlier result.
type Edit struct {
	ID             string        `json:"id,omitempty"`
	Epoch          string        `json:"epoch"`
	At             string        `json:"at"` // conf.FormatTime's form
	By             string        `json:"by,omitempty"`
	Reason         string        `json:"reason,omitempty"`
	Action         string        `json:"action"`
	Updates        []Update      `json:"updates,omitempty"`
	Secrets        []Secret      `json:"secrets,omitempty"`
	Schemas        []Schema      `json:"schemas,omitempty"`
	Profiles       []Profile     `json:"profiles,omitempty"`
	ProfileDeletes []string      `json:"profile_deletes,omitempty"`
	Audit          []conf.Access `json:"audit,omitempty"`
	// Replace ends the rollouts of the services of Updates; else one that runs rejects the Edit.
	Replace bool `json:"replace,omitempty"`
}

// Update is one service's new version. Prev is the version that it replaces (0 for
// none, the tombstone's version after a delete); Version is one above the highest that was
// given out or reserved: Prev + 1 where no rollout has reserved any.
type Update struct {
	Service   string          `json:"service"`
	Prev      uint64          `json:"prev"`
	Version   uint64          `json:"version"`
	Values    json.RawMessage `json:"values,omitempty"` // stored values, RFC 8785
	Config    json.RawMessage `json:"config,omitempty"` // effective document, RFC 8785
	Checksum  string          `json:"checksum"`
	IssuedAt  string          `json:"issued_at"`
	Signature string          `json:"signature"`
	KeyID     string          `json:"key_id"`
	Deleted   bool            `json:"deleted,omitempty"`
	UpdatedAt string          `json:"updated_at,omitempty"` // empty: the Edit's At
	UpdatedBy string          `json:"updated_by,omitempty"` // empty: the Edit's By

	VersionSignature string `json:"version_signature,omitempty"` // by the same key; see featureVersionSignature
}

// Secret sets or removes one secret of a service, which must have an Update in the
// same Edit. It is sealed for the Edit's epoch.
type Secret struct {
	Service        string `json:"service"`
	Key            string `json:"key"`
	EncryptedValue string `json:"encrypted_value,omitempty"`
	KeyID          string `json:"key_id,omitempty"`
	Deleted        bool   `json:"deleted,omitempty"`
	CreatedAt      string `json:"created_at,omitempty"` // empty: that of the replaced secret, or the Edit's At
	UpdatedAt      string `json:"updated_at,omitempty"` // empty: the Edit's At
}

// Schema is a service's new JSON Schema, in RFC 8785 form.
type Schema struct {
	Service string          `json:"service"`
	Schema  json.RawMessage `json:"schema"`
}

// Profile creates or replaces the profile of that name.
type Profile struct {
	Name        string                     `json:"name"`
	Description string                     `json:"description,omitempty"`
	Services    map[string]json.RawMessage `json:"services,omitempty"`
}

// Audit adds rows to the access log. Source and Seq make it safe to repeat: it adds
// nothing when Seq is not above the last applied one of its Source.
type Audit struct {
	Rows   []conf.Access `json:"rows"`
	Source string        `json:"source,omitempty"` // queue id of one agent; empty: never repeated
	Seq    uint64        `json:"seq,omitempty"`    // from 1
}

// Prune removes rows that are older than their retention: at most Limit rows of each
// log, the oldest first. The times come from the clock of the leader.
type Prune struct {
	At      string `json:"at"`                // conf.FormatTime's form
	Access  string `json:"access,omitempty"`  // rows of access_log before this time; empty: none
	History string `json:"history,omitempty"` // rows of config_history before this time; empty: none
	Limit   int    `json:"limit"`
}

// maxPrune is the highest Limit of a Prune.
const maxPrune = 10_000

// Kind is KindPrune.
func (*Prune) Kind() Kind { return KindPrune }

func checkPrune(c *Prune) error {
	if c.Limit < 1 || c.Limit > maxPrune {
		return conf.Errorf(conf.CodeInternal, "prune: the limit %d is not from 1 to %d", c.Limit, maxPrune)
	}
	return cmp.Or(checkTime("at", c.At), checkOptionalTime("access", c.Access), checkOptionalTime("history", c.History))
}

// Digest is the state digest of its proposer after the entry with that index. It
// changes nothing: each node compares it with its own.
type Digest struct {
	At     string `json:"at"` // conf.FormatTime's form
	Index  uint64 `json:"index"`
	Digest string `json:"digest"` // hex
}

// Kind is KindDigest.
func (*Digest) Kind() Kind { return KindDigest }

// Kind is KindGenesis.
func (*Genesis) Kind() Kind { return KindGenesis }

// Kind is KindEdit.
func (*Edit) Kind() Kind { return KindEdit }

// Kind is KindAudit.
func (*Audit) Kind() Kind { return KindAudit }

// Result is the result of applying one command. It is the same on every node.
type Result struct {
	Index     uint64            // log index of the entry that the result belongs to
	Versions  map[string]uint64 // service -> version that the Edit made
	Err       *conf.Error       // a rejection, such as CodeConflict with Current; nothing was changed
	Duplicate bool              // the entry, or an Edit with this ID, was applied before
}
