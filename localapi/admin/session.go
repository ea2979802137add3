package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/holdfast-config/holdfast/localapi/session"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const sessionPath = "/api/session"

// resume sets the token header from the session of a browser. A browser sends the
// cookie by itself: it counts only in a request that a page of this origin made,
// or that the user typed.
func (a *admission) resume(c *call) error {
	if len(c.r.Header.Values(TokenHeader)) > 0 || c.route != nil && c.route.Path == sessionPath && c.route.Method != http.MethodGet {
		return nil
	}
	s, ok := a.sessions.Find(c.r)
	if !ok {
		return nil
	}
	if !session.SameOrigin(c.r) {
		a.unauthorized(c, "session used from another origin")
		return conf.Errorf(conf.CodeDenied, "the session counts only for pages of this address").
			WithHint("open the page from the agent itself; a program sends its token in the %s header", TokenHeader)
	}
	c.session, c.renewal = &s, a.sessions.Renewal(c.r, s)
	c.r = c.r.Clone(c.r.Context())
	c.r.Header.Set(TokenHeader, s.Token)
	return nil
}

// sessionRoom logs browsers in and out.
type sessionRoom struct {
	admission *admission
	auth      Authenticator
	leader    Forwarder // with Options.Relay: it has the list of tokens
	links     *session.Links
	version   string
	insecure  bool
}

func newSessionRoom(o *Options, a *admission) *sessionRoom {
	r := &sessionRoom{admission: a, auth: o.Auth, links: o.Links, version: o.Version, insecure: o.Insecure}
	if o.Relay {
		r.leader = o.Forward
	}
	return r
}

func (s *sessionRoom) routes() []Route {
	return []Route{
		{
			Name: "getSession", Method: http.MethodGet, Path: sessionPath,
			Summary: "Whose session a browser has, and at which agent; open without one",
			handle:  s.get,
		},
		{
			Name: "createSession", Method: http.MethodPost, Path: sessionPath,
			Summary: "Log a browser in; needs a token or a one-time link in the body, and answers with a cookie",
			handle:  decoded(s.create), body: smallBody,
		},
		{
			Name: "deleteSession", Method: http.MethodDelete, Path: sessionPath, Summary: "Log a browser out",
			handle: s.remove,
		},
	}
}

type sessionRequest struct {
	Token string `json:"token"`
	Link  string `json:"link"`
}

// sessionResponse is who the caller is, and the agent that the caller asked.
type sessionResponse struct {
	Success  bool `json:"success"`
	SignedIn bool `json:"signed_in"`
	*conf.Principal
	SessionEnds string `json:"session_ends,omitempty"`
	NodeID      string `json:"node_id,omitempty"` // this and Version for who is known only
	Version     string `json:"version,omitempty"`
	Insecure    bool   `json:"insecure"`
}

func (s *sessionRoom) response(c *call, who *conf.Principal, ends time.Time) sessionResponse {
	out := sessionResponse{Success: true, SignedIn: who != nil, Principal: who, Insecure: s.insecure && c.r.TLS == nil}
	if who != nil {
		out.NodeID, out.Version = s.admission.self(), s.version
		out.SessionEnds = who.ExpiresAt
		if t, err := conf.ParseTime(who.ExpiresAt); !ends.IsZero() && (err != nil || ends.Before(t)) {
			out.SessionEnds = conf.FormatTime(ends)
		}
	}
	return out
}

// get tells a page who it is. Nobody is an answer, too: the page asks first.
func (s *sessionRoom) get(c *call) (reply, error) {
	token := tokenOf(c.r)
	if token == "" {
		return answer(s.response(c, nil, time.Time{}), nil)
	}
	who, err := s.verify(c, token)
	if err != nil {
		return reply{}, err
	}
	var ends time.Time
	if c.session != nil {
		ends = c.session.Ends()
	}
	return answer(s.response(c, &who, ends), nil)
}

// create changes a token into a cookie that scripts of a page cannot read.
func (s *sessionRoom) create(c *call, req sessionRequest) (reply, error) {
	a := s.admission
	if req.Link != "" {
		if req.Token != "" {
			return reply{}, conf.Errorf(conf.CodeMalformed, "a token and a link are given").WithHint("send one of them")
		}
		if err := a.blocked(c, ""); err != nil {
			return reply{}, err
		}
		token, ok := s.links.Take(req.Link)
		if !ok {
			a.failed(c, "", "wrong or used link")
			err := unauthenticated("the link was used already, or is older than 60 s")
			err.err = err.err.WithHint("log in with a token, or start holdfast dev again for a new link")
			return reply{}, err
		}
		req.Token = token
	}
	who, err := s.verify(c, req.Token)
	if err != nil {
		return reply{}, err
	}
	cookie, begun := a.sessions.Begin(c.r, req.Token)
	return reply{header: http.Header{"Set-Cookie": {cookie}}, body: s.response(c, &who, begun.Ends())}, nil
}

// verify checks a token, and counts the ones that are wrong.
func (s *sessionRoom) verify(c *call, token string) (conf.Principal, error) {
	a := s.admission
	if err := a.blocked(c, token); err != nil {
		return conf.Principal{}, err
	}
	who, ok, err := s.authenticate(c, token)
	if err != nil {
		return who, err
	}
	if !ok {
		return who, a.wrongToken(c, token, who)
	}
	a.accepted(c, token, who)
	return who, nil
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
	return reply{header: http.Header{"Set-Cookie": {s.admission.sessions.End(c.r)}}, body: doneResponse{Success: true}}, nil
}
