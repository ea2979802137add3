package admin

import (
	"net/http"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// TokenHeader carries the token of a caller.
const TokenHeader = "X-API-Token"

// admit lets a call through, or says why not. Routes that the table does not
// have are admitted to whoever may read, so that only such callers learn that
// there is nothing.
func (h *Handler) admit(c *call) error {
	if c.route != nil && c.route.Role == "" {
		return nil
	}
	source := sourceOf(c.r.RemoteAddr)
	token := c.r.Header.Get(TokenHeader)
	if wait, blocked := h.failures.blocked(source, token); blocked {
		return rateLimited(wait)
	}
	if len(c.r.Header.Values(TokenHeader)) > 1 {
		token = "" // which one was meant is not for us to choose
	}
	who, known := conf.Principal{}, false
	if token != "" {
		who, known = h.o.Auth.Authenticate(token)
	}
	if !known {
		h.failures.failed(source)
		h.unauthorized(c)
		if token == "" {
			return unauthenticated("a token is needed")
		}
		return unauthenticated("the token is not known")
	}
	h.failures.worked(source, token)
	c.who = who
	want := conf.RoleRead
	if c.route != nil {
		want = c.route.Role
	}
	if !who.Role.Allows(want) {
		h.unauthorized(c)
		return conf.Errorf(conf.CodeDenied, "%s has the role %q, this needs %q", who.Name, who.Role, want).
			WithHint("use a token with the role %s", want)
	}
	return nil
}

func unauthenticated(message string) error {
	return &edgeError{
		err: conf.Errorf(conf.CodeUnauthenticated, "%s", message).
			WithHint("send one of the tokens in CONFIG_API_TOKENS in the %s header", TokenHeader),
		header: http.Header{"Www-Authenticate": {`X-API-Token realm="holdfast"`}},
	}
}

func (h *Handler) unauthorized(c *call) {
	if s := c.params.ByName("service"); conf.CheckService(s) == nil {
		c.audit = s
	}
	h.record(c, "unauthorized", false, "")
}

// record adds one row to the access log.
func (h *Handler) record(c *call, action string, success bool, reason string) {
	method := c.r.Method
	if len(method) > 16 {
		method = method[:16]
	}
	if reason != "" {
		reason = ": " + reason
	}
	h.o.Audit.Record(conf.Access{
		UserID: c.who.Name, Action: action, Service: c.audit, Success: success,
		Reason: method + " " + c.name() + reason, Timestamp: conf.FormatTime(h.o.Now()),
	})
}
