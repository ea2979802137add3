package agent

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
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store"
)

// An API token is hfa_ID_SECRET: 6 random bytes in hex by which it is found, and
// 256 random bits in base64.
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

// authenticator knows the tokens of CONFIG_API_TOKENS and those in the log. It
// asks the memory of the store at each request, so that a revocation holds from
// the moment that it is applied.
type authenticator struct {
	fixed *keys.Authenticator
	s     *supervisor
	now   func() time.Time
}

// Authenticate is admin.Authenticator. Of a token that was good once it tells
// whose it was.
func (a *authenticator) Authenticate(token string) (conf.Principal, bool) {
	if id := apiTokenID(token); id != "" {
		hash := sha256.Sum256([]byte(token))
		t, known := a.s.apiToken(id)
		want, err := hex.DecodeString(t.SecretHash)
		if err != nil || len(want) != len(hash) {
			want = make([]byte, len(hash))
		}
		if subtle.ConstantTimeCompare(hash[:], want) == 1 && known {
			who := conf.Principal{Name: t.Name, Role: t.Role, TokenID: t.ID, ExpiresAt: t.ExpiresAt}
			if t.Refusal(a.now()) != "" {
				return conf.Principal{Name: t.Name}, false
			}
			return who, true
		}
	}
	return a.fixed.Authenticate(token)
}

// apiToken reads from the newest store that was open: what is not in it any more
// (a replica that is down) is as it was then.
func (s *supervisor) apiToken(id string) (conf.APIToken, bool) {
	st := s.newest.Load()
	if st == nil || s.unproven.Load() {
		return conf.APIToken{}, false
	}
	return st.APIToken(id)
}

// apiTokens is admin.APITokens.
type apiTokens struct{ c *cluster }

// APITokens lists them, without anything by which to use them.
func (a apiTokens) APITokens(context.Context) ([]conf.APITokenInfo, error) {
	return ask(a.c.s, func(ss *session) ([]conf.APITokenInfo, error) { return store.SortAPITokens(ss.store.APITokens()), nil })
}

// CreateAPIToken makes a token. It is in the answer and nowhere else.
func (a apiTokens) CreateAPIToken(ctx context.Context, who conf.Principal, req conf.APITokenRequest) (conf.NewAPIToken, error) {
	ss, err := a.c.own()
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
	err = settled(ss.member.Propose(ctx, &command.APITokens{
		At: at, By: who.Name,
		Create: []command.APIToken{{
			ID: out.ID, Name: req.Name, Role: string(req.Role), SecretHash: hex.EncodeToString(hash[:]), ExpiresAt: out.ExpiresAt, CreatedBy: who.Name,
		}},
		Audit: []conf.Access{{
			UserID: who.Name, Action: "write", Success: true, Timestamp: at,
			Reason: "API token " + out.ID + " created for " + req.Name + " as " + string(req.Role) + " until " + out.ExpiresAt,
		}},
	}))
	if err != nil {
		return conf.NewAPIToken{}, err
	}
	return out, nil
}

// RevokeAPIToken ends a token: each agent refuses it from when it has applied this.
func (a apiTokens) RevokeAPIToken(ctx context.Context, who conf.Principal, id string) error {
	ss, err := a.c.own()
	if err != nil {
		return err
	}
	at := conf.FormatTime(time.Now())
	return settled(ss.member.Propose(ctx, &command.APITokens{
		At: at, By: who.Name, Revoke: []string{id},
		Audit: []conf.Access{{UserID: who.Name, Action: "write", Success: true, Reason: "API token " + id + " revoked", Timestamp: at}},
	}))
}

// settled is the error of a proposal, or else of its result.
func settled(res command.Result, err error) error {
	if err == nil && res.Err != nil {
		return res.Err
	}
	return err
}
