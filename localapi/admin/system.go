package admin

import (
	_ "embed"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/connlimit"
)

//go:embed openapi.json
var openAPIDocument []byte

// OpenAPI is the OpenAPI 3.1 document of the admin API and of the local API.
func OpenAPI() []byte { return append([]byte(nil), openAPIDocument...) }

func (h *Handler) openAPI(*call) (reply, error) { return reply{raw: openAPIDocument}, nil }

// health answers 200 whatever it has to tell: the body says how the agent is,
// the status only that it answers. /readyz of the local API is for probes.
func (h *Handler) health(*call) (reply, error) { return ok(h.o.Health.Health()) }

func (h *Handler) me(c *call) (reply, error) { return ok(c.who) }

// rebuild is open in the table, because it has a token of its own. A wrong one
// counts as a failed attempt like any other.
func (h *Handler) rebuild(c *call) (reply, error) {
	var req rebuildRequest
	if len(c.body) > 0 {
		if err := conf.DecodeStrict(c.body, len(c.body), &req); err != nil {
			return reply{}, err
		}
	}
	source := connlimit.Source(c.r.RemoteAddr)
	if wait, blocked := h.failures.blocked(source, req.Token); blocked {
		return reply{}, h.tooMany(wait)
	}
	err := error(conf.Errorf(conf.CodeDenied, "a rebuild needs the rebuild token"))
	if req.Token != "" {
		err = h.o.Rebuilder.Rebuild(c.r.Context(), req.Token)
	}
	if conf.CodeOf(err) == conf.CodeDenied {
		h.failures.failed(source, req.Token)
		h.unauthorized(c, "wrong rebuild token")
		return reply{}, conf.Errorf(conf.CodeDenied, "a rebuild needs the rebuild token").
			WithHint(`send {"token": "..."} with the value of REBUILD_TOKEN`)
	}
	if err != nil {
		return reply{}, err
	}
	return ok(doneResponse{Success: true})
}
