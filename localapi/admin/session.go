package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/connlimit"
)

// SessionCookie is the cookie that stands for a token in a browser.
const SessionCookie = "holdfast_session"

const (
	sessionPath = "/api/session"
	sessionLife = 12 * time.Hour
	sessionIdle = time.Hour
	maxSessions = 1024
	maxOfOne    = 64 // of one token: who logs in all the time logs out nobody else
)

// sessions are the browsers that are logged in at this agent. A session is
// another name for a token: each request is judged by the token, so that what
// ends the token ends its sessions. They live in memory and end with the agent.
type sessions struct {
	now func() time.Time

	mu  sync.Mutex
	all map[[sha256.Size]byte]*browserSession // by the hash of the cookie
}

type browserSession struct {
	token       string
	began, seen time.Time
}

func newSessions(now func() time.Time) *sessions {
	return &sessions{now: now, all: map[[sha256.Size]byte]*browserSession{}}
}

// open begins a session and gives the cookie's value. A full table gives up the
// one that was not seen for longest, and so does a token that has too many.
func (s *sessions) open(token string) string {
	var id [32]byte
	_, _ = rand.Read(id[:]) // never fails
	cookie := base64.RawURLEncoding.EncodeToString(id[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	var oldest, own [sha256.Size]byte // seen longest ago, of all and of this token
	same := 0
	for k, b := range s.all {
		if b.ended(now) {
			delete(s.all, k)
			continue
		}
		if o := s.all[oldest]; o == nil || b.seen.Before(o.seen) {
			oldest = k
		}
		if b.token != token {
			continue
		}
		same++
		if o := s.all[own]; o == nil || b.seen.Before(o.seen) {
			own = k
		}
	}
	switch {
	case same >= maxOfOne:
		delete(s.all, own)
	case len(s.all) >= maxSessions:
		delete(s.all, oldest)
	}
	s.all[sha256.Sum256([]byte(cookie))] = &browserSession{token: token, began: now, seen: now}
	return cookie
}

func (b *browserSession) ended(now time.Time) bool {
	return now.Sub(b.began) >= sessionLife || now.Sub(b.seen) >= sessionIdle
}

// token is what the session of this cookie stands for, "" when there is none.
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
	b.seen = now
	return b.token
}

func (s *sessions) end(cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, sha256.Sum256([]byte(cookie)))
}

// resume puts the token of a session where a program would have put it. A browser
// sends the cookie without being asked: it counts only in a request that a page of
// this origin made, or that the user typed.
func (h *Handler) resume(c *call) error {
	if len(c.r.Header.Values(TokenHeader)) > 0 || c.route != nil && c.route.Path == sessionPath {
		return nil
	}
	given := c.r.CookiesNamed(SessionCookie)
	if len(given) != 1 {
		return nil
	}
	token := h.sessions.token(given[0].Value)
	if token == "" {
		return nil
	}
	if !sameOrigin(c.r) {
		return conf.Errorf(conf.CodeDenied, "the session counts only for pages of this address").
			WithHint("open the page from the agent itself; a program sends its token in the %s header", TokenHeader)
	}
	c.cookie = given[0].Value
	c.r = c.r.Clone(c.r.Context())
	c.r.Header.Set(TokenHeader, token)
	return nil
}

// sameOrigin says whether a browser vouches for where a request comes from. What
// has no word from a browser may only read.
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

type sessionRequest struct {
	Token string `json:"token"`
}

type sessionResponse struct {
	Success bool `json:"success"`
	conf.Principal
	SessionEnds string `json:"session_ends"`
}

// createSession changes a token into a cookie that scripts of a page cannot read.
func (h *Handler) createSession(c *call) (reply, error) {
	var req sessionRequest
	if err := conf.DecodeStrict(c.body, len(c.body), &req); err != nil {
		return reply{}, err
	}
	source := connlimit.Source(c.r.RemoteAddr)
	if wait, blocked := h.failures.blocked(source, req.Token); blocked {
		return reply{}, h.tooMany(wait)
	}
	who, known, err := h.whose(c, req.Token)
	if err != nil {
		return reply{}, err
	}
	if !known {
		h.failures.failed(source, req.Token)
		c.who.Name = who.Name
		if who.Name != "" {
			h.unauthorized(c, endedToken)
			return reply{}, lapsed()
		}
		h.unauthorized(c, wrongToken)
		return reply{}, unauthenticated("the token is not known")
	}
	h.failures.worked(source, req.Token)
	c.who = who
	out := reply{
		header: http.Header{},
		body:   sessionResponse{Success: true, Principal: who, SessionEnds: conf.FormatTime(h.o.Now().Add(sessionLife))},
	}
	out.header.Set("Set-Cookie", cookie(c.r, h.sessions.open(req.Token), int(sessionLife.Seconds())).String())
	return out, nil
}

// whose finds out whose a token is; an agent that knows none asks the leader.
func (h *Handler) whose(c *call, token string) (conf.Principal, bool, error) {
	var who conf.Principal
	if token == "" || !printable(token) {
		return who, false, nil
	}
	if !h.o.Relay {
		who, known := h.o.Auth.Authenticate(token)
		return who, known, nil
	}
	r := c.r.Clone(c.r.Context())
	r.Method, r.URL = http.MethodGet, &url.URL{Path: "/api/config/me"}
	r.RequestURI = r.URL.Path
	r.Header.Set(TokenHeader, token)
	status, _, body, done, err := h.o.Forward.Forward(r.Context(), r, nil)
	switch {
	case err != nil:
		return who, false, err
	case !done:
		return who, false, conf.Errorf(conf.CodeNoQuorum, "no leader is known to this agent").WithHint("repeat it when a leader is known")
	case status == http.StatusUnauthorized:
		return who, false, nil
	case status != http.StatusOK:
		return who, false, conf.Errorf(conf.CodeNoQuorum, "the leader answered with the status %d", status).WithHint("try again in a moment")
	}
	return who, true, json.Unmarshal(body, &who)
}

// printable says whether s can stand in a header.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return len(s) <= 1024
}

// deleteSession logs a browser out. It needs no token: whoever has the cookie may
// give it up.
func (h *Handler) deleteSession(c *call) (reply, error) {
	for _, given := range c.r.CookiesNamed(SessionCookie) {
		h.sessions.end(given.Value)
	}
	out := reply{header: http.Header{}, body: doneResponse{Success: true}}
	out.header.Set("Set-Cookie", cookie(c.r, "", -1).String())
	return out, nil
}

func cookie(r *http.Request, value string, age int) *http.Cookie {
	return &http.Cookie{
		Name: SessionCookie, Value: value, Path: "/", MaxAge: age, HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode,
	}
}
