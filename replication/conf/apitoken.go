package conf

import (
	"regexp"
	"strings"
	"time"
)

// Limits of an API token that a caller may ask for.
const (
	DefaultAPITokenTTL = 90 * 24 * time.Hour
	MaxAPITokenTTL     = 10 * 366 * 24 * time.Hour
)

// APITokenIDPrefix begins the id of every API token, and of no join token.
const APITokenIDPrefix = "api-"

// APITokenRequest asks for a token of the admin API.
type APITokenRequest struct {
	Role Role
	Name string // whose it is, as history and the access log will show it
	TTL  time.Duration
}

// NewAPIToken is an API token at the one moment when it is known.
type NewAPIToken struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Role      Role   `json:"role"`
	Token     string `json:"token"`
	ExpiresAt string `json:"expires_at"`
}

// APITokenInfo describes an API token. It holds nothing by which to use it.
type APITokenInfo struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Role      Role   `json:"role"`
	ExpiresAt string `json:"expires_at"` // "": never
	CreatedAt string `json:"created_at"`
	CreatedBy string `json:"created_by"`
	Revoked   bool   `json:"revoked"`
}

// APIToken is an API token as the cluster stores it.
type APIToken struct {
	APITokenInfo
	SecretHash string // hex SHA-256 of the whole token
}

// Refusal says why t opens nothing at this time, or "" when it does.
func (t APITokenInfo) Refusal(now time.Time) string {
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

// CheckTokenName says whether s may name the holder of an API token. The names
// that agents write into the history for themselves are not for callers.
func CheckTokenName(s string) error {
	if !tokenNameRE.MatchString(s) {
		return Errorf(CodeInvalid, "bad token name %q", clip(s)).
			WithHint("use 1 to 63 letters, digits and . _ @ + -, a letter or digit first: a person's address, or the name of a program")
	}
	switch l := strings.ToLower(s); {
	case strings.HasPrefix(l, "token-"), l == "autopilot", l == "bootstrap", l == "rebuild", l == "schema-dir":
		return Errorf(CodeInvalid, "the name %q is taken by the cluster itself", clip(s)).WithHint("choose the name of a person or of a program")
	}
	return nil
}

// CheckRole says whether r is one of the two roles of a caller.
func CheckRole(r Role) error {
	if r != RoleRead && r != RoleWrite {
		return Errorf(CodeInvalid, "bad role %q", clip(string(r))).WithHint("use %s or %s", RoleRead, RoleWrite)
	}
	return nil
}
