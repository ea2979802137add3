package keys

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// The variables that hold key material.
const (
	EnvMasterKey    = "CONFIG_MASTER_KEY_BASE64"
	EnvMasterID     = "CONFIG_MASTER_KEY_ID"
	EnvHMACKey      = "LKG_HMAC_KEY_BASE64"
	EnvHMACID       = "LKG_HMAC_KEY_ID"
	EnvPrivateKey   = "CONFIG_SIGNATURE_PRIVATE_KEY"
	EnvPublicKey    = "CONFIG_SIGNATURE_PUBLIC_KEY"
	EnvRebuildToken = "REBUILD_TOKEN"
	EnvAPITokens    = "CONFIG_API_TOKENS"
)

// The variables of old keys: what they sealed or signed is still accepted.
const (
	EnvMasterOldKey  = "CONFIG_MASTER_KEY_OLD_BASE64"
	EnvMasterOldID   = "CONFIG_MASTER_KEY_OLD_ID"
	EnvHMACOldKey    = "LKG_HMAC_KEY_OLD_BASE64"
	EnvHMACOldID     = "LKG_HMAC_KEY_OLD_ID"
	EnvPrivateOldKey = "CONFIG_SIGNATURE_OLD_PRIVATE_KEY"
	EnvPublicOldKey  = "CONFIG_SIGNATURE_OLD_PUBLIC_KEY"
)

// The variables of a sidecar's key, derived from the master key for its own service.
// The ids are those of the master keys.
const (
	EnvServiceKey    = "CONFIG_SERVICE_KEY_BASE64"
	EnvServiceID     = "CONFIG_SERVICE_KEY_ID"
	EnvServiceOldKey = "CONFIG_SERVICE_KEY_OLD_BASE64"
	EnvServiceOldID  = "CONFIG_SERVICE_KEY_OLD_ID"
)

// allNames lists all variables, in the order in which they are written.
func allNames() []string {
	return []string{
		EnvMasterKey, EnvMasterID, EnvMasterOldKey, EnvMasterOldID,
		EnvServiceKey, EnvServiceID, EnvServiceOldKey, EnvServiceOldID,
		EnvHMACKey, EnvHMACID, EnvHMACOldKey, EnvHMACOldID,
		EnvPrivateKey, EnvPublicKey, EnvPrivateOldKey, EnvPublicOldKey,
		EnvRebuildToken, EnvAPITokens,
	}
}

// namesOf lists the variables that an agent of this role loads.
func namesOf(role string) []string {
	if role == conf.MemberSidecar {
		return []string{
			EnvServiceKey, EnvServiceID, EnvServiceOldKey, EnvServiceOldID,
			EnvHMACKey, EnvHMACID, EnvHMACOldKey, EnvHMACOldID, EnvPublicKey, EnvPublicOldKey, EnvAPITokens,
		}
	}
	return slices.DeleteFunc(allNames(), func(name string) bool { return strings.HasPrefix(name, "CONFIG_SERVICE_KEY_") })
}

// Set is the key material of one agent. A sidecar's has no Master, Private and
// RebuildToken, and Tokens only if they are configured. It prints, logs and marshals as
// the ids of its keys, never as the keys.
type Set struct {
	Master       []byte // 32 bytes
	MasterID     string
	HMAC         []byte // 32 bytes
	HMACID       string
	Private      ed25519.PrivateKey
	Public       ed25519.PublicKey
	RebuildToken string
	Tokens       []Token

	// The old keys, nil outside of a rotation. The cluster's keyring determines which
	// key of a kind is active.
	OldMaster   []byte
	OldMasterID string
	OldHMAC     []byte
	OldHMACID   string
	OldPrivate  ed25519.PrivateKey
	OldPublic   ed25519.PublicKey

	// A sidecar's: derived from the master keys with these ids for its own service.
	ServiceKey      []byte
	ServiceKeyID    string
	OldServiceKey   []byte
	OldServiceKeyID string
}

// Token is one entry of CONFIG_API_TOKENS.
type Token struct {
	Token     string
	Principal conf.Principal
}

// AllowsRebuild reports, in constant time, whether token is the rebuild token.
func (s Set) AllowsRebuild(token string) bool {
	want, got := sha256.Sum256([]byte(s.RebuildToken)), sha256.Sum256([]byte(token))
	return s.RebuildToken != "" && subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

// String names the keys.
func (s Set) String() string {
	return fmt.Sprintf("keys(master %s, hmac %s, signing %s, %d API tokens)", orNone(s.MasterID), orNone(s.HMACID), orNone(publicID(s.Public)), len(s.Tokens))
}

// Format writes String for each verb, also for %#v and %x.
func (s Set) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue is what slog writes.
func (s Set) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON writes String.
func (s Set) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// String names the principal.
func (t Token) String() string {
	return fmt.Sprintf("token(%s, %s)", t.Principal.Name, t.Principal.Role)
}

// Format writes String for every verb.
func (t Token) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(t.String())) }

// LogValue is what slog writes.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalJSON writes String.
func (t Token) MarshalJSON() ([]byte, error) { return json.Marshal(t.String()) }

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// principalName is the name of a token in history and logs. It does not depend on the
// role, so an author keeps it when the role changes.
func principalName(token string) string {
	sum := sha256.Sum256([]byte(token))
	return "token-" + hex.EncodeToString(sum[:4])
}

// Authenticator finds the principal of a token.
type Authenticator struct{ entries []entry }

type entry struct {
	hash      [sha256.Size]byte
	principal conf.Principal
}

// NewAuthenticator returns an Authenticator of the tokens of a Set. It has only their
// hashes.
func NewAuthenticator(tokens []Token) *Authenticator {
	a := &Authenticator{entries: make([]entry, 0, len(tokens))}
	for _, t := range tokens {
		a.entries = append(a.entries, entry{sha256.Sum256([]byte(t.Token)), t.Principal})
	}
	return a
}

// Authenticate returns the principal of token. It compares all tokens, so its duration
// reveals nothing about them.
func (a *Authenticator) Authenticate(token string) (conf.Principal, bool) {
	hash := sha256.Sum256([]byte(token))
	found := -1
	for i := range a.entries {
		same := subtle.ConstantTimeCompare(hash[:], a.entries[i].hash[:])
		found = subtle.ConstantTimeSelect(same, i, found)
	}
	if token == "" || found < 0 {
		return conf.Principal{}, false
	}
	return a.entries[found].principal, true
}

// Own reports whether an environment variable contains keys or tokens of an agent.
func Own(name string) bool { return slices.Contains(allNames(), name) }
