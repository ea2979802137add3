package command

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"math"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Cluster changes the members and the join tokens of the cluster: all of it or
// nothing, in the order tokens, revocations, removals, uses, members, audit.
// Applying it again changes nothing.
type Cluster struct {
	At            string        `json:"at"` // conf.FormatTime's form
	By            string        `json:"by,omitempty"`
	Tokens        []JoinToken   `json:"tokens,omitempty"`
	TokenRevokes  []string      `json:"token_revokes,omitempty"`
	Uses          []TokenUse    `json:"uses,omitempty"`
	Members       []Member      `json:"members,omitempty"`
	MemberRemoves []string      `json:"member_removes,omitempty"`
	Audit         []conf.Access `json:"audit,omitempty"`
}

// JoinToken admits agents. The leader compares the secret of a joiner with
// SecretHash before it proposes a TokenUse.
type JoinToken struct {
	ID         string `json:"id"`
	SecretHash string `json:"secret_hash"` // hex SHA-256
	Role       string `json:"role"`        // conf.MemberServer or conf.MemberSidecar
	Service    string `json:"service,omitempty"`
	ExpiresAt  string `json:"expires_at,omitempty"` // conf.FormatTime's form; empty: never
	CreatedBy  string `json:"created_by,omitempty"`
	Uses       int    `json:"uses,omitempty"` // 0 = without limit
}

// TokenUse admits one agent by a token. Equal uses count once.
type TokenUse struct {
	TokenID string `json:"token_id"`
	NodeID  string `json:"node_id"`
	KeyHash string `json:"key_hash"` // hex SHA-256 of the joiner's public key
}

// Member is the role, service, address and build of an admitted agent. With a
// TokenUse of the same node, it must have the token's role and service. KeyHash is a key
// whose certificates the cluster accepts for it; the keys that it has stay.
type Member struct {
	NodeID  string `json:"node_id"`
	Role    string `json:"role"`
	Service string `json:"service,omitempty"`
	Addr    string `json:"addr,omitempty"`
	Version string `json:"version,omitempty"`
	KeyHash string `json:"key_hash,omitempty"` // hex SHA-256 of a public key
}

// Kind is KindCluster.
func (*Cluster) Kind() Kind { return KindCluster }

func checkCluster(c *Cluster) error {
	return cmp.Or(
		checkTime("at", c.At),
		checkText("cluster", c.By),
		checkAll(c.Tokens, checkToken),
		checkAll(c.TokenRevokes, conf.CheckTokenID),
		checkAll(c.Uses, func(u TokenUse) error {
			return cmp.Or(conf.CheckTokenID(u.TokenID), conf.CheckNode(u.NodeID), checkHash("key hash of "+u.NodeID, u.KeyHash))
		}),
		checkAll(c.Members, func(m Member) error {
			return cmp.Or(conf.CheckNode(m.NodeID), checkRole(m.Role, m.Service), checkText(m.NodeID, m.Addr, m.Version), checkMemberKey(m))
		}),
		checkAll(c.MemberRemoves, conf.CheckNode),
		checkAccess(c.Audit),
	)
}

func checkMemberKey(m Member) error {
	if m.KeyHash == "" {
		return nil
	}
	return checkHash("key hash of "+m.NodeID, m.KeyHash)
}

// checkAll returns the first error of check.
func checkAll[T any](list []T, check func(T) error) error {
	for _, e := range list {
		if err := check(e); err != nil {
			return err
		}
	}
	return nil
}

func checkToken(t JoinToken) error {
	var uses error
	if t.Uses < 0 || t.Uses > math.MaxInt32 {
		uses = conf.Errorf(conf.CodeInvalid, "a join token cannot be used %d times", t.Uses).
			WithHint("give a number from 1, or 0 for no limit")
	}
	return cmp.Or(conf.CheckTokenID(t.ID), checkHash("secret hash of the token "+t.ID, t.SecretHash), checkRole(t.Role, t.Service),
		checkOptionalTime("expires_at", t.ExpiresAt), uses, checkText("token "+t.ID, t.CreatedBy))
}

func checkRole(role, service string) error {
	if err := conf.CheckMemberRole(role); err != nil || service == "" {
		return err
	}
	return conf.CheckService(service)
}

// checkTime rejects every form except FormatTime's: times are compared as text.
func checkTime(what, s string) error {
	t, err := conf.ParseTime(s)
	if err == nil && conf.FormatTime(t) != s {
		err = conf.Errorf(conf.CodeInternal, "%s: %q is not in the form of the log", what, s)
	}
	return err
}

func checkOptionalTime(what, s string) error {
	if s == "" {
		return nil
	}
	return checkTime(what, s)
}

func checkHash(what, s string) error {
	if raw, err := hex.DecodeString(s); err != nil || len(raw) != sha256.Size || hex.EncodeToString(raw) != s {
		return conf.Errorf(conf.CodeInternal, "the %s is not a hex SHA-256", what)
	}
	return nil
}
