package admin

import "github.com/holdfast-config/holdfast/replication/conf"

func (h *Handler) listSchemas(c *call) (reply, error) {
	list, err := h.o.Schemas.Schemas(c.r.Context())
	if err != nil {
		return reply{}, err
	}
	if list == nil {
		list = []conf.SchemaInfo{}
	}
	return ok(schemasResponse{Schemas: list})
}

func (h *Handler) getSchema(c *call) (reply, error) {
	info, err := h.o.Schemas.Schema(c.r.Context(), c.service())
	if err != nil {
		return reply{}, err
	}
	return ok(info)
}

func (h *Handler) putSchema(c *call) (reply, error) {
	if _, err := conf.ParseObject(c.body, conf.MaxSchema); err != nil {
		return reply{}, err
	}
	reason, err := c.reason("")
	if err != nil {
		return reply{}, err
	}
	id, _, err := h.requestID(c) // carried out twice, it gives the same
	if err != nil {
		return reply{}, err
	}
	info, out, err := h.o.SchemaEditor.PutSchema(c.r.Context(), c.who, c.service(), c.body, reason, id)
	if err != nil {
		return reply{}, err
	}
	return reply{
		header: outcomeHeader(out),
		body:   putSchemaResponse{Success: true, Hash: info.Hash, NewVersion: out.Version},
	}, nil
}
