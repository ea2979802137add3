package admin

import (
	"net/http"
	"net/netip"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/connlimit"
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
	source := connlimit.Source(c.r.RemoteAddr)
	token := c.r.Header.Get(TokenHeader)
	if wait, blocked := h.failures.blocked(source, token); blocked {
		return h.tooMany(wait)
	}
	if len(c.r.Header.Values(TokenHeader)) > 1 {
		token = "" // which one was meant is not for us to choose
	}
	who, known := conf.Principal{}, false
	if token != "" {
		who, known = h.o.Auth.Authenticate(token)
	}
	if !known {
		if c.cookie != "" { // its token has ended
			h.sessions.end(c.cookie)
		}
		h.failures.failed(source, token)
		c.who.Name = who.Name
		switch {
		case token == "":
			h.unauthorized(c, noToken)
			return unauthenticated("a token is needed")
		case who.Name != "":
			h.unauthorized(c, endedToken)
			return lapsed()
		}
		h.unauthorized(c, wrongToken)
		return unauthenticated("the token is not known")
	}
	h.failures.worked(source, token)
	c.who = who
	want := conf.RoleRead
	if c.route != nil {
		want = c.route.Role
	}
	if !who.Role.Allows(want) {
		h.unauthorized(c, "needs "+string(want))
		return conf.Errorf(conf.CodeDenied, "%s has the role %q, this needs %q", who.Name, who.Role, want).
			WithHint("use a token with the role %s", want)
	}
	return nil
}

func unauthenticated(message string) *edgeError {
	return &edgeError{
		err: conf.Errorf(conf.CodeUnauthenticated, "%s", message).
			WithHint("send one of the tokens in CONFIG_API_TOKENS, or one that holdfast token create made, in the %s header", TokenHeader),
		header: http.Header{"Www-Authenticate": {`X-API-Token realm="holdfast"`}},
	}
}

func lapsed() error {
	err := unauthenticated("the token has expired or was revoked")
	err.err = err.err.WithHint("holdfast token create --role config.read --name NAME makes a new one")
	return err
}

// Why a caller was refused, as the access log has it.
const (
	noToken    = "no token"
	wrongToken = "wrong token"
	endedToken = "token expired or revoked"
)

func (h *Handler) unauthorized(c *call, why string) {
	if s := c.params.ByName("service"); conf.CheckService(s) == nil {
		c.audit = s
	}
	h.record(c, "unauthorized", false, ": "+why)
}

// record adds one row to the access log. Its reason says what was asked for, from
// where, and of which agent: whoever looks for those who guess needs it.
func (h *Handler) record(c *call, action string, success bool, why string) {
	method := c.r.Method
	if len(method) > 16 {
		method = method[:16]
	}
	from, at := CallerAddr(c.r), ""
	if h.o.Caller != nil {
		from = h.o.Caller(c.r)
	}
	if h.o.Self != nil {
		at = " at " + h.o.Self()
	}
	h.o.Audit.Record(conf.Access{
		UserID: c.who.Name, Action: action, Service: c.audit, Success: success,
		Reason: method + " " + c.name() + why + ", from " + from + at, Timestamp: conf.FormatTime(h.o.Now()),
	})
}

// CallerAddr is the address that a request came from, without its port.
func CallerAddr(r *http.Request) string {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "an unknown address"
	}
	return ap.Addr().Unmap().String()
}
