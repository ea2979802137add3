package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Forwarder sends requests to the leader.
type Forwarder interface {
	// Forward sends r with body in place of its own and with the caller's own
	// credential, once. TargetOf(ctx) says what it is about. done is false when
	// this agent is the leader: then the request is handled here. The code of an
	// error is the outcome of the request: conf.CodeNoQuorum when nothing was
	// changed because there is no leader, conf.CodeOutcomeUnknown when the leader
	// may have executed it. The method of r is never HEAD.
	Forward(ctx context.Context, r *http.Request, body []byte) (status int, header http.Header, reply []byte, done bool, err error)
}

// forward sends a call to the leader. done is false when it is to be handled here.
func (h *Handler) forward(c *call) (out reply, done bool, err error) {
	r := c.r
	if r.Method == http.MethodHead {
		r = r.Clone(r.Context())
		r.Method = http.MethodGet // write leaves the body out and needs its length
	}
	status, header, body, done, err := h.o.Forward.Forward(r.Context(), r, c.body)
	if err != nil {
		if conf.CodeOf(err) == conf.CodeOutcomeUnknown && !c.route.writes {
			err = conf.Errorf(conf.CodeNoQuorum, "the response of the leader was lost: %w", err).WithHint("retry")
		}
		return reply{}, false, err
	}
	if !done {
		return reply{}, false, nil
	}
	if status < 200 || status > 599 {
		return reply{}, false, conf.Errorf(conf.CodeInternal, "the leader answered with the status %d", status)
	}
	c.forwarded = true
	if body == nil {
		body = []byte{}
	}
	return reply{status: status, header: leaderHeader(header), raw: body}, true, nil
}

// leaderHeader returns the headers of the leader's response that mean the same
// from here.
func leaderHeader(in http.Header) http.Header {
	out := http.Header{}
	for k, v := range in {
		switch k = http.CanonicalHeaderKey(k); {
		case k == "X-Request-Id":
			out["X-Leader-Request-Id"] = v
		case slices.Contains([]string{"Allow", "Content-Type", "Etag", "Retry-After", "Www-Authenticate"}, k), strings.HasPrefix(k, "X-Config-"):
			out[k] = v
		}
	}
	return out
}

// proxyToLeader answers a call on an agent that has no list of tokens: the leader
// authorizes the caller. Failed attempts count here for their client address,
// which the leader does not see.
func (h *Handler) proxyToLeader(c *call) (reply, error) {
	if c.route.Name == RouteLeaveCluster {
		if err := leaveAsRemove(c, h.o.Self()); err != nil {
			return reply{}, err
		}
	}
	out, answered, err := h.forward(c)
	token := c.r.Header.Get(TokenHeader)
	switch {
	case err != nil:
		return reply{}, err
	case !answered:
		return reply{}, conf.Errorf(conf.CodeNoQuorum, "no leader is known to this agent").
			WithHint("reads of the local API continue; retry when a leader is known")
	case out.status == http.StatusUnauthorized:
		h.admission.limiter.Failed(addressOf(c), token)
	case out.status < http.StatusBadRequest:
		h.admission.limiter.Accepted(addressOf(c), token)
	}
	return out, nil
}

// leaveAsRemove turns a request to leave into one to remove this node, which the
// leader can authorize.
func leaveAsRemove(c *call, node string) error {
	if conf.CheckNode(node) != nil {
		return conf.Errorf(conf.CodeUnsupported, "this agent has no node id in the cluster yet").
			WithHint("remove it at a server: POST /api/config/cluster/members/NODE/remove")
	}
	c.r = c.r.Clone(context.WithValue(c.r.Context(), targetKey{}, Target{Route: RouteRemoveMember, Node: node}))
	c.r.URL.Path, c.r.URL.RawPath = strings.Replace(removePath, ":node", node, 1), ""
	c.r.RequestURI = c.r.URL.RequestURI()
	return nil
}
