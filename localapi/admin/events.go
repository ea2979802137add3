package admin

import (
	"net/http"
	"time"

	"github.com/holdfast-config/holdfast/localapi/events"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// eventRoom tells pages what changes.
type eventRoom struct {
	*sessionRoom
	hub *events.Hub
}

func (e *eventRoom) routes() []Route {
	return []Route{{
		Name: "events", Method: http.MethodGet, Path: "/api/events", Role: conf.RoleRead,
		Summary: "Server-sent events with the names of what changes",
		handle:  e.stream, free: true, streams: true,
	}}
}

func (e *eventRoom) stream(c *call) (reply, error) {
	if e.hub == nil {
		return reply{}, conf.Errorf(conf.CodeUnsupported, "this agent has no events").WithHint("read again from time to time")
	}
	token := tokenOf(c.r)
	if e.leader != nil { // which knows the token; a role is enough here
		if _, err := e.verify(c, token); err != nil {
			return reply{}, err
		}
	}
	if c.r.Method == http.MethodHead {
		return reply{header: http.Header{"Content-Type": {"text/event-stream"}}, raw: []byte{}}, nil
	}
	if !e.hub.Reserve() {
		return reply{}, &httpError{
			err: conf.Errorf(conf.CodeRateLimited, "this agent has %d streams of events already", events.Max).
				WithHint("close pages that you do not need; a page reads again by itself without a stream"),
			header: http.Header{"Retry-After": {"30"}},
		}
	}
	return reply{stream: func(w http.ResponseWriter, r *http.Request) {
		e.hub.Serve(r.Context(), w, e.allowed(c, token))
	}}, nil
}

// relayedCheck is how often a relay asks the leader again whether a token is valid.
const relayedCheck = 30 * time.Second

// allowed returns a check whether a stream may go on. A leader that does not answer ends none.
func (e *eventRoom) allowed(c *call, token string) func() bool {
	asked := e.admission.now()
	return func() bool {
		now := e.admission.now()
		if c.session != nil && (!now.Before(c.session.Ends()) || e.admission.sessions.Ended(*c.session)) {
			return false
		}
		if e.leader != nil && now.Sub(asked) < relayedCheck {
			return true
		}
		asked = now
		_, ok, err := e.authenticate(c, token)
		return ok || err != nil
	}
}
