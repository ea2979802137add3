package admin

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// APITokens makes and revokes the tokens of callers. Changes are requested on the
// leader.
type APITokens interface {
	APITokens(ctx context.Context) ([]conf.APITokenInfo, error)
	CreateAPIToken(ctx context.Context, who conf.Principal, req conf.APITokenRequest) (conf.NewAPIToken, error)
	RevokeAPIToken(ctx context.Context, who conf.Principal, id string) error
}

// apiTokenRoom lists, makes and revokes API tokens.
type apiTokenRoom struct{ tokens APITokens }

func (t *apiTokenRoom) routes() []Route {
	routes := []Route{
		{
			Name: RouteListAPITokens, Method: http.MethodGet, Path: "/api/config/tokens", Role: conf.RoleRead,
			Summary: "List the API tokens, without what they are used by",
			Query:   []string{"consistent"}, handle: t.list, audit: true,
		},
		{
			Name: RouteCreateAPIToken, Method: http.MethodPost, Path: "/api/config/tokens", Role: conf.RoleWrite,
			Summary: "Make an API token; it is shown this once",
			handle:  decoded(t.create), writes: true, body: smallBody,
		},
		{
			Name: RouteRevokeAPIToken, Method: http.MethodDelete, Path: "/api/config/tokens/:id", Role: conf.RoleWrite, Summary: "Revoke an API token",
			handle: func(c *call) (reply, error) {
				return done(t.tokens.RevokeAPIToken(c.r.Context(), c.who, c.params.ByName("id")))
			}, writes: true,
		},
	}
	if t.tokens == nil {
		return unsupported(routes, conf.Errorf(conf.CodeUnsupported, "this agent keeps no API tokens").WithHint("set them in CONFIG_API_TOKENS"))
	}
	return routes
}

func (t *apiTokenRoom) list(c *call) (reply, error) {
	list, err := t.tokens.APITokens(c.r.Context())
	return listed("tokens", list, err)
}

type apiTokenRequest struct {
	Role string `json:"role"`
	Name string `json:"name"`
	TTL  string `json:"ttl"`
}

// apiTokenResponse is the only body with an API token.
type apiTokenResponse struct {
	Success bool `json:"success"`
	conf.NewAPIToken
}

func (t *apiTokenRoom) create(c *call, in apiTokenRequest) (reply, error) {
	req := conf.APITokenRequest{Role: conf.Role(in.Role), Name: in.Name, TTL: conf.DefaultAPITokenTTL}
	if conf.CheckRole(req.Role) != nil {
		return reply{}, invalid("role", "%q is neither %s nor %s", conf.Clip(in.Role), conf.RoleRead, conf.RoleWrite).
			WithHint("use %s for who only reads, %s for who changes; POST /api/config/cluster/tokens makes a join token", conf.RoleRead, conf.RoleWrite)
	}
	err := conf.CheckTokenName(in.Name)
	if err != nil {
		return reply{}, invalid("name", "%v", err).WithHint("%s", conf.HintOf(err))
	}
	if in.TTL != "" {
		if req.TTL, err = parseTTL(in.TTL, conf.MaxAPITokenTTL, "48h or 2160h"); err != nil {
			return reply{}, err
		}
	}
	created, err := t.tokens.CreateAPIToken(c.r.Context(), c.who, req)
	return answer(apiTokenResponse{Success: true, NewAPIToken: created}, err)
}

// parseTTL reads the lifetime of a token.
func parseTTL(s string, most time.Duration, examples string) (time.Duration, error) {
	ttl, err := time.ParseDuration(s)
	if err != nil {
		return 0, invalid("ttl", "%q is not a duration", conf.Clip(s)).WithHint("write it as 30m, %s", examples)
	}
	if ttl < time.Second || ttl > most {
		return 0, invalid("ttl", "must be from 1s to %s", fmt.Sprintf("%dh", int(most.Hours()))).
			WithHint("make a new token later instead of one that lives longer")
	}
	return ttl, nil
}
