package command

import (
	"encoding/json"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Kind names a command in its second byte. Values are never used again for
// something else.
type Kind byte

// The kinds of this build.
const (
	KindGenesis Kind = 1
	KindEdit    Kind = 2
	KindAudit   Kind = 3
	KindCluster Kind = 4
	KindDigest  Kind = 5
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
	default:
		return "unknown"
	}
}

// Command is one of *Genesis, *Edit, *Audit, *Cluster and *Digest.
type Command interface {
	Kind() Kind
}

// Genesis starts an epoch. On a store that holds services it is refused unless
// it names the epoch that the store has, or keeps them.
type Genesis struct {
	Epoch         string `json:"epoch"`
	At            string `json:"at"` // conf.FormatTime's form
	NodeID        string `json:"node_id,omitempty"`
	Reason        string `json:"reason,omitempty"`
	SchemaVersion int    `json:"schema_version,omitempty"` // version to start from, 0 = 1
	Keep          bool   `json:"keep,omitempty"`           // the services stay, and are signed anew next
}

// Actions of an Edit, as config_history keeps them.
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
)

// Edit changes documents, schemas and profiles: all of it or nothing. ID is the
// request id: an Edit whose ID was applied before gives the result of then.
type Edit struct {
	ID             string        `json:"id,omitempty"`
	Epoch          string        `json:"epoch"`
	At             string        `json:"at"` // conf.FormatTime's form
	By             string        `json:"by,omitempty"`
	Reason         string        `json:"reason,omitempty"`
	Action         string        `json:"action"`
	Updates        []Update      `json:"updates,omitempty"`
	Schemas        []Schema      `json:"schemas,omitempty"`
	Profiles       []Profile     `json:"profiles,omitempty"`
	ProfileDeletes []string      `json:"profile_deletes,omitempty"`
	Audit          []conf.Access `json:"audit,omitempty"`
}

// Update is one service's new version. Prev is the version that it replaces (0
// for none, a tombstone's own version after a delete); Version is Prev + 1.
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
}

// Schema is a service's new JSON Schema, in RFC 8785 form.
type Schema struct {
	Service string          `json:"service"`
	Schema  json.RawMessage `json:"schema"`
}

// Profile is a named set of stored values, which replaces the one of that name.
type Profile struct {
	Name        string                     `json:"name"`
	Description string                     `json:"description,omitempty"`
	Services    map[string]json.RawMessage `json:"services,omitempty"`
}

// Audit adds rows to the access log.
type Audit struct {
	Rows []conf.Access `json:"rows"`
}

// Digest tells what the state was, at its proposer, when the entry with that
// index was applied. It changes nothing: each node compares it with its own.
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

// Result is what applying one command gave. It is the same on every node.
type Result struct {
	Index     uint64            // log index of the entry that the result belongs to
	Versions  map[string]uint64 // service -> version that the Edit made
	Err       *conf.Error       // a refusal, such as CodeConflict with Current; nothing was changed
	Duplicate bool              // the entry, or an Edit with this ID, was applied before
}
