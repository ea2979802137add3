package conf

import (
	"regexp"
	"strings"
	"time"
)

// Limits of the lifetime of an API token.
const (
	DefaultAPITokenTTL = 90 * 24 * time.Hour
	MaxAPITokenTTL     = 10 * 366 * 24 * time.Hour
)

// APITokenIDPrefix is the prefix of the ids of all API tokens, and of no join token.
const APITokenIDPrefix = "api-"

// APITokenRequest requests an API token.
type APITokenRequest struct {
	Role Role
	Name string // of its holder, for history and the access log
	TTL  time.Duration
}

// NewAPIToken is a new API token, the only form that contains the token.
type NewAPIToken struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Role      Role   `json:"role"`
	Token     string `json:"token"`
	ExpiresAt string `json:"expires_at"`
}

// APITokenInfo describes an API token, without the token and its hash.
type APITokenInfo struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Role      Role   `json:"role"`
	ExpiresAt string `json:"expires_at"` // "": never
	CreatedAt string `json:"created_at"`
	CreatedBy string `json:"created_by"`
	Revoked   bool   `json:"revoked"`
}

// APIToken is the stored form of an API token.
type APIToken struct {
	APITokenInfo
	SecretHash string // hex SHA-256 of the whole token
}

// RejectReason returns why t is invalid at that time, "" when it is valid.
func (t APITokenInfo) RejectReason(now time.Time) string {
	if t.Revoked {
		return "revoked"
	}
	if t.ExpiresAt == "" {
		return ""
	}
	if at, err := ParseTime(t.ExpiresAt); err != nil || !now.Before(at) {
		return "expired"
	}
	return ""
}

var tokenNameRE = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._@+-]{0,62}$`)

// CheckTokenName checks the name of the holder of an API token. It rejects the names
// that agents use for themselves in the history.
func CheckTokenName(s string) error {
	if !tokenNameRE.MatchString(s) {
		return Errorf(CodeInvalid, "bad token name %q", Clip(s)).
			WithHint("use 1 to 63 letters, digits and . _ @ + -, a letter or digit first: a person's address, or the name of a program")
	}
	switch l := strings.ToLower(s); {
	case strings.HasPrefix(l, "token-"), l == "autopilot", l == "bootstrap", l == "rebuild", l == "schema-dir":
		return Errorf(CodeInvalid, "the name %q is reserved for the cluster", Clip(s)).WithHint("choose the name of a person or of a program")
	}
	return nil
}

// CheckRole checks the role of a caller.
func CheckRole(r Role) error {
	if r != RoleRead && r != RoleWrite && r != RoleReport {
		return Errorf(CodeInvalid, "bad role %q", Clip(string(r))).WithHint("use %s, %s or %s", RoleRead, RoleWrite, RoleReport)
	}
	return nil
}
