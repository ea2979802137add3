package admin

import (
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// tokens is the backend of all routes of this file.
func (h *Handler) tokens() (APITokens, error) {
	if h.o.APITokens == nil {
		return nil, conf.Errorf(conf.CodeUnsupported, "this agent keeps no API tokens").
			WithHint("set them in CONFIG_API_TOKENS")
	}
	return h.o.APITokens, nil
}

func (h *Handler) listAPITokens(c *call) (reply, error) {
	b, err := h.tokens()
	if err != nil {
		return reply{}, err
	}
	list, err := b.APITokens(c.r.Context())
	if err != nil {
		return reply{}, err
	}
	if list == nil {
		list = []conf.APITokenInfo{}
	}
	return ok(apiTokensResponse{Tokens: list})
}

func (h *Handler) createAPIToken(c *call) (reply, error) {
	b, err := h.tokens()
	if err != nil {
		return reply{}, err
	}
	var in apiTokenRequest
	if err := conf.DecodeStrict(c.body, len(c.body), &in); err != nil {
		return reply{}, err
	}
	req, err := in.check()
	if err != nil {
		return reply{}, err
	}
	t, err := b.CreateAPIToken(c.r.Context(), c.who, req)
	if err != nil {
		return reply{}, err
	}
	return ok(apiTokenResponse{Success: true, NewAPIToken: t})
}

// check fills in what the request leaves out.
func (in *apiTokenRequest) check() (conf.APITokenRequest, error) {
	out := conf.APITokenRequest{Role: conf.Role(in.Role), Name: in.Name, TTL: conf.DefaultAPITokenTTL}
	if conf.CheckRole(out.Role) != nil {
		return out, invalid("role", "%q is neither %s nor %s", clip(in.Role), conf.RoleRead, conf.RoleWrite).
			WithHint("use %s for who only reads, %s for who changes; POST /api/config/cluster/tokens makes a join token", conf.RoleRead, conf.RoleWrite)
	}
	if err := conf.CheckTokenName(in.Name); err != nil {
		return out, invalid("name", "%v", err).WithHint("%s", conf.HintOf(err))
	}
	if in.TTL == "" {
		return out, nil
	}
	ttl, err := time.ParseDuration(in.TTL)
	if err != nil {
		return out, invalid("ttl", "%q is not a duration", clip(in.TTL)).WithHint("write it as 30m, 48h or 2160h")
	}
	if ttl < time.Second || ttl > conf.MaxAPITokenTTL {
		return out, invalid("ttl", "must be from 1s to %s", hours(conf.MaxAPITokenTTL)).WithHint("make a new token later instead of one that lives longer")
	}
	out.TTL = ttl
	return out, nil
}

func (h *Handler) revokeAPIToken(c *call) (reply, error) {
	b, err := h.tokens()
	if err != nil {
		return reply{}, err
	}
	if err := b.RevokeAPIToken(c.r.Context(), c.who, c.params.ByName("id")); err != nil {
		return reply{}, err
	}
	return ok(doneResponse{Success: true})
}
