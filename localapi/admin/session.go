package admin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// SessionCookie is the cookie that a browser gets for a token.
const SessionCookie = "holdfast_session"

const (
	sessionPath = "/api/session"
	sessionLife = 12 * time.Hour
	sessionIdle = time.Hour
	maxSessions = 1024
	maxPerToken = 64 // a caller that logs in again and again ends only its own
)

// sessions are the browser logins at this agent. A session refers to a token, and
// each request is authorized by the token, so what ends the token ends its
// sessions. They are in memory and end with the agent.
type sessions struct {
	now func() time.Time

	mu  sync.Mutex
	all map[[sha256.Size]byte]*browserSession // by the hash of the cookie
}

type browserSession struct {
	token       string
	start, used time.Time
}

func newSessions(now func() time.Time) *sessions {
	return &sessions{now: now, all: map[[sha256.Size]byte]*browserSession{}}
}

// open starts a session and returns the cookie's value. A full table drops the
// least recently used session, and so does a token with too many.
func (s *sessions) open(token string) string {
	var id [32]byte
	_, _ = rand.Read(id[:]) // never fails
	cookie := base64.RawURLEncoding.EncodeToString(id[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	var oldest, own [sha256.Size]byte // least recently used, of all and of this token
	same := 0
	for k, b := range s.all {
		if b.ended(now) {
			delete(s.all, k)
			continue
		}
		if o := s.all[oldest]; o == nil || b.used.Before(o.used) {
			oldest = k
		}
		if b.token != token {
			continue
		}
		same++
		if o := s.all[own]; o == nil || b.used.Before(o.used) {
			own = k
		}
	}
	switch {
	case same >= maxPerToken:
		delete(s.all, own)
	case len(s.all) >= maxSessions:
		delete(s.all, oldest)
	}
	s.all[sha256.Sum256([]byte(cookie))] = &browserSession{token: token, start: now, used: now}
	return cookie
}

func (b *browserSession) ended(now time.Time) bool {
	return now.Sub(b.start) >= sessionLife || now.Sub(b.used) >= sessionIdle
}

// token returns the token of the session with this cookie, "" when there is none.
func (s *sessions) token(cookie string) string {
	key := sha256.Sum256([]byte(cookie))
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.all[key]
	if b == nil {
		return ""
	}
	now := s.now()
	if b.ended(now) {
		delete(s.all, key)
		return ""
	}
	b.used = now
	return b.token
}

func (s *sessions) end(cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, sha256.Sum256([]byte(cookie)))
}

// resume sets the token header from the session of a browser. A browser sends the
// cookie by itself: it counts only in a request that a page of this origin made,
// or that the user typed.
func (a *admission) resume(c *call) error {
	if len(c.r.Header.Values(TokenHeader)) > 0 || c.route != nil && c.route.Path == sessionPath {
		return nil
	}
	given := c.r.CookiesNamed(SessionCookie)
	if len(given) != 1 {
		return nil
	}
	token := a.sessions.token(given[0].Value)
	if token == "" {
		return nil
	}
	if !sameOrigin(c.r) {
		a.unauthorized(c, "session used from another origin")
		return conf.Errorf(conf.CodeDenied, "the session counts only for pages of this address").
			WithHint("open the page from the agent itself; a program sends its token in the %s header", TokenHeader)
	}
	c.cookie = given[0].Value
	c.r = c.r.Clone(c.r.Context())
	c.r.Header.Set(TokenHeader, token)
	return nil
}

// sameOrigin reports whether a browser says that a request comes from a page of
// this origin. Without any such header only reads are accepted.
func sameOrigin(r *http.Request) bool {
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin":
	case "none":
		return safe
	case "":
		if r.Header.Get("Origin") == "" {
			return safe
		}
	default:
		return false
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host == r.Host
}

// sessionRoom logs browsers in and out.
type sessionRoom struct {
	admission *admission
	auth      Authenticator
	leader    Forwarder // with Options.Relay: it has the list of tokens
}

func newSessionRoom(o *Options, a *admission) *sessionRoom {
	r := &sessionRoom{admission: a, auth: o.Auth}
	if o.Relay {
		r.leader = o.Forward
	}
	return r
}

func (s *sessionRoom) routes() []Route {
	return []Route{
		{
			Name: "createSession", Method: http.MethodPost, Path: sessionPath,
			Summary: "Log a browser in; needs a token in the body, and answers with a cookie",
			handle:  decoded(s.create), body: smallBody,
		},
		{
			Name: "deleteSession", Method: http.MethodDelete, Path: sessionPath, Summary: "Log a browser out",
			handle: s.remove,
		},
	}
}

type sessionResponse struct {
	Success bool `json:"success"`
	conf.Principal
	SessionEnds string `json:"session_ends"`
}

// create changes a token into a cookie that scripts of a page cannot read.
func (s *sessionRoom) create(c *call, req tokenRequest) (reply, error) {
	a := s.admission
	if err := a.blocked(c, req.Token); err != nil {
		return reply{}, err
	}
	who, ok, err := s.authenticate(c, req.Token)
	if err != nil {
		return reply{}, err
	}
	if !ok {
		return reply{}, a.wrongToken(c, req.Token, who)
	}
	a.accepted(c, req.Token, who)
	return reply{
		header: http.Header{"Set-Cookie": {cookie(c.r, a.sessions.open(req.Token), int(sessionLife.Seconds()))}},
		body:   sessionResponse{Success: true, Principal: who, SessionEnds: conf.FormatTime(a.now().Add(sessionLife))},
	}, nil
}

// authenticate checks a token here, or at the leader.
func (s *sessionRoom) authenticate(c *call, token string) (who conf.Principal, ok bool, err error) {
	if token == "" || !printable(token) {
		return who, false, nil
	}
	if s.leader == nil {
		who, ok = s.auth.Authenticate(token)
		return who, ok, nil
	}
	r := c.r.Clone(context.WithValue(c.r.Context(), targetKey{}, Target{Route: "me"}))
	r.Method, r.URL = http.MethodGet, &url.URL{Path: mePath}
	r.RequestURI = mePath
	r.Header.Set(TokenHeader, token)
	status, _, body, done, err := s.leader.Forward(r.Context(), r, nil)
	switch {
	case err != nil:
		return who, false, err
	case !done:
		return who, false, conf.Errorf(conf.CodeNoQuorum, "no leader is known to this agent").WithHint("repeat it when a leader is known")
	case status == http.StatusUnauthorized:
		return who, false, nil
	case status != http.StatusOK:
		return who, false, conf.Errorf(conf.CodeNoQuorum, "the leader answered with the status %d", status).WithHint("retry in a moment")
	}
	err = json.Unmarshal(body, &who)
	return who, true, err
}

// printable reports whether s may be part of a header.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return len(s) <= 1024
}

// remove ends a session. The cookie is proof enough.
func (s *sessionRoom) remove(c *call) (reply, error) {
	for _, given := range c.r.CookiesNamed(SessionCookie) {
		s.admission.sessions.end(given.Value)
	}
	return reply{header: http.Header{"Set-Cookie": {cookie(c.r, "", -1)}}, body: doneResponse{Success: true}}, nil
}

func cookie(r *http.Request, value string, age int) string {
	c := http.Cookie{
		Name: SessionCookie, Value: value, Path: "/", MaxAge: age, HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode,
	}
	return c.String()
}
