package admin

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Secrets reads the secrets of services, and where values come from.
type Secrets interface {
	// Secrets lists the secret fields of a service, without any value.
	Secrets(ctx context.Context, service string) ([]conf.SecretInfo, error)
	// Reveal returns a value, after the access log has who asked, and why.
	Reveal(ctx context.Context, who conf.Principal, service, key, reason string) (json.RawMessage, error)
	// Explain returns where each value comes from; secrets are masked unless open
	// is set, which this API never does.
	Explain(ctx context.Context, service string, open bool) (conf.Explanation, error)
}

var errNoSecrets = conf.Errorf(conf.CodeUnsupported, "this agent keeps no secrets")

// secretRoom lists, sets and reveals the secrets of services.
type secretRoom struct {
	*edits
	secrets Secrets
}

func (s *secretRoom) routes() []Route {
	const all, one = "/api/config/services/:service/secrets", "/api/config/services/:service/secrets/:key"
	list, reveal := s.list, decoded(s.reveal)
	if s.secrets == nil {
		list, reveal = failing(errNoSecrets), failing(errNoSecrets)
	}
	return []Route{
		{
			Name: "listSecrets", Method: http.MethodGet, Path: all, Role: conf.RoleRead, Summary: "List the secrets of a service, without their values",
			Query: []string{"consistent"}, handle: list, audit: true,
		},
		{
			Name: "putSecret", Method: http.MethodPut, Path: one, Role: conf.RoleWrite, Summary: "Set a secret",
			Query: []string{"reason", "rollout"}, handle: s.put, writes: true, body: 128 << 10, update: true, match: true,
		},
		{
			Name: "deleteSecret", Method: http.MethodDelete, Path: one, Role: conf.RoleWrite, Summary: "Remove a secret",
			Query: []string{"version", "reason", "rollout"}, handle: s.remove, writes: true, update: true, match: true,
		},
		{
			Name: "revealSecret", Method: http.MethodPost, Path: one + "/reveal", Role: conf.RoleWrite,
			Summary: "Show the value of a secret; the access log keeps who asked and why",
			Query:   []string{"reason"}, handle: reveal, writes: true, body: smallBody,
		},
	}
}

type secretsResponse struct {
	Service string            `json:"service"`
	Secrets []conf.SecretInfo `json:"secrets"`
}

func (s *secretRoom) list(c *call) (reply, error) {
	list, err := s.secrets.Secrets(c.r.Context(), c.service())
	if list == nil {
		list = []conf.SecretInfo{}
	}
	return answer(secretsResponse{Service: c.service(), Secrets: list}, err)
}

type secretRequest struct {
	Value   json.RawMessage `json:"value"`
	Version *uint64         `json:"version"`
	Reason  string          `json:"reason"`
}

func (s *secretRoom) put(c *call) (reply, error) {
	var req secretRequest
	if err := conf.DecodeStrict(c.body, len(c.body), &req); err != nil { // its text could contain a part of the value
		return reply{}, conf.Errorf(conf.CodeOf(err), "the body is not a JSON object with the value of a secret").
			WithHint(`send {"value": "..."}`)
	}
	if len(req.Value) == 0 {
		return reply{}, invalid("value", "is needed").WithHint(`send {"value": "..."}`)
	}
	return s.change(c, conf.Draft{Op: conf.OpSecretSet, Key: c.params.ByName("key"), Document: req.Value, Expect: req.Version, Reason: req.Reason})
}

func (s *secretRoom) remove(c *call) (reply, error) {
	return s.change(c, conf.Draft{Op: conf.OpSecretDelete, Key: c.params.ByName("key")})
}

type revealRequest struct {
	Reason string `json:"reason"`
}

// revealResponse is the only body of this API with the value of a secret.
type revealResponse struct {
	Success bool            `json:"success"`
	Service string          `json:"service"`
	Key     string          `json:"key"`
	Value   json.RawMessage `json:"value"`
}

func (s *secretRoom) reveal(c *call, req revealRequest) (reply, error) {
	reason, err := c.reason(req.Reason)
	if err != nil {
		return reply{}, err
	}
	if reason == "" {
		return reply{}, invalid("reason", "is needed: the access log keeps it").WithHint(`send {"reason": "..."}`)
	}
	key := c.params.ByName("key")
	value, err := s.secrets.Reveal(c.r.Context(), c.who, c.service(), key, reason)
	return answer(revealResponse{Success: true, Service: c.service(), Key: key, Value: value}, err)
}
