package conf

import "encoding/json"

// Complexity is the seed's ConfigComplexity.
type Complexity string

// Complexities of a field.
const (
	Simple   Complexity = "simple"
	Advanced Complexity = "advanced"
)

// Type is the seed's ConfigType. Arrays and free objects, which the seed does not have,
// are TypeString with their JSON text as the value.
type Type string

// Types of a field.
const (
	TypeString  Type = "string"
	TypeInteger Type = "integer"
	TypeFloat   Type = "float"
	TypeBoolean Type = "boolean"
	TypeEnum    Type = "enum"
	TypePath    Type = "path"
	TypeSecret  Type = "secret"
)

// Source is the seed's ConfigSource: the source of a value.
type Source string

// Sources of a value, strongest first.
const (
	SourceEnv      Source = "env"
	SourceDatabase Source = "database"
	SourceDefault  Source = "default"
)

// Field is the seed's ConfigFieldMetadata: the metadata of one property of a service's
// schema. Key is the dotted path in the service's document.
type Field struct {
	Key          string          `json:"key"`
	Service      string          `json:"service"`
	Type         Type            `json:"type"`
	Complexity   Complexity      `json:"complexity"`
	Description  string          `json:"description"`
	HelpText     string          `json:"help_text"`
	IsSecret     bool            `json:"is_secret"`
	SecretSource *Source         `json:"secret_source"`
	Min          *json.Number    `json:"validation_min"`
	Max          *json.Number    `json:"validation_max"`
	Pattern      *string         `json:"validation_pattern"`
	Allowed      []string        `json:"validation_allowed"`
	Env          string          `json:"env,omitempty"`     // x-env: the variable that it may come from
	Default      json.RawMessage `json:"default,omitempty"` // absent for a required field
	Required     bool            `json:"required,omitempty"`
	JSONTypes    []string        `json:"json_types,omitempty"` // types of the value, unless Type implies them
	Path         Path            `json:"path,omitempty"`       // names of the members, when one has a dot
}

// Record is the service record: all that is stored of a service at one version.
//
// Values are the stored values (RFC 8785). Config is the effective document without
// secrets (RFC 8785): the bytes that Checksum and Signature cover. Secrets are sealed
// for Epoch, sorted by key.
//
// A service that was never configured, and whose schema has required fields, has
// Version 0 and a nil Config. A deleted one has Deleted, Config {}, the version of its
// tombstone and no secrets.
type Record struct {
	Service   string          `json:"service"`
	Version   uint64          `json:"version"`
	Epoch     string          `json:"config_epoch"`
	Values    json.RawMessage `json:"values"`
	Config    json.RawMessage `json:"config"`
	Checksum  string          `json:"checksum"`
	IssuedAt  string          `json:"issued_at"`
	Signature string          `json:"signature"`
	KeyID     string          `json:"key_id"`
	UpdatedAt string          `json:"updated_at"`
	UpdatedBy string          `json:"updated_by"`
	Deleted   bool            `json:"deleted"`
	Index     uint64          `json:"index"`            // log index of this version
	Schema    json.RawMessage `json:"schema,omitempty"` // the service's JSON Schema, nil when it has none

	Secrets []SealedSecret `json:"secrets,omitempty"`

	VersionSignature string `json:"version_signature,omitempty"` // of Version and Checksum, by the same key

	Staged *Staged `json:"staged,omitempty"` // immutable, as all of a published record
}

// SealedSecret is one row of encrypted_secrets. Its times are those of the value: a
// reseal does not change them.
type SealedSecret struct {
	Key       string `json:"key"`
	Value     string `json:"encrypted_value"` // base64 of nonce and ciphertext
	KeyID     string `json:"key_id"`          // of the master key
	CreatedAt string `json:"created_at"`
	UpdatedAt string `json:"updated_at"`
}

// Masked replaces the value of a secret in responses. A written document with it leaves
// the secret unchanged.
const Masked = "********"

// Exists reports whether the service has a document to serve.
func (r *Record) Exists() bool { return r != nil && !r.Deleted && r.Config != nil }

// EpochChange is a signed statement that Epoch follows Previous: the store was rebuilt,
// recovered or restored. A client of the previous epoch accepts the new one by it, and
// never the previous one again.
type EpochChange struct {
	Previous  string `json:"old_epoch"`
	Epoch     string `json:"config_epoch"`
	At        string `json:"issued_at"` // FormatTime's form
	Signature string `json:"signature"` // base64 of Ed25519
	KeyID     string `json:"key_id"`
}

// ServiceConfig is the seed's model of that name; config_json holds it.
type ServiceConfig struct {
	Service   string          `json:"service"`
	Config    json.RawMessage `json:"config"`
	Version   uint64          `json:"version"`
	UpdatedAt string          `json:"updated_at"`
	Epoch     string          `json:"config_epoch"`
}

// Update is the seed's ConfigUpdatePayload: the signed update. Version is the format of
// the message, always 1.
type Update struct {
	Version   int             `json:"version"`
	Service   string          `json:"service"`
	Config    json.RawMessage `json:"config"`
	Checksum  string          `json:"checksum"`
	Epoch     string          `json:"config_epoch"`
	IssuedAt  string          `json:"issued_at"`
	Signature string          `json:"signature"`
}

// Update returns the signed update of r.
func (r *Record) Update() Update {
	return Update{
		Version: 1, Service: r.Service, Config: r.Config, Checksum: r.Checksum,
		Epoch: r.Epoch, IssuedAt: r.IssuedAt, Signature: r.Signature,
	}
}

// Item is the seed's ConfigItem: one key of one service, for search.
type Item struct {
	ID          *int64     `json:"id"`
	Service     string     `json:"service"`
	Key         string     `json:"key"`
	ValueJSON   string     `json:"value_json"`
	Type        Type       `json:"type"`
	Complexity  Complexity `json:"complexity"`
	Description string     `json:"description"`
	HelpText    string     `json:"help_text"`
	IsSecret    bool       `json:"is_secret"`
	UpdatedAt   string     `json:"updated_at"`
	UpdatedBy   *string    `json:"updated_by"`
}

// SearchRequest is the seed's ConfigSearchRequest, with a page added to it.
type SearchRequest struct {
	Query      string      `json:"query"`
	Service    *string     `json:"service_filter"`
	Complexity *Complexity `json:"complexity_filter"`
	Type       *Type       `json:"type_filter"`
	Limit      int         `json:"limit,omitempty"`  // 1 to 1000, default 100
	Offset     int         `json:"offset,omitempty"` // from 0
}

// SearchResponse is the seed's ConfigSearchResponse.
type SearchResponse = Page[Item]

// HistoryEntry is one row of config_history: one key, changed once.
type HistoryEntry struct {
	ID           int64           `json:"id"`
	Service      string          `json:"service"`
	Key          string          `json:"key"`
	OldValue     json.RawMessage `json:"old_value"` // nil when there was none
	NewValue     json.RawMessage `json:"new_value"` // null when the key was removed
	Version      uint64          `json:"version"`   // the service's new version
	Action       string          `json:"action"`    // the Edit's action
	ChangedAt    string          `json:"changed_at"`
	ChangedBy    string          `json:"changed_by"`
	ChangeReason string          `json:"change_reason"`
}

// HistoryFilter selects history; a zero field selects all.
type HistoryFilter struct {
	Service, Key, User string
	Since, Until       string // FormatTime's form
	Version            uint64 // rows of this version only, 0 = all
	Limit, Offset      int    // default 100, at most 1000
}

// Page is a page of results; Total counts all matches.
type Page[T any] struct {
	Results []T `json:"results"`
	Total   int `json:"total"`
}

// HistoryPage is a page of history, newest first.
type HistoryPage = Page[HistoryEntry]

// Profile is a named set of stored values of several services.
type Profile struct {
	Name        string                     `json:"name"`
	Description string                     `json:"description"`
	Services    map[string]json.RawMessage `json:"services"` // service -> stored values (RFC 8785)
	UpdatedAt   string                     `json:"updated_at"`
	UpdatedBy   string                     `json:"updated_by"`
}

// Access is one row of access_log.
type Access struct {
	ID        int64  `json:"id,omitempty"`
	UserID    string `json:"user_id"`
	Action    string `json:"action"` // read, write, reveal_secret, unauthorized
	Service   string `json:"service"`
	Key       string `json:"key"`
	Success   bool   `json:"success"`
	Reason    string `json:"reason"`
	Timestamp string `json:"timestamp"`
}

// AccessFilter selects rows of the access log; a zero field selects all.
type AccessFilter struct {
	User, Action, Service string
	Since, Until          string
	Limit, Offset         int
}

// AccessPage is a page of the access log, newest first.
type AccessPage = Page[Access]

// DatabaseStatus is the seed's enum of that name.
type DatabaseStatus string

// States of the database.
const (
	DatabaseHealthy        DatabaseStatus = "healthy"
	DatabaseLocked         DatabaseStatus = "locked"
	DatabaseCorrupted      DatabaseStatus = "corrupted"
	DatabaseSchemaMismatch DatabaseStatus = "schema-mismatch"
)

// Mode is the seed's operational_mode.
type Mode string

// Operational modes.
const (
	ModeNormal     Mode = "normal"
	ModeReadOnly   Mode = "read-only-fallback"
	ModeRebuilding Mode = "rebuilding"
)

// Health is the seed's ConfigHealthPayload.
type Health struct {
	OK               bool           `json:"ok"`
	DatabaseStatus   DatabaseStatus `json:"database_status"`
	OperationalMode  Mode           `json:"operational_mode"`
	ConfigEpoch      string         `json:"config_epoch"`
	SchemaVersion    int            `json:"schema_version"`
	LKGCacheValid    bool           `json:"lkg_cache_valid"`
	LitestreamStatus string         `json:"litestream_status"` // healthy, error, disabled
	LastBackup       *string        `json:"last_backup"`
	Event            *string        `json:"event"`
	Err              *string        `json:"err"`
}

// EpochFile is the seed's ConfigEpochMetadata, the content of health+epoch.json.
type EpochFile struct {
	ConfigEpoch   string  `json:"config_epoch"`
	SchemaVersion int     `json:"schema_version"`
	CreatedAt     string  `json:"created_at"`
	LastRebuild   *string `json:"last_rebuild"`
}

// SchemaInfo describes the schema of one service.
type SchemaInfo struct {
	Service   string          `json:"service"`
	Hash      string          `json:"hash"` // hex SHA-256 of the schema's RFC 8785 form
	UpdatedAt string          `json:"updated_at"`
	UpdatedBy string          `json:"updated_by"`
	Schema    json.RawMessage `json:"schema,omitempty"`
	Fields    []Field         `json:"fields,omitzero"` // nil in a list of schemas
}

// ServiceInfo is one row of the list of services.
type ServiceInfo struct {
	Service   string `json:"service"`
	Version   uint64 `json:"version"`
	UpdatedAt string `json:"updated_at"`
	UpdatedBy string `json:"updated_by"`
	Epoch     string `json:"config_epoch"`
	Checksum  string `json:"checksum"`
	HasSchema bool   `json:"has_schema"`
}

// ReadResponse is the seed's ConfigReadResponse.
type ReadResponse struct {
	Service  string          `json:"service"`
	Config   json.RawMessage `json:"config"`
	Metadata Metadata        `json:"metadata"`
}

// Metadata describes the document of a ReadResponse.
type Metadata struct {
	Version   uint64 `json:"version"`
	UpdatedAt string `json:"updated_at"`
	UpdatedBy string `json:"updated_by"`
	Epoch     string `json:"config_epoch"`
	Checksum  string `json:"checksum"`
	IssuedAt  string `json:"issued_at"`
	Signature string `json:"signature"`
	KeyID     string `json:"key_id"`

	VersionSignature string `json:"version_signature,omitempty"`

	// EnvKeys are the keys whose values the environment of the agent decides. Checksum and
	// signature are of the document without them. Only the local API has it.
	EnvKeys []string `json:"env_keys,omitempty"`

	// Channel is "candidate" and Rollout the rollout's id while the local API serves a
	// candidate; else both are empty.
	Channel string `json:"channel,omitempty"`
	Rollout string `json:"rollout,omitempty"`
}

// Metadata returns the metadata of r.
func (r *Record) Metadata() Metadata {
	return Metadata{
		Version: r.Version, UpdatedAt: r.UpdatedAt, UpdatedBy: r.UpdatedBy, Epoch: r.Epoch,
		Checksum: r.Checksum, IssuedAt: r.IssuedAt, Signature: r.Signature, KeyID: r.KeyID,
		VersionSignature: r.VersionSignature,
	}
}

// Role is the permission of an API token.
type Role string

// The roles. Write includes the others; report is for observers, and reads nothing.
const (
	RoleRead   Role = "config.read"
	RoleWrite  Role = "config.write"
	RoleReport Role = "config.report"
)

// Allows reports whether r includes want.
func (r Role) Allows(want Role) bool { return r == want || r == RoleWrite && CheckRole(want) == nil }

// Principal is an authenticated caller. Name may be logged and stored: it is never the
// token.
type Principal struct {
	Name      string `json:"name"`
	Role      Role   `json:"role"`
	TokenID   string `json:"token_id,omitempty"`   // of an API token in the log
	ExpiresAt string `json:"expires_at,omitempty"` // of that token
}

// Op is the operation of a Draft.
type Op string

// Operations on one service.
const (
	OpPut     Op = "put"     // replace the stored values with Document
	OpPatch   Op = "patch"   // RFC 7396 merge patch on the stored values
	OpDelete  Op = "delete"  // tombstone
	OpRestore Op = "restore" // the stored values of version Restore
	OpSchema  Op = "schema"  // only Schema; the values stay

	OpSecretSet    Op = "secret-set"    // set the secret Key to the value in Document, any JSON
	OpSecretDelete Op = "secret-delete" // delete the secret Key
)

// Draft is a requested change, before it is validated and signed.
type Draft struct {
	Service   string          `json:"service"`
	Op        Op              `json:"op"`
	Document  json.RawMessage `json:"document,omitempty"` // as received, not yet decoded
	Expect    *uint64         `json:"expect,omitempty"`   // precondition: the current version; nil = any
	Schema    json.RawMessage `json:"schema,omitempty"`   // OpPut, OpSchema: stored in the same change; nil = the present one
	Restore   uint64          `json:"restore,omitempty"`
	Key       string          `json:"key,omitempty"` // of the secret
	Author    string          `json:"author"`
	Reason    string          `json:"reason"`
	RequestID string          `json:"request_id,omitempty"` // Idempotency-Key
	DryRun    bool            `json:"dry_run,omitempty"`

	Rollout    string   `json:"rollout,omitempty"` // RolloutReplace, RolloutNone; empty: as the service has it
	EarlierIDs []string `json:"-"`                 // RequestID under old keys

	Decoded map[string]any `json:"-"` // Document after ParseObject, if known; immutable
}

// SecretInfo describes a secret field of a service, or a sealed value without a field.
// It never contains the value.
type SecretInfo struct {
	Key       string `json:"key"`
	Source    Source `json:"source"`
	Set       bool   `json:"set"`
	Env       string `json:"env,omitempty"` // the variable of a secret from the environment
	KeyID     string `json:"key_id,omitempty"`
	CreatedAt string `json:"created_at,omitempty"`
	UpdatedAt string `json:"updated_at,omitempty"`
	Age       *int64 `json:"age_seconds,omitempty"` // of the stored value

	// Unused: a value is stored, but the schema has no such secret.
	Unused bool `json:"unused,omitempty"`
}

// Outcome is the result of a Draft.
type Outcome struct {
	Service string          `json:"service"`
	Version uint64          `json:"version"` // the new version; for a dry run the one it would get
	Changed bool            `json:"changed"` // false: the values were the same, there is no new version
	Config  json.RawMessage `json:"config"`  // effective document without secrets

	// Rollout is the id of the rollout that the change began: Version is its candidate.
	Rollout string `json:"rollout,omitempty"`
	// Stale are the profiles whose values the new schema of the service rejects.
	Stale []StaleProfile `json:"stale_profiles,omitempty"`
}

// StaleProfile is a profile that cannot be activated as it is: the schema of the
// service does not accept the values that the profile has for it.
type StaleProfile struct {
	Profile string `json:"profile"`
	Service string `json:"service"`
	Error   string `json:"error"`
}
