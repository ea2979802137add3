package transport_test

import (
	"slices"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// joinToken is the stored form of a Token. It does not contain the secret.
type joinToken struct {
	ID         string   `json:"id"`
	SecretHash string   `json:"secret_sha256"`
	Role       pki.Role `json:"role"`
	Service    string   `json:"service,omitempty"` // of a sidecar: the service whose keys it receives
	Expires    string   `json:"expires,omitempty"` // in conf.FormatTime form; empty = never
	Uses       int      `json:"uses,omitempty"`    // how many agents may join by it; 0 = any number
	CreatedBy  string   `json:"created_by"`
	CreatedAt  string   `json:"created_at"`
	Revoked    bool     `json:"revoked,omitempty"`
	Claims     []claim  `json:"claims,omitempty"` // its uses; stored only if Uses is set
}

// claim is one use of a token. The same key again is a retry.
type claim struct {
	KeyHash string `json:"key_sha256"` // transport.JoinRequest.KeyHash
	NodeID  string `json:"node_id"`
	At      string `json:"at"`
}

// storedToken returns the stored form of t. With ttl 0 it does not expire.
func storedToken(t transport.Token, role pki.Role, service string, ttl time.Duration, uses int, by string, now time.Time) joinToken {
	s := joinToken{
		ID: t.ID, SecretHash: transport.HashSecret(t.Secret), Role: role, Service: service, Uses: uses,
		CreatedBy: by, CreatedAt: conf.FormatTime(now),
	}
	if ttl > 0 {
		s.Expires = conf.FormatTime(now.Add(ttl))
	}
	return s
}

// check returns a *transport.TokenError unless a joiner with secret and the key with that hash may
// use t now. A nil t is an unknown token. Its duration does not depend on the id or the
// secret.
func (t *joinToken) check(secret, keyHash string, now time.Time) error {
	stored := ""
	if t != nil {
		stored = t.SecretHash
	}
	same := transport.CheckSecret(secret, stored)
	switch {
	case t == nil:
		return &transport.TokenError{Reason: transport.TokenUnknown}
	case !same:
		return &transport.TokenError{Reason: transport.TokenForged}
	case t.Revoked:
		return &transport.TokenError{Reason: transport.TokenRevoked}
	case t.expired(now):
		return &transport.TokenError{Reason: transport.TokenExpired}
	case t.Uses > 0 && len(t.Claims) >= t.Uses && !t.claimed(keyHash):
		return &transport.TokenError{Reason: transport.TokenUsed}
	}
	return nil
}

func (t *joinToken) expired(now time.Time) bool {
	if t.Expires == "" {
		return false
	}
	end, err := conf.ParseTime(t.Expires)
	return err != nil || !now.Before(end)
}

// claimed reports whether the joiner with that key has used t before.
func (t *joinToken) claimed(keyHash string) bool {
	return slices.ContainsFunc(t.Claims, func(c claim) bool { return c.KeyHash == keyHash })
}

// withClaim returns t after a use by c: unchanged if that key has used it, or if uses are
// not counted. It is a pure function: the state machine calls it.
func (t joinToken) withClaim(c claim) joinToken {
	if t.Uses > 0 && !t.claimed(c.KeyHash) {
		t.Claims = append(slices.Clone(t.Claims), c)
	}
	return t
}
