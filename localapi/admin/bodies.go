package admin

import (
	"encoding/json"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// updateRequest is the seed's ConfigUpdateRequest with an optional reason.
type updateRequest struct {
	Service *string         `json:"service"`
	Config  json.RawMessage `json:"config"`
	Version *uint64         `json:"version"`
	Reason  string          `json:"reason"`
}

// updateResponse is the seed's ConfigUpdateResponse, as Pydantic writes it.
type updateResponse struct {
	Success    bool    `json:"success"`
	NewVersion *uint64 `json:"new_version"`
	Error      *string `json:"error"`
}

type validateRequest struct {
	Config json.RawMessage `json:"config"`
	Mode   string          `json:"mode"`
}

type validateResponse struct {
	Valid      bool            `json:"valid"`
	Config     json.RawMessage `json:"config"`
	NewVersion uint64          `json:"new_version"`
}

type restoreRequest struct {
	Version *uint64 `json:"version"`
	Expect  *uint64 `json:"expect"`
	Reason  string  `json:"reason"`
}

type secretRequest struct {
	Value   json.RawMessage `json:"value"`
	Version *uint64         `json:"version"`
	Reason  string          `json:"reason"`
}

type secretsResponse struct {
	Service string            `json:"service"`
	Secrets []conf.SecretInfo `json:"secrets"`
}

type revealRequest struct {
	Reason string `json:"reason"`
}

// revealResponse is the only body of this API that holds the value of a secret.
type revealResponse struct {
	Success bool            `json:"success"`
	Service string          `json:"service"`
	Key     string          `json:"key"`
	Value   json.RawMessage `json:"value"`
}

type servicesResponse struct {
	Services []conf.ServiceInfo `json:"services"`
}

type versionsResponse struct {
	Versions []conf.Metadata `json:"versions"`
}

type schemasResponse struct {
	Schemas []conf.SchemaInfo `json:"schemas"`
}

type putSchemaResponse struct {
	Success    bool   `json:"success"`
	Hash       string `json:"hash"`
	NewVersion uint64 `json:"new_version"`
}

type profilesResponse struct {
	Profiles []conf.Profile `json:"profiles"`
}

type profileRequest struct {
	Description string                     `json:"description"`
	Services    map[string]json.RawMessage `json:"services"`
	Reason      string                     `json:"reason"`
}

type profileResponse struct {
	Success bool         `json:"success"`
	Profile conf.Profile `json:"profile"`
}

type activateRequest struct {
	Reason string `json:"reason"`
}

type activateResponse struct {
	Success  bool              `json:"success"`
	Services []activateService `json:"services"`
}

type activateService struct {
	Service    string `json:"service"`
	NewVersion uint64 `json:"new_version"`
	Changed    bool   `json:"changed"`
}

type rebuildRequest struct {
	Token string `json:"token"`
}

type doneResponse struct {
	Success bool `json:"success"`
}

type backupsResponse struct {
	Backups []conf.Backup `json:"backups"`
}

type tokensResponse struct {
	Tokens []conf.JoinTokenInfo `json:"tokens"`
}

type tokenRequest struct {
	Role    string `json:"role"`
	Service string `json:"service"`
	TTL     string `json:"ttl"`
	Uses    *int   `json:"uses"`
}

// tokenResponse is the only place where the secret of a join token is shown.
type tokenResponse struct {
	Success bool `json:"success"`
	conf.NewJoinToken
}

type transferRequest struct {
	Node string `json:"node"`
}

type apiTokensResponse struct {
	Tokens []conf.APITokenInfo `json:"tokens"`
}

type apiTokenRequest struct {
	Role string `json:"role"`
	Name string `json:"name"`
	TTL  string `json:"ttl"`
}

// apiTokenResponse is the only place where an API token is shown.
type apiTokenResponse struct {
	Success bool `json:"success"`
	conf.NewAPIToken
}
