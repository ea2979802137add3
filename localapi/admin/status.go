package admin

import (
	"context"
	_ "embed"
	"net/http"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// HealthReporter returns this agent's health from memory.
type HealthReporter interface {
	Health() conf.Health
}

// Rebuilder makes a new store with a new epoch. It checks its own token, in
// constant time: conf.CodeDenied for a wrong one.
type Rebuilder interface {
	Rebuild(ctx context.Context, token string) error
}

//go:embed openapi.json
var openAPIDocument []byte

// OpenAPI is the OpenAPI 3.1 document of the admin API and of the local API.
func OpenAPI() []byte { return append([]byte(nil), openAPIDocument...) }

// statusRoom is what is open without an API token.
type statusRoom struct {
	health    HealthReporter
	rebuilder Rebuilder
	admission *admission
}

func (s *statusRoom) routes() []Route {
	return []Route{
		{
			Name: "health", Method: http.MethodGet, Path: "/api/config/health", Summary: "Health of this agent",
			// 200 whatever the health is: the body says it. /readyz of the local API is for probes.
			handle: func(*call) (reply, error) { return answer(s.health.Health(), nil) }, free: true,
		},
		{
			Name: "openapi", Method: http.MethodGet, Path: "/openapi.json", Summary: "This API as an OpenAPI 3.1 document",
			handle: func(*call) (reply, error) { return reply{raw: openAPIDocument}, nil }, free: true,
		},
		{
			Name: "rebuild", Method: http.MethodPost, Path: "/api/config/rebuild",
			Summary: "Rebuild the store with a new epoch; needs REBUILD_TOKEN in the body",
			handle:  decoded(s.rebuild), body: smallBody, optional: true, long: true,
		},
	}
}

type tokenRequest struct {
	Token string `json:"token"`
}

// rebuild has a token of its own, and is open in the table for that reason. A
// wrong one counts as a failed attempt like any other.
func (s *statusRoom) rebuild(c *call, req tokenRequest) (reply, error) {
	if err := s.admission.blocked(c, req.Token); err != nil {
		return reply{}, err
	}
	err := error(conf.Errorf(conf.CodeDenied, "no token"))
	if req.Token != "" {
		err = s.rebuilder.Rebuild(c.r.Context(), req.Token)
	}
	if conf.CodeOf(err) == conf.CodeDenied {
		s.admission.failed(c, req.Token, "wrong rebuild token")
		err = conf.Errorf(conf.CodeDenied, "a rebuild needs the rebuild token").
			WithHint(`send {"token": "..."} with the value of REBUILD_TOKEN`)
	}
	return done(err)
}

// callerRoom answers who the caller is.
type callerRoom struct{}

func (callerRoom) routes() []Route {
	return []Route{{
		Name: "me", Method: http.MethodGet, Path: mePath, Role: conf.RoleRead, Summary: "Name and role of the caller",
		handle: func(c *call) (reply, error) { return answer(c.who, nil) },
	}}
}

const mePath = "/api/config/me"
