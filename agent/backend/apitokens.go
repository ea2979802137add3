package backend

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store"
)

// An API token is hfa_ID_SECRET: its id, 6 random bytes in hex, and 256
// random bits in base64.
const (
	apiTokenPrefix  = "hfa_"
	apiTokenIDBytes = 6
	apiTokenLen     = len(apiTokenPrefix) + 2*apiTokenIDBytes + 1 + 43
)

// apiTokenID is the id inside of a token, "" when it does not look like one.
func apiTokenID(token string) string {
	rest, ok := strings.CutPrefix(token, apiTokenPrefix)
	if !ok || len(token) != apiTokenLen || rest[2*apiTokenIDBytes] != '_' {
		return ""
	}
	return conf.APITokenIDPrefix + rest[:2*apiTokenIDBytes]
}

// Authenticator accepts the tokens of CONFIG_API_TOKENS and those in the log. It reads the
// memory of the store at each request, so that a revocation takes effect when it is
// applied. It implements admin.Authenticator and is safe for concurrent use.
type Authenticator struct {
	Bootstrap       *keys.Authenticator // of CONFIG_API_TOKENS
	Supervisor      *replica.Supervisor
	TokensUnrevoked func() bool // the store is from a backup, and its tokens are not revoked yet
	Now             func() time.Time
}

// Authenticate returns the principal of a token. For an expired or revoked token
// it returns the name only.
func (a *Authenticator) Authenticate(token string) (conf.Principal, bool) {
	if id := apiTokenID(token); id != "" {
		hash := sha256.Sum256([]byte(token))
		t, known := a.apiToken(id)
		want, err := hex.DecodeString(t.SecretHash)
		if err != nil || len(want) != len(hash) {
			want = make([]byte, len(hash))
		}
		if subtle.ConstantTimeCompare(hash[:], want) == 1 && known {
			who := conf.Principal{Name: t.Name, Role: t.Role, TokenID: t.ID, ExpiresAt: t.ExpiresAt}
			if t.RejectReason(a.Now()) != "" {
				return conf.Principal{Name: t.Name}, false
			}
			return who, true
		}
	}
	return a.Bootstrap.Authenticate(token)
}

// apiToken reads the last store that was open: while the replica is down, the tokens of
// that moment are valid.
func (a *Authenticator) apiToken(id string) (conf.APIToken, bool) {
	st := a.Supervisor.LastStore()
	if st == nil || a.TokensUnrevoked() {
		return conf.APIToken{}, false
	}
	return st.Queries.APIToken(id)
}

// APITokens creates and revokes API tokens; it is admin.APITokens.
type APITokens struct{ Supervisor *replica.Supervisor }

// APITokens lists the API tokens, without their secrets.
func (a APITokens) APITokens(context.Context) ([]conf.APITokenInfo, error) {
	return replica.Query(a.Supervisor, func(st *store.Store) ([]conf.APITokenInfo, error) { return st.Queries.ListAPITokens(), nil })
}

// CreateAPIToken makes a token. Its secret is in the response and nowhere else.
func (a APITokens) CreateAPIToken(ctx context.Context, who conf.Principal, req conf.APITokenRequest) (conf.NewAPIToken, error) {
	r, err := a.Supervisor.LeaderReplica()
	if err != nil {
		return conf.NewAPIToken{}, err
	}
	var id [apiTokenIDBytes]byte
	var secret [32]byte
	_, _ = rand.Read(id[:]) // never fails
	_, _ = rand.Read(secret[:])
	now := time.Now()
	at := conf.FormatTime(now)
	out := conf.NewAPIToken{
		ID: conf.APITokenIDPrefix + hex.EncodeToString(id[:]), Name: req.Name, Role: req.Role,
		Token:     apiTokenPrefix + hex.EncodeToString(id[:]) + "_" + base64.RawURLEncoding.EncodeToString(secret[:]),
		ExpiresAt: conf.FormatTime(now.Add(req.TTL)),
	}
	hash := sha256.Sum256([]byte(out.Token))
	err = r.Propose(ctx, &command.APITokens{
		At: at, By: who.Name,
		Create: []command.APIToken{{
			ID: out.ID, Name: req.Name, Role: string(req.Role), SecretHash: hex.EncodeToString(hash[:]), ExpiresAt: out.ExpiresAt, CreatedBy: who.Name,
		}},
		Audit: []conf.Access{{
			UserID: who.Name, Action: "write", Success: true, Timestamp: at,
			Reason: "API token " + out.ID + " created for " + req.Name + " as " + string(req.Role) + " until " + out.ExpiresAt,
		}},
	})
	if err != nil {
		return conf.NewAPIToken{}, err
	}
	return out, nil
}

// RevokeAPIToken revokes a token: each agent rejects it as soon as it has applied
// the change.
func (a APITokens) RevokeAPIToken(ctx context.Context, who conf.Principal, id string) error {
	r, err := a.Supervisor.LeaderReplica()
	if err != nil {
		return err
	}
	at := conf.FormatTime(time.Now())
	return r.Propose(ctx, &command.APITokens{
		At: at, By: who.Name, Revoke: []string{id},
		Audit: []conf.Access{{UserID: who.Name, Action: "write", Success: true, Reason: "API token " + id + " revoked", Timestamp: at}},
	})
}
