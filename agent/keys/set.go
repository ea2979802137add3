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
	"github.com/holdfast-config/holdfast/replication/seal"
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

// The variables of the keys that were in use before: what they sealed or signed
// is still read.
const (
	EnvMasterOldKey  = "CONFIG_MASTER_KEY_OLD_BASE64"
	EnvMasterOldID   = "CONFIG_MASTER_KEY_OLD_ID"
	EnvHMACOldKey    = "LKG_HMAC_KEY_OLD_BASE64"
	EnvHMACOldID     = "LKG_HMAC_KEY_OLD_ID"
	EnvPrivateOldKey = "CONFIG_SIGNATURE_OLD_PRIVATE_KEY"
	EnvPublicOldKey  = "CONFIG_SIGNATURE_OLD_PUBLIC_KEY"
)

// The variables of a sidecar's key: what is derived of the master key for its own
// service. The ids are those of the master keys.
const (
	EnvServiceKey    = "CONFIG_SERVICE_KEY_BASE64"
	EnvServiceID     = "CONFIG_SERVICE_KEY_ID"
	EnvServiceOldKey = "CONFIG_SERVICE_KEY_OLD_BASE64"
	EnvServiceOldID  = "CONFIG_SERVICE_KEY_OLD_ID"
)

// Names lists the variables that every server has, in the order in which they
// are written.
func Names() []string {
	return []string{
		EnvMasterKey, EnvMasterID, EnvHMACKey, EnvHMACID,
		EnvPrivateKey, EnvPublicKey, EnvRebuildToken, EnvAPITokens,
	}
}

// allNames has those of old keys and of sidecars too.
func allNames() []string {
	return []string{
		EnvMasterKey, EnvMasterID, EnvMasterOldKey, EnvMasterOldID,
		EnvServiceKey, EnvServiceID, EnvServiceOldKey, EnvServiceOldID,
		EnvHMACKey, EnvHMACID, EnvHMACOldKey, EnvHMACOldID,
		EnvPrivateKey, EnvPublicKey, EnvPrivateOldKey, EnvPublicOldKey,
		EnvRebuildToken, EnvAPITokens,
	}
}

// namesOf lists those that an agent of this role loads.
func namesOf(role string) []string {
	if role == conf.MemberSidecar {
		return []string{
			EnvServiceKey, EnvServiceID, EnvServiceOldKey, EnvServiceOldID,
			EnvHMACKey, EnvHMACID, EnvHMACOldKey, EnvHMACOldID, EnvPublicKey, EnvPublicOldKey, EnvAPITokens,
		}
	}
	return slices.DeleteFunc(allNames(), func(name string) bool { return strings.HasPrefix(name, "CONFIG_SERVICE_KEY_") })
}

// Set is the key material of one agent. A sidecar's has no Master, no Private
// and no RebuildToken, and Tokens only if it was given some. It prints, logs and marshals as the
// names of its keys, never as the keys.
type Set struct {
	Master       []byte // 32 bytes
	MasterID     string
	HMAC         []byte // 32 bytes
	HMACID       string
	Private      ed25519.PrivateKey
	Public       ed25519.PublicKey
	RebuildToken string
	Tokens       []Token

	// The keys of before a rotation, nil outside of one. Which of the two is in use
	// is what the cluster's keyring says.
	OldMaster   []byte
	OldMasterID string
	OldHMAC     []byte
	OldHMACID   string
	OldPrivate  ed25519.PrivateKey
	OldPublic   ed25519.PublicKey

	// A sidecar's: derived of the master keys with these ids for its own service.
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

// AllowsRebuild says, in constant time, whether token is the rebuild token.
func (s Set) AllowsRebuild(token string) bool {
	want, got := sha256.Sum256([]byte(s.RebuildToken)), sha256.Sum256([]byte(token))
	return s.RebuildToken != "" && subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

// String names the keys.
func (s Set) String() string {
	signing := "none"
	if len(s.Public) > 0 {
		signing = seal.KeyID(s.Public)
	}
	return fmt.Sprintf("keys(master %s, hmac %s, signing %s, %d API tokens)", orNone(s.MasterID), orNone(s.HMACID), signing, len(s.Tokens))
}

// Format writes String for every verb, %#v and %x too.
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

// principalName is what history and logs show of a token. It does not depend on
// the role, so an author stays the same when the role changes.
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

// NewAuthenticator makes one of the tokens of a Set. It keeps their hashes only.
func NewAuthenticator(tokens []Token) *Authenticator {
	a := &Authenticator{entries: make([]entry, 0, len(tokens))}
	for _, t := range tokens {
		a.entries = append(a.entries, entry{sha256.Sum256([]byte(t.Token)), t.Principal})
	}
	return a
}

// Authenticate returns the principal of token. It looks at all tokens whatever
// it finds, so that its time tells nothing about them.
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

// Own says whether an environment variable holds keys or tokens of an agent.
func Own(name string) bool { return slices.Contains(allNames(), name) }
