package conf

import (
	"regexp"
	"time"
)

// Roles of a member. A server may become a voter and has all keys; a sidecar has a
// full copy and the keys of its own service only.
const (
	MemberServer  = "server"
	MemberSidecar = "sidecar"
)

// Member is a row of members: an agent that was admitted to the cluster. The voters
// are in the Raft configuration.
type Member struct {
	NodeID    string `json:"node_id"`
	Role      string `json:"role"`    // MemberServer or MemberSidecar
	Service   string `json:"service"` // the service beside it, "" when it is not known
	Addr      string `json:"addr"`    // "" until it has reported one
	Version   string `json:"version"` // of its build
	JoinedAt  string `json:"joined_at"`
	RemovedAt string `json:"removed_at"` // "" while it is a member
}

// MemberKey is a row of member_keys: a public key whose certificates a member is admitted
// with, or was until it was revoked.
type MemberKey struct {
	NodeID    string `json:"node_id"`
	KeyHash   string `json:"key_hash"` // hex SHA-256 of the SubjectPublicKeyInfo
	Role      string `json:"role"`     // that it was admitted with
	Since     string `json:"since"`
	RevokedAt string `json:"revoked_at"` // "" while it is accepted
	EndsAt    string `json:"ends_at"`    // of a revoked one: its certificates have expired, and it is forgotten
}

// RevokedFor is how long a revoked key is remembered: longer than a certificate that was
// issued for it is valid.
const RevokedFor = 100 * 24 * time.Hour

// JoinTokenInfo describes a join token, without its secret and the hash of that.
type JoinTokenInfo struct {
	ID        string `json:"id"`
	Role      string `json:"role"`       // of the agents that it admits
	Service   string `json:"service"`    // "": any
	ExpiresAt string `json:"expires_at"` // "": never
	CreatedBy string `json:"created_by"`
	CreatedAt string `json:"created_at"`
	Uses      int    `json:"uses"` // maximum of uses, 0 = no limit
	Used      int    `json:"used"`
	Revoked   bool   `json:"revoked"`
}

// RejectReason returns why t is invalid at that time (FormatTime's form), "" when it is
// valid. The reason is for logs and operators: a joiner gets the same error for all.
func (t JoinTokenInfo) RejectReason(at string) string {
	switch {
	case t.Revoked:
		return "revoked"
	case t.ExpiresAt != "" && at > t.ExpiresAt: // the form sorts by time
		return "expired"
	case t.Uses > 0 && t.Used >= t.Uses:
		return "used up"
	}
	return ""
}

var nodeRE = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$`)

// CheckNode checks a node id.
func CheckNode(s string) error { return checkID("node id", s) }

// CheckTokenID checks the id of a token.
func CheckTokenID(s string) error { return checkID("token id", s) }

func checkID(what, s string) error {
	if !nodeRE.MatchString(s) {
		return Errorf(CodeInvalid, "bad %s %q", what, Clip(s)).
			WithHint("use 1 to 63 letters, digits, dots, hyphens and underscores, a letter or digit first")
	}
	return nil
}

// CheckMemberRole checks the role of a member.
func CheckMemberRole(s string) error {
	if s != MemberServer && s != MemberSidecar {
		return Errorf(CodeInvalid, "bad role %q", Clip(s)).WithHint("use %s or %s", MemberServer, MemberSidecar)
	}
	return nil
}
