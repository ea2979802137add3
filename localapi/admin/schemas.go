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

// SchemaEditor replaces the schemas of services. The outcomes are those of the
// documents of the services, by name, under the new schemas.
type SchemaEditor interface {
	PutSchemas(ctx context.Context, who conf.Principal, schemas map[string][]byte, reason, requestID string) ([]conf.Outcome, error)
}

// schemaRoom reads and stores the schemas of services.
type schemaRoom struct {
	schemas SchemaReader
	editor  SchemaEditor
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
			Query: []string{"reason"}, handle: s.put, writes: true, body: conf.MaxSchema,
			types: []string{"application/schema+json"},
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
	outs, err := s.editor.PutSchemas(c.r.Context(), c.who, map[string][]byte{c.service(): c.body}, reason, id)
	if err != nil {
		return reply{}, err
	}
	info, err := s.schemas.Schema(c.r.Context(), c.service())
	if err != nil {
		return reply{}, err
	}
	return reply{
		header: outcomeHeader(outs[0]),
		body:   putSchemaResponse{Success: true, Hash: info.Hash, NewVersion: outs[0].Version, Stale: outs[0].Stale},
	}, nil
}
