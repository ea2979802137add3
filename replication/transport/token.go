package transport

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
)

const (
	tokenPrefix = "HF1"
	secretBytes = 32
)

var tokenRE = regexp.MustCompile(`^HF1([0-9a-f]{64})::([0-9a-f]{16}):([A-Za-z0-9_-]{43})$`)

// Token is a join token, HF1<hash>::<id>:<secret>, which an operator passes to an agent.
type Token struct {
	CAHash string // pki.HashCA of the cluster's CA
	ID     string
	Secret string
}

// NewToken makes a token for the cluster with that CA.
func NewToken(caHash string) Token {
	var id [8]byte
	var secret [secretBytes]byte
	_, _ = rand.Read(id[:]) // never fails
	_, _ = rand.Read(secret[:])
	return Token{CAHash: caHash, ID: hex.EncodeToString(id[:]), Secret: base64.RawURLEncoding.EncodeToString(secret[:])}
}

// ParseToken reads the form that String returns; there is no other spelling.
func ParseToken(s string) (Token, error) {
	m := tokenRE.FindStringSubmatch(s)
	if m == nil || !canonicalSecret(m[3]) {
		return Token{}, conf.Errorf(conf.CodeUsage, "this is not a join token").
			WithHint("use the complete token, from %s to its end, as printed by holdfast token create", tokenPrefix)
	}
	return Token{CAHash: m[1], ID: m[2], Secret: m[3]}, nil
}

func canonicalSecret(s string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == secretBytes
}

// String returns the token with its secret.
func (t Token) String() string { return tokenPrefix + t.CAHash + "::" + t.ID + ":" + t.Secret }

// LogValue keeps the secret out of logs.
func (t Token) LogValue() slog.Value { return slog.StringValue("join token " + t.ID) }

// HashSecret returns the stored form of a secret: lower-case hex SHA-256.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// CheckSecret reports whether hash is HashSecret of secret, in constant time. An empty hash,
// of an unknown token, takes as long.
func CheckSecret(secret, hash string) bool {
	if hash == "" {
		hash = strings.Repeat("0", 2*sha256.Size)
	}
	return subtle.ConstantTimeCompare([]byte(HashSecret(secret)), []byte(hash)) == 1
}

// JoinToken is the stored form of a Token. It does not contain the secret.
type JoinToken struct {
	ID         string   `json:"id"`
	SecretHash string   `json:"secret_sha256"`
	Role       pki.Role `json:"role"`
	Service    string   `json:"service,omitempty"` // of a sidecar: the service whose keys it receives
	Expires    string   `json:"expires,omitempty"` // in conf.FormatTime form; empty = never
	Uses       int      `json:"uses,omitempty"`    // how many agents may join by it; 0 = any number
	CreatedBy  string   `json:"created_by"`
	CreatedAt  string   `json:"created_at"`
	Revoked    bool     `json:"revoked,omitempty"`
	Claims     []Claim  `json:"claims,omitempty"` // its uses; stored only if Uses is set
}

// Claim is one use of a token. The same key again is a retry.
type Claim struct {
	KeyHash string `json:"key_sha256"` // JoinRequest.KeyHash
	NodeID  string `json:"node_id"`
	At      string `json:"at"`
}

// Stored returns the stored form of t. With ttl 0 it does not expire.
func (t Token) Stored(role pki.Role, service string, ttl time.Duration, uses int, by string, now time.Time) JoinToken {
	s := JoinToken{
		ID: t.ID, SecretHash: HashSecret(t.Secret), Role: role, Service: service, Uses: uses,
		CreatedBy: by, CreatedAt: conf.FormatTime(now),
	}
	if ttl > 0 {
		s.Expires = conf.FormatTime(now.Add(ttl))
	}
	return s
}

// TokenReason is why a join token is refused. The joiner never learns it.
type TokenReason string

// The reasons.
const (
	TokenUnknown TokenReason = "unknown"
	TokenForged  TokenReason = "forged" // a known id with a wrong secret
	TokenExpired TokenReason = "expired"
	TokenUsed    TokenReason = "used"
	TokenRevoked TokenReason = "revoked"
	TokenForeign TokenReason = "wrong_cluster" // the joiner found another CA than the one in its token
)

// TokenError is a rejected join token. Its text, code and hint are the same for all
// reasons; conf.CodeOf and conf.HintOf return them.
type TokenError struct{ Reason TokenReason }

// Error does not contain the reason.
func (e *TokenError) Error() string { return rejectedToken().Message }

func (e *TokenError) Unwrap() error { return rejectedToken() }

func rejectedToken() *conf.Error {
	return conf.Errorf(conf.CodeDenied, "the join token was refused").
		WithHint("check that it is complete and of the cluster at that address; a token expires, or its uses are exhausted: " +
			"create another one on a member of the cluster: holdfast token create")
}

// Check returns a *TokenError unless a joiner with secret and the key with that hash may
// use t now. A nil t is an unknown token. Its duration does not depend on the id or the
// secret.
func (t *JoinToken) Check(secret, keyHash string, now time.Time) error {
	stored := ""
	if t != nil {
		stored = t.SecretHash
	}
	same := CheckSecret(secret, stored)
	switch {
	case t == nil:
		return &TokenError{TokenUnknown}
	case !same:
		return &TokenError{TokenForged}
	case t.Revoked:
		return &TokenError{TokenRevoked}
	case t.expired(now):
		return &TokenError{TokenExpired}
	case t.Uses > 0 && len(t.Claims) >= t.Uses && !t.Claimed(keyHash):
		return &TokenError{TokenUsed}
	}
	return nil
}

func (t *JoinToken) expired(now time.Time) bool {
	if t.Expires == "" {
		return false
	}
	end, err := conf.ParseTime(t.Expires)
	return err != nil || !now.Before(end)
}

// Claimed reports whether the joiner with that key has used t before.
func (t *JoinToken) Claimed(keyHash string) bool {
	return slices.ContainsFunc(t.Claims, func(c Claim) bool { return c.KeyHash == keyHash })
}

// WithClaim returns t after a use by c: unchanged if that key has used it, or if uses are
// not counted. It is a pure function: the state machine calls it.
func (t JoinToken) WithClaim(c Claim) JoinToken {
	if t.Uses > 0 && !t.Claimed(c.KeyHash) {
		t.Claims = append(slices.Clone(t.Claims), c)
	}
	return t
}
