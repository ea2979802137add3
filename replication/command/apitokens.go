package command

import (
	"github.com/holdfast-config/holdfast/replication/conf"
)

// APITokens makes and revokes tokens of the admin API: all of it or nothing,
// creations first. Applying one that was applied before changes nothing.
type APITokens struct {
	At     string        `json:"at"` // conf.FormatTime's form
	By     string        `json:"by,omitempty"`
	Create []APIToken    `json:"create,omitempty"`
	Revoke []string      `json:"revoke,omitempty"`
	Audit  []conf.Access `json:"audit,omitempty"`
}

// APIToken lets its holder do what Role allows, until ExpiresAt. Whether it has
// expired is judged where a token is shown, never when an entry is applied.
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
	if err := checkTime("at", c.At); err != nil {
		return err
	}
	if err := text("api tokens", c.By); err != nil {
		return err
	}
	for _, t := range c.Create {
		if err := conf.CheckTokenID(t.ID); err != nil {
			return err
		}
		if err := conf.CheckTokenName(t.Name); err != nil {
			return err
		}
		if err := conf.CheckRole(conf.Role(t.Role)); err != nil {
			return err
		}
		if err := checkHash("hash of the token "+t.ID, t.SecretHash); err != nil {
			return err
		}
		if t.ExpiresAt != "" {
			if err := checkTime("expires_at", t.ExpiresAt); err != nil {
				return err
			}
		}
		if err := text("token "+t.ID, t.CreatedBy); err != nil {
			return err
		}
	}
	for _, id := range c.Revoke {
		if err := conf.CheckTokenID(id); err != nil {
			return err
		}
	}
	return checkAccess(c.Audit)
}
