package command

import (
	"crypto/sha256"
	"encoding/hex"
	"math"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Cluster changes who belongs to the cluster and who may join it: all of it or
// nothing, in the order tokens, revocations, removals, uses, members, audit.
// Applying one that was applied before changes nothing.
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

// JoinToken admits agents. Who holds the secret is compared with SecretHash
// before a TokenUse is proposed.
type JoinToken struct {
	ID         string `json:"id"`
	SecretHash string `json:"secret_hash"` // hex SHA-256
	Role       string `json:"role"`        // conf.MemberServer or conf.MemberSidecar
	Service    string `json:"service,omitempty"`
	ExpiresAt  string `json:"expires_at,omitempty"` // conf.FormatTime's form; empty: never
	CreatedBy  string `json:"created_by,omitempty"`
	Uses       int    `json:"uses,omitempty"` // 0 = without limit
}

// TokenUse admits one agent by a token. The same one again counts once.
type TokenUse struct {
	TokenID string `json:"token_id"`
	NodeID  string `json:"node_id"`
	KeyHash string `json:"key_hash"` // hex SHA-256 of the joiner's public key
}

// Member tells what an admitted agent is and where it is reached. Beside a
// TokenUse of the same node it must have the token's role and service.
type Member struct {
	NodeID  string `json:"node_id"`
	Role    string `json:"role"`
	Service string `json:"service,omitempty"`
	Addr    string `json:"addr,omitempty"`
	Version string `json:"version,omitempty"`
}

// Kind is KindCluster.
func (*Cluster) Kind() Kind { return KindCluster }

func checkCluster(c *Cluster) error {
	if err := checkTime("at", c.At); err != nil {
		return err
	}
	if err := text("cluster", c.By); err != nil {
		return err
	}
	for i := range c.Tokens {
		if err := checkToken(&c.Tokens[i]); err != nil {
			return err
		}
	}
	for _, id := range c.TokenRevokes {
		if err := conf.CheckTokenID(id); err != nil {
			return err
		}
	}
	for _, u := range c.Uses {
		if err := conf.CheckTokenID(u.TokenID); err != nil {
			return err
		}
		if err := conf.CheckNode(u.NodeID); err != nil {
			return err
		}
		if err := checkHash("key hash of "+u.NodeID, u.KeyHash); err != nil {
			return err
		}
	}
	for _, m := range c.Members {
		if err := conf.CheckNode(m.NodeID); err != nil {
			return err
		}
		if err := checkRole(m.Role, m.Service); err != nil {
			return err
		}
		if err := text(m.NodeID, m.Addr, m.Version); err != nil {
			return err
		}
	}
	for _, id := range c.MemberRemoves {
		if err := conf.CheckNode(id); err != nil {
			return err
		}
	}
	return checkAccess(c.Audit)
}

func checkToken(t *JoinToken) error {
	if err := conf.CheckTokenID(t.ID); err != nil {
		return err
	}
	if err := checkHash("secret hash of the token "+t.ID, t.SecretHash); err != nil {
		return err
	}
	if err := checkRole(t.Role, t.Service); err != nil {
		return err
	}
	if t.ExpiresAt != "" {
		if err := checkTime("expires_at", t.ExpiresAt); err != nil {
			return err
		}
	}
	if t.Uses < 0 || t.Uses > math.MaxInt32 {
		return conf.Errorf(conf.CodeInvalid, "a join token cannot be used %d times", t.Uses).
			WithHint("give a number from 1, or 0 for no limit")
	}
	return text("token "+t.ID, t.CreatedBy)
}

func checkRole(role, service string) error {
	if err := conf.CheckMemberRole(role); err != nil || service == "" {
		return err
	}
	return conf.CheckService(service)
}

// checkTime refuses every form but FormatTime's: times are compared as text.
func checkTime(what, s string) error {
	t, err := conf.ParseTime(s)
	if err == nil && conf.FormatTime(t) != s {
		err = conf.Errorf(conf.CodeInternal, "%s: %q is not in the form of the log", what, s)
	}
	return err
}

func checkHash(what, s string) error {
	if raw, err := hex.DecodeString(s); err != nil || len(raw) != sha256.Size || hex.EncodeToString(raw) != s {
		return conf.Errorf(conf.CodeInternal, "the %s is not a hex SHA-256", what)
	}
	return nil
}
