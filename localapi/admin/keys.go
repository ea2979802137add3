package admin

import (
	"context"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Keys knows the keys of the cluster. A change is asked for on the agent that leads.
type Keys interface {
	// Keys tells which there are, and where rotations stand. It answers without a
	// leader, too.
	Keys(ctx context.Context) (conf.KeysStatus, error)
	// KeyChange makes one of the changes of conf (conf.KeysRotate and so on) and tells
	// where the rotation of that kind stands then.
	KeyChange(ctx context.Context, who conf.Principal, change, kind, reason string) (conf.KeyRotation, error)
}

func (h *Handler) keys() (Keys, error) {
	if h.o.Keys == nil {
		return nil, conf.Errorf(conf.CodeUnsupported, "this agent does not tell of its keys").
			WithHint("GET /openapi.json lists what there is")
	}
	return h.o.Keys, nil
}

func (h *Handler) keysStatus(c *call) (reply, error) {
	k, err := h.keys()
	if err != nil {
		return reply{}, err
	}
	out, err := k.Keys(c.r.Context())
	if err != nil {
		return reply{}, err
	}
	return ok(out)
}

// changeKey makes the change that the end of the path names.
func (h *Handler) changeKey(c *call) (reply, error) {
	k, err := h.keys()
	if err != nil {
		return reply{}, err
	}
	kind := c.params.ByName("kind")
	if conf.CheckKeyKind(kind) != nil {
		return reply{}, conf.Errorf(conf.CodeNotFound, "there is no key of the kind %q", clip(kind)).WithHint("use master, hmac, signing or ca")
	}
	change := c.route.Path[strings.LastIndexByte(c.route.Path, '/')+1:]
	reason := c.query.Get("reason")
	if len(reason) > conf.MaxReason {
		return reply{}, invalid("reason", "is over %d bytes", conf.MaxReason)
	}
	out, err := k.KeyChange(c.r.Context(), c.who, change, kind, reason)
	if err != nil {
		return reply{}, err
	}
	return ok(keyResponse{Success: true, KeyRotation: out})
}

type keyResponse struct {
	Success bool `json:"success"`
	conf.KeyRotation
}
