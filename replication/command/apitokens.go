package command

import (
	"cmp"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// APITokens creates and revokes tokens of the admin API: all of it or nothing,
// creations first. Applying it again changes nothing.
type APITokens struct {
	At     string        `json:"at"` // conf.FormatTime's form
	By     string        `json:"by,omitempty"`
	Create []APIToken    `json:"create,omitempty"`
	Revoke []string      `json:"revoke,omitempty"`
	Audit  []conf.Access `json:"audit,omitempty"`
}

// APIToken grants its holder a Role until ExpiresAt. Expiry is checked when a caller
// presents the token, never when an entry is applied.
type APIToken struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Role       string `json:"role"`
	SecretHash string `json:"secret_hash"`          // hex SHA-256 of the whole token
	ExpiresAt  string `json:"expires_at,omitempty"` // conf.FormatTime's form; empty: never
	CreatedBy  string `json:"created_by,omitempty"`
}

// Kind is KindAPITokens.
func (*APITokens) Kind() Kind { return KindAPITokens }

func checkAPITokens(c *APITokens) error {
	return cmp.Or(
		checkTime("at", c.At),
		checkText("api tokens", c.By),
		checkAll(c.Create, func(t APIToken) error {
			return cmp.Or(conf.CheckTokenID(t.ID), conf.CheckTokenName(t.Name), conf.CheckRole(conf.Role(t.Role)),
				checkHash("hash of the token "+t.ID, t.SecretHash), checkOptionalTime("expires_at", t.ExpiresAt), checkText("token "+t.ID, t.CreatedBy))
		}),
		checkAll(c.Revoke, conf.CheckTokenID),
		checkAccess(c.Audit),
	)
}
