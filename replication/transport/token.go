package transport

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"regexp"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
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

// TokenReason is why a join token is rejected. The joiner does not get it.
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
