package admin

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func (h *Handler) listServices(c *call) (reply, error) {
	list, err := h.o.Reader.Services(c.r.Context())
	if err != nil {
		return reply{}, err
	}
	if list == nil {
		list = []conf.ServiceInfo{}
	}
	return ok(servicesResponse{Services: list})
}

func (h *Handler) getService(c *call) (reply, error) {
	if explain, err := c.flag("explain"); err != nil {
		return reply{}, err
	} else if explain {
		return h.explain(c)
	}
	stored := false
	switch v := c.query.Get("values"); v {
	case "", "effective":
	case "stored":
		stored = true
	default:
		return reply{}, invalid("values", "%q is neither effective nor stored", clip(v)).WithHint("use one of effective, stored")
	}
	if c.query.Has("version") {
		return h.getVersion(c, stored)
	}
	rec, err := h.o.Reader.Record(c.r.Context(), c.service())
	if err != nil {
		return reply{}, err
	}
	if rec.Deleted || rec.Config == nil {
		return reply{}, absent(rec)
	}
	header := http.Header{}
	etag := tag(rec, stored)
	header.Set("Etag", etag)
	header.Set("X-Config-Version", strconv.FormatUint(rec.Version, 10))
	header.Set("X-Config-Epoch", rec.Epoch)
	if none := c.r.Header.Get("If-None-Match"); none != "" && matches(none, etag) {
		return reply{status: http.StatusNotModified, header: header}, nil
	}
	out := conf.ReadResponse{Service: rec.Service, Config: rec.Config, Metadata: rec.Metadata()}
	if stored {
		out.Config = orEmpty(rec.Values)
	}
	return reply{header: header, body: out}, nil
}

// absent is the answer for a service that has no document now.
func absent(rec *conf.Record) error {
	if rec.Deleted {
		return conf.Errorf(conf.CodeNotFound, "%s is deleted, since version %d", rec.Service, rec.Version).
			WithHint("restore an earlier version, or PUT it with version %d", rec.Version)
	}
	return conf.Errorf(conf.CodeNotFound, "%s is not configured yet: its schema has fields that need a value", rec.Service).
		WithHint("PUT it with version %d; GET /api/config/schemas/%s lists the fields", rec.Version, rec.Service)
}

// getVersion reads the stored values of an earlier version. Only those are kept:
// what they come to depends on the schema of today.
func (h *Handler) getVersion(c *call, stored bool) (reply, error) {
	version, err := c.number("version", 1, conf.MaxInteger, 0)
	if err != nil {
		return reply{}, err
	}
	if !stored {
		return reply{}, invalid("values", "only the stored values of an earlier version are kept").WithHint("add values=stored")
	}
	values, err := h.o.Versions.VersionValues(c.r.Context(), c.service(), version)
	if err != nil {
		return reply{}, err
	}
	list, err := h.o.Versions.Versions(c.r.Context(), c.service(), maxLimit)
	if err != nil {
		return reply{}, err
	}
	out := conf.ReadResponse{Service: c.service(), Config: orEmpty(values), Metadata: conf.Metadata{Version: version}}
	for _, m := range list {
		if m.Version == version {
			out.Metadata = m
			break
		}
	}
	return ok(out)
}

func orEmpty(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("{}")
	}
	return raw
}

func (h *Handler) putService(c *call) (reply, error) {
	var req updateRequest
	if err := conf.DecodeStrict(c.body, len(c.body), &req); err != nil {
		return reply{}, err
	}
	switch {
	case req.Service == nil:
		return reply{}, invalid("service", "is needed").WithHint("send \"service\": %q, as in the path", c.service())
	case *req.Service != c.service():
		return reply{}, invalid("service", "is %q, but the path says %q", clip(*req.Service), c.service()).WithHint("make them the same")
	case req.Version == nil:
		return reply{}, invalid("version", "is needed, for optimistic locking").
			WithHint("send the version that you read, or 0 for a service that is new")
	}
	if err := object("config", req.Config); err != nil {
		return reply{}, err
	}
	return h.change(c, conf.Draft{Op: conf.OpPut, Document: req.Config, Expect: req.Version, Reason: req.Reason})
}

func (h *Handler) patchService(c *call) (reply, error) {
	doc, err := conf.ParseObject(c.body, conf.MaxDocument)
	if err != nil {
		return reply{}, err
	}
	return h.change(c, conf.Draft{Op: conf.OpPatch, Document: c.body, Decoded: doc})
}

func (h *Handler) deleteService(c *call) (reply, error) {
	return h.change(c, conf.Draft{Op: conf.OpDelete})
}

func (h *Handler) restoreService(c *call) (reply, error) {
	var req restoreRequest
	if err := conf.DecodeStrict(c.body, len(c.body), &req); err != nil {
		return reply{}, err
	}
	if req.Version == nil || *req.Version == 0 {
		return reply{}, invalid("version", "is needed: the version to restore, from 1").
			WithHint("GET /api/config/services/%s/versions lists them", c.service())
	}
	return h.change(c, conf.Draft{Op: conf.OpRestore, Restore: *req.Version, Expect: req.Expect, Reason: req.Reason})
}

// change completes a draft with what all of them have, and has it made.
func (h *Handler) change(c *call, d conf.Draft) (reply, error) {
	var err error
	if d.Reason, err = c.reason(d.Reason); err != nil {
		return reply{}, err
	}
	if d.RequestID, d.EarlierIDs, err = h.requestID(c); err != nil {
		return reply{}, err
	}
	if d.Expect, err = h.expect(c, d.Expect); err != nil {
		return reply{}, err
	}
	d.Service, d.Author = c.service(), c.who.Name
	out, err := h.o.Editor.Do(c.r.Context(), c.who, d)
	if err != nil {
		return reply{}, err
	}
	return reply{
		header: outcomeHeader(out),
		body:   updateResponse{Success: true, NewVersion: &out.Version},
	}, nil
}

// outcomeHeader tells what the seed's body has no member for: whether a version
// was made at all.
func outcomeHeader(out conf.Outcome) http.Header {
	header := http.Header{}
	header.Set("X-Config-Version", strconv.FormatUint(out.Version, 10))
	header.Set("X-Config-Changed", strconv.FormatBool(out.Changed))
	return header
}

func (h *Handler) validateService(c *call) (reply, error) {
	var req validateRequest
	if err := conf.DecodeStrict(c.body, len(c.body), &req); err != nil {
		return reply{}, err
	}
	d := conf.Draft{Service: c.service(), Op: conf.OpPut, Document: req.Config, Author: c.who.Name, DryRun: true}
	switch req.Mode {
	case "", "put":
	case "patch":
		d.Op = conf.OpPatch
	default:
		return reply{}, invalid("mode", "%q is neither put nor patch", clip(req.Mode)).WithHint("use one of put, patch")
	}
	if err := object("config", req.Config); err != nil {
		return reply{}, err
	}
	out, err := h.o.Editor.Do(c.r.Context(), c.who, d)
	if err != nil {
		return reply{}, err
	}
	return reply{
		header: outcomeHeader(out),
		body:   validateResponse{Valid: true, Config: orEmpty(out.Config), NewVersion: out.Version},
	}, nil
}

func (h *Handler) listVersions(c *call) (reply, error) {
	limit, _, err := c.page()
	if err != nil {
		return reply{}, err
	}
	list, err := h.o.Versions.Versions(c.r.Context(), c.service(), limit)
	if err != nil {
		return reply{}, err
	}
	if list == nil {
		list = []conf.Metadata{}
	}
	return ok(versionsResponse{Versions: list})
}
