package admin

import (
	"context"
	"net/http"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Keys reports and rotates the keys of the cluster. Changes are requested on the
// leader.
type Keys interface {
	// Keys returns the keys and the state of rotations, also without a leader.
	Keys(ctx context.Context) (conf.KeysStatus, error)
	// KeyChange makes one of the changes of conf (conf.KeysRotate and so on) and
	// returns the state of the rotation of that kind.
	KeyChange(ctx context.Context, who conf.Principal, change, kind, reason string) (conf.KeyRotation, error)
}

// keyRoom reports and rotates the keys of the cluster.
type keyRoom struct{ keys Keys }

func (k *keyRoom) routes() []Route {
	change := func(name, change, summary string) Route {
		return Route{
			Name: name, Method: http.MethodPost, Path: "/api/config/keys/:kind/" + change, Role: conf.RoleWrite, Summary: summary,
			Query: []string{"reason"}, handle: k.change(change), writes: true,
		}
	}
	routes := []Route{
		{
			Name: "keys", Method: http.MethodGet, Path: "/api/config/keys", Role: conf.RoleRead,
			Summary: "The keys of the cluster, who holds them, and where rotations stand",
			handle:  func(c *call) (reply, error) { return answer(k.keys.Keys(c.r.Context())) },
		},
		change("rotateKey", conf.KeysRotate, "Put a new key in the place of one: master, hmac, signing or ca"),
		change("prepareKey", conf.KeysPrepare, "Hand a new key out, and wait with its use until it is rotated"),
		change("abortKey", conf.KeysAbort, "Give up a new key that is not in use yet"),
		change("retireKey", conf.KeysRetire, "End the time of the old key now, when nothing needs it any more"),
	}
	if k.keys == nil {
		return unsupported(routes, conf.Errorf(conf.CodeUnsupported, "this agent does not report its keys").WithHint("GET /openapi.json lists what there is"))
	}
	return routes
}

type keyResponse struct {
	Success bool `json:"success"`
	conf.KeyRotation
}

func (k *keyRoom) change(change string) func(*call) (reply, error) {
	return func(c *call) (reply, error) {
		kind := c.params.ByName("kind")
		if conf.CheckKeyKind(kind) != nil {
			return reply{}, conf.Errorf(conf.CodeNotFound, "there is no key of the kind %q", conf.Clip(kind)).WithHint("use master, hmac, signing or ca")
		}
		reason := c.query.Get("reason")
		if len(reason) > conf.MaxReason {
			return reply{}, invalid("reason", "is over %d bytes", conf.MaxReason)
		}
		out, err := k.keys.KeyChange(c.r.Context(), c.who, change, kind, reason)
		return answer(keyResponse{Success: true, KeyRotation: out}, err)
	}
}
