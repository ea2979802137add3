package admin

import (
	"context"
	"net/http"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// SchemaReader reads schemas. Schemas leaves Schema and Fields empty; Schema
// fills both.
type SchemaReader interface {
	Schemas(ctx context.Context) ([]conf.SchemaInfo, error)
	Schema(ctx context.Context, service string) (conf.SchemaInfo, error)
}

// schemaRoom reads and stores the schemas of services.
type schemaRoom struct {
	schemas SchemaReader
	editor  Editor
	ids     requestIDs
}

func (s *schemaRoom) routes() []Route {
	const one = "/api/config/schemas/:service"
	return []Route{
		{
			Name: "listSchemas", Method: http.MethodGet, Path: "/api/config/schemas", Role: conf.RoleRead, Summary: "List the schemas",
			Query: []string{"consistent"}, handle: s.list,
		},
		{
			Name: "getSchema", Method: http.MethodGet, Path: one, Role: conf.RoleRead, Summary: "Read the schema of a service and its fields",
			Query:  []string{"consistent"},
			handle: func(c *call) (reply, error) { return answer(s.schemas.Schema(c.r.Context(), c.service())) },
		},
		{
			Name: RoutePutSchema, Method: http.MethodPut, Path: one, Role: conf.RoleWrite, Summary: "Store the schema of a service",
			Query: []string{"reason", "rollout"}, handle: s.put, writes: true, body: conf.MaxSchema, types: []string{"application/schema+json"},
		},
	}
}

func (s *schemaRoom) list(c *call) (reply, error) {
	list, err := s.schemas.Schemas(c.r.Context())
	return listed("schemas", list, err)
}

type putSchemaResponse struct {
	Success    bool   `json:"success"`
	Hash       string `json:"hash"`
	NewVersion uint64 `json:"new_version"`

	Stale []conf.StaleProfile `json:"stale_profiles,omitempty"`
}

func (s *schemaRoom) put(c *call) (reply, error) {
	if _, err := conf.ParseSchema(c.body); err != nil {
		return reply{}, err
	}
	reason, id, err := s.ids.why(c, "")
	if err != nil {
		return reply{}, err
	}
	rollout, err := c.rolloutMode(false)
	if err != nil {
		return reply{}, err
	}
	out, err := s.editor.Do(c.r.Context(), c.who, conf.Draft{Service: c.service(), Op: conf.OpSchema, Schema: c.body, Reason: reason, RequestID: id, Rollout: rollout})
	if err != nil {
		return reply{}, err
	}
	info, err := s.schemas.Schema(c.r.Context(), c.service())
	if err != nil {
		return reply{}, err
	}
	return reply{
		header: outcomeHeader(out),
		body:   putSchemaResponse{Success: true, Hash: info.Hash, NewVersion: out.Version, Stale: out.Stale},
	}, nil
}
