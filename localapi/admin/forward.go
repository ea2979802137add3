package admin

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/connlimit"
)

// Forwarder sends requests on to the leader.
type Forwarder interface {
	// Forward sends r on, with body in place of its own and with the caller's own
	// credential, once. done is false when this agent leads: then the request is
	// handled here. An error says what became of it: conf.CodeNoQuorum when
	// nothing was changed for want of a leader, conf.CodeOutcomeUnknown when the
	// leader may have carried it out. The method of r is never HEAD.
	Forward(ctx context.Context, r *http.Request, body []byte) (status int, header http.Header, reply []byte, done bool, err error)
}

// away says whether a call is to be sent to the leader: it changes something, or
// it wants a read that is as new as any.
func (h *Handler) away(c *call) bool {
	return h.o.Forward != nil && !c.route.here && (c.route.writes || c.consistent)
}

// forward sends a call to the leader. done is false when it is to be handled here.
func (h *Handler) forward(c *call) (out reply, done bool, err error) {
	r := c.r
	if r.Method == http.MethodHead {
		r = r.Clone(r.Context())
		r.Method = http.MethodGet // write leaves the body out, and knows its length by then
	}
	status, header, body, done, err := h.o.Forward.Forward(r.Context(), r, c.body)
	if err != nil {
		if conf.CodeOf(err) == conf.CodeOutcomeUnknown && !c.route.writes {
			err = conf.Errorf(conf.CodeNoQuorum, "the answer of the leader was lost: %w", err).WithHint("ask again")
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
	return reply{status: status, header: passOn(header), raw: body}, true, nil
}

// passOn picks the headers of the leader's answer that mean the same from here.
func passOn(in http.Header) http.Header {
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

// relay answers a call on an agent that knows no tokens: the leader judges the
// caller. What needs no leader to be refused is refused here, and failed attempts
// count for their true source, which the leader does not see.
func (h *Handler) relay(c *call) (reply, error) {
	source, token := connlimit.Source(c.r.RemoteAddr), c.r.Header.Get(TokenHeader)
	if wait, blocked := h.failures.blocked(source, token); blocked {
		return reply{}, h.tooMany(wait)
	}
	if token == "" || len(c.r.Header.Values(TokenHeader)) > 1 {
		h.failures.failed(source, token)
		h.unauthorized(c, noToken)
		return reply{}, unauthenticated("a token is needed")
	}
	if c.route == nil {
		return reply{}, h.unrouted(c)
	}
	if err := h.read(c); err != nil {
		return reply{}, err
	}
	done := h.limit(c)
	defer done()
	leave, err := h.turn(c)
	if err != nil {
		return reply{}, err
	}
	defer leave()
	if err := h.leaving(c); err != nil {
		return reply{}, err
	}
	out, answered, err := h.forward(c)
	switch {
	case err != nil:
		return reply{}, err
	case !answered:
		return reply{}, conf.Errorf(conf.CodeNoQuorum, "no leader is known to this agent").
			WithHint("reads of the local API go on; repeat it when a leader is known")
	case out.status == http.StatusUnauthorized:
		h.failures.failed(source, token)
	case out.status < http.StatusBadRequest:
		h.failures.worked(source, token)
	}
	return out, nil
}

// leaving turns the wish that this agent leaves into a removal that the leader
// can judge and make: this agent cannot tell whose wish it is.
func (h *Handler) leaving(c *call) error {
	if c.route.Path != leavePath {
		return nil
	}
	node := ""
	if h.o.Self != nil {
		node = h.o.Self()
	}
	if conf.CheckNode(node) != nil {
		return conf.Errorf(conf.CodeUnsupported, "this agent does not know its name in the cluster yet").
			WithHint("ask a server to remove it: POST /api/config/cluster/members/NODE/remove")
	}
	c.r = c.r.Clone(c.r.Context())
	c.r.URL.Path, c.r.URL.RawPath = "/api/config/cluster/members/"+node+"/remove", ""
	c.r.RequestURI = c.r.URL.RequestURI()
	return nil
}

// settle makes a read that wants it as new as the last change that anybody was
// told of.
func (h *Handler) settle(c *call) error {
	if !c.consistent || h.o.Consistent == nil {
		return nil
	}
	return h.o.Consistent(c.r.Context())
}

// age says how old a local answer may be, in the headers that the local API has.
func (h *Handler) age(c *call, out *reply) {
	if h.o.Age == nil || !slices.Contains(c.route.Query, consistentParam) {
		return
	}
	if out.header == nil {
		out.header = http.Header{}
	}
	source, age := h.o.Age()
	if source != "" {
		out.header.Set("X-Config-Source", source)
	}
	if age >= 0 {
		out.header.Set("X-Config-Age", strconv.FormatInt(int64(age/time.Second), 10))
	}
}

const consistentParam = "consistent"

// flag reads a parameter that is yes or no; without a value it is yes.
func (c *call) flag(name string) (bool, error) {
	if !c.query.Has(name) {
		return false, nil
	}
	switch v := c.query.Get(name); v {
	case "", "1", "true":
		return true, nil
	case "0", "false":
		return false, nil
	default:
		return false, invalid(name, "%q is neither 1 nor 0", clip(v)).WithHint("use %s=1", name)
	}
}
