package conf

import "regexp"

// What an agent is in the cluster. A server may become a voter and holds all
// keys; a sidecar has a full copy and the keys of its own service only.
const (
	MemberServer  = "server"
	MemberSidecar = "sidecar"
)

// Member is one agent that was admitted to the cluster, as the log knows it.
// Who votes is not here: that is Raft's own configuration.
type Member struct {
	NodeID    string `json:"node_id"`
	Role      string `json:"role"`    // MemberServer or MemberSidecar
	Service   string `json:"service"` // the service beside it, "" when it is not known
	Addr      string `json:"addr"`    // "" until it has told one
	Version   string `json:"version"` // of its build
	JoinedAt  string `json:"joined_at"`
	RemovedAt string `json:"removed_at"` // "" while it is a member
}

// JoinTokenInfo describes a join token. It holds nothing that could be used to
// join.
type JoinTokenInfo struct {
	ID        string `json:"id"`
	Role      string `json:"role"`       // what its users become
	Service   string `json:"service"`    // "": any
	ExpiresAt string `json:"expires_at"` // "": never
	CreatedBy string `json:"created_by"`
	CreatedAt string `json:"created_at"`
	Uses      int    `json:"uses"` // how often it can be used, 0 = without limit
	Used      int    `json:"used"`
	Revoked   bool   `json:"revoked"`
}

// Refusal says why t admits nobody at this time (FormatTime's form), or "" when
// it does. The reason is for the audit log and its readers: a joiner is told the
// same whatever it is.
func (t JoinTokenInfo) Refusal(at string) string {
	switch {
	case t.Revoked:
		return "revoked"
	case t.ExpiresAt != "" && at > t.ExpiresAt: // both have a fixed form, which sorts by time
		return "expired"
	case t.Uses > 0 && t.Used >= t.Uses:
		return "used up"
	}
	return ""
}

var nodeRE = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$`)

// CheckNode says whether s may name a member of the cluster.
func CheckNode(s string) error { return checkID("node id", s) }

// CheckTokenID says whether s may name a join token.
func CheckTokenID(s string) error { return checkID("token id", s) }

func checkID(what, s string) error {
	if !nodeRE.MatchString(s) {
		return Errorf(CodeInvalid, "bad %s %q", what, clip(s)).
			WithHint("use 1 to 63 letters, digits, dots, hyphens and underscores, a letter or digit first")
	}
	return nil
}

// CheckMemberRole says whether s is one of the two roles of a member.
func CheckMemberRole(s string) error {
	if s != MemberServer && s != MemberSidecar {
		return Errorf(CodeInvalid, "bad role %q", clip(s)).WithHint("use %s or %s", MemberServer, MemberSidecar)
	}
	return nil
}
