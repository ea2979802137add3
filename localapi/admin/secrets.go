package admin

import (
	"context"
	"encoding/json"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Secrets tells of the secrets of services, and of where values come from.
type Secrets interface {
	// Secrets lists the secret fields of a service, without any value.
	Secrets(ctx context.Context, service string) ([]conf.SecretInfo, error)
	// Reveal gives a value, after the access log has it that who asked, and why.
	Reveal(ctx context.Context, who conf.Principal, service, key, reason string) (json.RawMessage, error)
	// Explain tells where each value comes from; those of secrets are masked
	// unless open is set, which this API never does.
	Explain(ctx context.Context, service string, open bool) (conf.Explanation, error)
}

func (h *Handler) secretBackend() (Secrets, error) {
	if h.o.Secrets == nil {
		return nil, conf.Errorf(conf.CodeUnsupported, "this agent keeps no secrets")
	}
	return h.o.Secrets, nil
}

func (h *Handler) listSecrets(c *call) (reply, error) {
	b, err := h.secretBackend()
	if err != nil {
		return reply{}, err
	}
	list, err := b.Secrets(c.r.Context(), c.service())
	if err != nil {
		return reply{}, err
	}
	if list == nil {
		list = []conf.SecretInfo{}
	}
	return ok(secretsResponse{Service: c.service(), Secrets: list})
}

func (h *Handler) putSecret(c *call) (reply, error) {
	var req secretRequest
	if err := conf.DecodeStrict(c.body, len(c.body), &req); err != nil { // it could repeat a piece of the value
		return reply{}, conf.Errorf(conf.CodeOf(err), "the body is not a JSON object with the value of a secret").
			WithHint(`send {"value": "..."}`)
	}
	if len(req.Value) == 0 {
		return reply{}, invalid("value", "is needed").WithHint(`send {"value": "..."}`)
	}
	return h.change(c, conf.Draft{Op: conf.OpSecretSet, Key: c.params.ByName("key"), Document: req.Value, Expect: req.Version, Reason: req.Reason})
}

func (h *Handler) deleteSecret(c *call) (reply, error) {
	return h.change(c, conf.Draft{Op: conf.OpSecretDelete, Key: c.params.ByName("key")})
}

func (h *Handler) revealSecret(c *call) (reply, error) {
	b, err := h.secretBackend()
	if err != nil {
		return reply{}, err
	}
	var req revealRequest
	if err := conf.DecodeStrict(c.body, len(c.body), &req); err != nil {
		return reply{}, err
	}
	reason, err := c.reason(req.Reason)
	if err != nil {
		return reply{}, err
	}
	if reason == "" {
		return reply{}, invalid("reason", "is needed: the access log keeps it").WithHint(`send {"reason": "..."}`)
	}
	key := c.params.ByName("key")
	value, err := b.Reveal(c.r.Context(), c.who, c.service(), key, reason)
	if err != nil {
		return reply{}, err
	}
	return ok(revealResponse{Success: true, Service: c.service(), Key: key, Value: value})
}

// explain answers for a service with where its values come from.
func (h *Handler) explain(c *call) (reply, error) {
	for name := range c.query {
		if name != "explain" && name != consistentParam {
			return reply{}, invalid(name, "does not go together with explain").WithHint("leave one of them out")
		}
	}
	b, err := h.secretBackend()
	if err != nil {
		return reply{}, err
	}
	out, err := b.Explain(c.r.Context(), c.service(), false)
	if err != nil {
		return reply{}, err
	}
	return ok(out)
}
