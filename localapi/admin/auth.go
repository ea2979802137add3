package admin

import (
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/holdfast-config/holdfast/localapi/authlimit"
	"github.com/holdfast-config/holdfast/localapi/fairqueue"
	"github.com/holdfast-config/holdfast/localapi/session"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/connlimit"
)

// TokenHeader carries the token of a caller.
const TokenHeader = "X-API-Token"

// Authenticator checks API tokens in constant time. For a token that has expired
// or was revoked, it returns false and the name alone.
type Authenticator interface {
	Authenticate(token string) (conf.Principal, bool)
}

// Auditor writes the access log. Record may block for a moment; then it may drop
// a row and count the loss.
type Auditor interface {
	Record(row conf.Access)
}

// admission authenticates and authorizes callers, and writes the access log.
type admission struct {
	auth     Authenticator
	audit    Auditor
	limiter  *authlimit.Limiter
	sessions *session.Keeper
	share    *Limits
	now      func() time.Time
	caller   func(*http.Request) string
	self     func() string
	relay    bool
}

func newAdmission(o *Options) *admission {
	return &admission{
		auth: o.Auth, audit: o.Audit, limiter: authlimit.New(o.FailRate, o.FailBurst, o.Now), sessions: session.New(o.SessionKeys, o.Now),
		share: o.Limits, now: o.Now, caller: o.Caller, self: o.Self, relay: o.Relay,
	}
}

// tokenOf is the token that a call carries; "" for more than one.
func tokenOf(r *http.Request) string {
	if len(r.Header.Values(TokenHeader)) > 1 {
		return ""
	}
	return r.Header.Get(TokenHeader)
}

// admit accepts a call or returns why not. A path without a route needs the read
// role, so that only readers learn that it does not exist.
func (a *admission) admit(c *call) error {
	if c.route != nil && c.route.Role == "" {
		return nil
	}
	if err := a.blocked(c, c.r.Header.Get(TokenHeader)); err != nil {
		return err
	}
	token, who, ok := tokenOf(c.r), conf.Principal{}, false
	if token != "" {
		who, ok = a.auth.Authenticate(token)
	}
	switch {
	case token == "":
		a.failed(c, token, noToken)
		return unauthenticated("a token is needed")
	case !ok:
		return a.wrongToken(c, token, who)
	}
	a.accepted(c, token, who)
	want := conf.RoleRead
	if c.route != nil {
		want = c.route.Role
	}
	if !c.who.Role.Allows(want) {
		a.unauthorized(c, "needs "+string(want))
		return conf.Errorf(conf.CodeDenied, "%s has the role %q, this needs %q", c.who.Name, c.who.Role, want).
			WithHint("use a token with the role %s", want)
	}
	return nil
}

// admitUnverified is admit on an agent without a list of tokens: it checks only
// that there is one token.
func (a *admission) admitUnverified(c *call) error {
	shown := c.r.Header.Get(TokenHeader)
	if err := a.blocked(c, shown); err != nil {
		return err
	}
	if tokenOf(c.r) == "" {
		a.failed(c, shown, noToken)
		return unauthenticated("a token is needed")
	}
	return nil
}

// wrongToken rejects a token. who has the name of one that has ended.
func (a *admission) wrongToken(c *call, token string, who conf.Principal) error {
	c.who.Name = who.Name
	if who.Name != "" {
		a.failed(c, token, endedToken)
		return expiredTokenError()
	}
	a.failed(c, token, wrongToken)
	return unauthenticated("the token is not known")
}

func (a *admission) accepted(c *call, token string, who conf.Principal) {
	a.limiter.Accepted(addressOf(c), token)
	c.who = who
}

func unauthenticated(message string) *httpError {
	return &httpError{
		err: conf.Errorf(conf.CodeUnauthenticated, "%s", message).
			WithHint("send one of the tokens in CONFIG_API_TOKENS, or one that holdfast token create made, in the %s header", TokenHeader),
		header: http.Header{"Www-Authenticate": {`X-API-Token realm="holdfast"`}},
	}
}

func expiredTokenError() error {
	err := unauthenticated("the token has expired or was revoked")
	err.err = err.err.WithHint("holdfast token create --role config.read --name NAME makes a new one")
	return err
}

// Reasons for the access log.
const (
	noToken    = "no token"
	wrongToken = "wrong token"
	endedToken = "token expired or revoked"
)

func addressOf(c *call) netip.Prefix { return connlimit.Source(c.r.RemoteAddr) }

// blocked rejects an attempt without checking its token, after too many from the
// same address that failed.
func (a *admission) blocked(c *call, token string) error {
	wait, blocked := a.limiter.Blocked(addressOf(c), token)
	if !blocked {
		return nil
	}
	a.share.attempts.Add(1)
	secs := max(1, int(math.Ceil(wait.Seconds())))
	return &httpError{
		err: conf.Errorf(conf.CodeRateLimited, "too many failed attempts from this address").
			WithHint("wait %d s, then send the right token in the X-API-Token header", secs),
		header: http.Header{"Retry-After": {strconv.Itoa(secs)}},
	}
}

// failed counts a failed attempt and writes it to the access log.
func (a *admission) failed(c *call, token, why string) {
	a.limiter.Failed(addressOf(c), token)
	a.unauthorized(c, why)
}

func (a *admission) unauthorized(c *call, why string) {
	if s := c.service(); conf.CheckService(s) == nil {
		c.audit = s
	}
	a.record(c, "unauthorized", false, ": "+why)
}

// record adds one row to the access log. Its reason has the route, the client
// address and the agent, which a search for attempts to guess tokens needs.
func (a *admission) record(c *call, action string, success bool, why string) {
	method := c.r.Method
	if len(method) > 16 {
		method = method[:16]
	}
	at := ""
	if self := a.self(); self != "" {
		at = " at " + self
	}
	a.audit.Record(conf.Access{
		UserID: c.who.Name, Action: action, Service: c.audit, Success: success,
		Reason: method + " " + c.name() + why + ", from " + a.caller(c.r) + at, Timestamp: conf.FormatTime(a.now()),
	})
}

// flowKey is the flow of a request: its token when that is accepted, so that
// callers behind one proxy have a flow each; else the client address.
func (a *admission) flowKey(c *call) fairqueue.Key {
	token := c.r.Header.Get(TokenHeader)
	if token != "" && (c.who.Name != "" || a.relay && a.limiter.WasAccepted(addressOf(c), token)) {
		return fairqueue.KeyOf("token " + token)
	}
	return fairqueue.KeyOf("address " + addressOf(c).String())
}

// CallerAddr is the client address of a request, without its port.
func CallerAddr(r *http.Request) string {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "an unknown address"
	}
	return ap.Addr().Unmap().String()
}
