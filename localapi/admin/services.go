package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Reader reads the current configuration from memory.
type Reader interface {
	// Services lists all services that have a document or a schema, by name.
	ListServices(ctx context.Context) ([]conf.ServiceInfo, error)
	// Record returns the newest record of one service, or conf.CodeNotFound. It
	// may return that of a deleted or not yet configured service, which is a 404.
	CurrentRecord(ctx context.Context, service string) (*conf.Record, error)
}

// Versions reads the earlier versions of a service.
type Versions interface {
	// Versions lists the newest limit versions, newest first.
	Versions(ctx context.Context, service string, limit int) ([]conf.Metadata, error)
	// VersionValues returns the stored values of that version.
	VersionValues(ctx context.Context, service string, version uint64) (json.RawMessage, error)
}

// serviceRoom reads and changes the documents of services.
type serviceRoom struct {
	*edits
	versions Versions
	secrets  Secrets // for ?explain=1
}

func (s *serviceRoom) routes() []Route {
	const one = "/api/config/services/:service"
	return []Route{
		{
			Name: "listServices", Method: http.MethodGet, Path: "/api/config/services", Role: conf.RoleRead, Summary: "List the services",
			Query: []string{"consistent"}, handle: s.list,
		},
		{
			Name: "getService", Method: http.MethodGet, Path: one, Role: conf.RoleRead, Summary: "Read the configuration of a service",
			Query: []string{"values", "version", "explain", "consistent"}, handle: s.get, audit: true,
		},
		{
			Name: "putService", Method: http.MethodPut, Path: one, Role: conf.RoleWrite, Summary: "Replace the stored values of a service",
			Query: []string{"reason", "rollout"}, handle: decoded(s.put), writes: true, body: schemaBody, update: true, match: true,
		},
		{
			Name: "patchService", Method: http.MethodPatch, Path: one, Role: conf.RoleWrite,
			Summary: "Change some values of a service (JSON merge patch)",
			Query:   []string{"version", "reason", "rollout"}, handle: s.patch, writes: true, body: conf.MaxDocument,
			types: []string{"application/merge-patch+json"}, update: true, match: true,
		},
		{
			Name: "deleteService", Method: http.MethodDelete, Path: one, Role: conf.RoleWrite, Summary: "Delete the configuration of a service",
			Query: []string{"version", "reason", "rollout"}, handle: s.remove, writes: true, update: true, match: true,
		},
		{
			Name: "validateService", Method: http.MethodPost, Path: one + "/validate", Role: conf.RoleRead, Summary: "Check a change without making it",
			handle: decoded(s.validate), body: schemaBody,
		},
		{
			Name: "restoreService", Method: http.MethodPost, Path: one + "/restore", Role: conf.RoleWrite,
			Summary: "Make the values of an earlier version the current ones",
			Query:   []string{"reason", "rollout"}, handle: decoded(s.restore), writes: true, body: smallBody, update: true, match: true,
		},
		{
			Name: "listVersions", Method: http.MethodGet, Path: one + "/versions", Role: conf.RoleRead, Summary: "List the versions of a service, newest first",
			Query: []string{"limit", "consistent"}, handle: s.listVersions, audit: true,
		},
	}
}

func (s *serviceRoom) list(c *call) (reply, error) {
	list, err := s.reader.ListServices(c.r.Context())
	return listed("services", list, err)
}

func (s *serviceRoom) get(c *call) (reply, error) {
	if explain, err := c.flag("explain"); err != nil {
		return reply{}, err
	} else if explain {
		return s.explain(c)
	}
	stored := false
	switch v := c.query.Get("values"); v {
	case "", "effective":
	case "stored":
		stored = true
	default:
		return reply{}, invalid("values", "%q is neither effective nor stored", conf.Clip(v)).WithHint("use one of effective, stored")
	}
	if c.query.Has("version") {
		return s.getVersion(c, stored)
	}
	rec, err := s.reader.CurrentRecord(c.r.Context(), c.service())
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

// tag is the ETag of a record: version, start of the epoch and of the checksum.
// The stored values of a version have a tag of their own.
func tag(rec *conf.Record, stored bool) string {
	suffix := ""
	if stored {
		suffix = "-stored"
	}
	return fmt.Sprintf(`"%d-%.8s-%.16s%s"`, rec.Version, rec.Epoch, rec.Checksum, suffix)
}

// matches reports whether the If-None-Match header names tag.
func matches(header, tag string) bool {
	for part := range strings.SplitSeq(header, ",") {
		part = strings.TrimPrefix(strings.TrimSpace(part), "W/")
		if part == tag || part == "*" {
			return true
		}
	}
	return false
}

// absent is the error of a service that has no document now.
func absent(rec *conf.Record) error {
	if rec.Deleted {
		return conf.Errorf(conf.CodeNotFound, "%s is deleted, since version %d", rec.Service, rec.Version).
			WithHint("restore an earlier version, or PUT it with version %d", rec.Version)
	}
	return conf.Errorf(conf.CodeNotFound, "%s is not configured yet: its schema has fields that need a value", rec.Service).
		WithHint("PUT it with version %d; GET /api/config/schemas/%s lists the fields", rec.Version, rec.Service)
}

// explain answers where the values of a service come from.
func (s *serviceRoom) explain(c *call) (reply, error) {
	for name := range c.query {
		if name != "explain" && name != consistentParam {
			return reply{}, invalid(name, "does not go together with explain").WithHint("leave one of them out")
		}
	}
	if s.secrets == nil {
		return reply{}, errNoSecrets
	}
	return answer(s.secrets.Explain(c.r.Context(), c.service(), false))
}

// getVersion reads the stored values of an earlier version. The effective document
// is not stored: it depends on the schema of today.
func (s *serviceRoom) getVersion(c *call, stored bool) (reply, error) {
	version, err := c.number("version", 1, conf.MaxInteger, 0)
	if err != nil {
		return reply{}, err
	}
	if !stored {
		return reply{}, invalid("values", "only the stored values of an earlier version are kept").WithHint("add values=stored")
	}
	values, err := s.versions.VersionValues(c.r.Context(), c.service(), version)
	if err != nil {
		return reply{}, err
	}
	list, err := s.versions.Versions(c.r.Context(), c.service(), maxLimit)
	out := conf.ReadResponse{Service: c.service(), Config: orEmpty(values), Metadata: conf.Metadata{Version: version}}
	for _, m := range list {
		if m.Version == version {
			out.Metadata = m
			break
		}
	}
	return answer(out, err)
}

func orEmpty(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("{}")
	}
	return raw
}

// updateRequest is the seed's ConfigUpdateRequest with an optional reason, and the schema
// that is stored in the same change.
type updateRequest struct {
	Service *string         `json:"service"`
	Config  json.RawMessage `json:"config"`
	Schema  json.RawMessage `json:"schema"`
	Version *uint64         `json:"version"`
	Reason  string          `json:"reason"`
}

func (s *serviceRoom) put(c *call, req updateRequest) (reply, error) {
	switch {
	case req.Service == nil:
		return reply{}, invalid("service", "is needed").WithHint("send \"service\": %q, as in the path", c.service())
	case *req.Service != c.service():
		return reply{}, invalid("service", "is %q, but the path says %q", conf.Clip(*req.Service), c.service()).WithHint("make them the same")
	case req.Version == nil:
		return reply{}, invalid("version", "is needed, for optimistic locking").
			WithHint("send the version that you read, or 0 for a service that is new")
	}
	if err := object("config", req.Config); err != nil {
		return reply{}, err
	}
	if err := schemaMember(req.Schema); err != nil {
		return reply{}, err
	}
	return s.change(c, conf.Draft{Op: conf.OpPut, Document: req.Config, Schema: req.Schema, Expect: req.Version, Reason: req.Reason})
}

// schemaMember checks the schema of a body, which may be absent.
func schemaMember(raw json.RawMessage) error {
	if raw == nil {
		return nil
	}
	if len(raw) > conf.MaxSchema {
		return conf.Errorf(conf.CodeTooLarge, "schema has %d bytes, the limit is %d", len(raw), conf.MaxSchema).WithHint("split the service")
	}
	return object("schema", raw)
}

func (s *serviceRoom) patch(c *call) (reply, error) {
	doc, err := conf.ParseObject(c.body, conf.MaxDocument)
	if err != nil {
		return reply{}, err
	}
	return s.change(c, conf.Draft{Op: conf.OpPatch, Document: c.body, Decoded: doc})
}

func (s *serviceRoom) remove(c *call) (reply, error) {
	return s.change(c, conf.Draft{Op: conf.OpDelete})
}

type restoreRequest struct {
	Version *uint64 `json:"version"`
	Expect  *uint64 `json:"expect"`
	Reason  string  `json:"reason"`
}

func (s *serviceRoom) restore(c *call, req restoreRequest) (reply, error) {
	if req.Version == nil || *req.Version == 0 {
		return reply{}, invalid("version", "is needed: the version to restore, from 1").
			WithHint("GET /api/config/services/%s/versions lists them", c.service())
	}
	return s.change(c, conf.Draft{Op: conf.OpRestore, Restore: *req.Version, Expect: req.Expect, Reason: req.Reason})
}

// validateRequest has values, a schema, or both. With a schema only it checks whether the
// schema can be stored while the values stay.
type validateRequest struct {
	Config json.RawMessage `json:"config"`
	Schema json.RawMessage `json:"schema"`
	Mode   string          `json:"mode"`
}

type validateResponse struct {
	Valid      bool                `json:"valid"`
	Config     json.RawMessage     `json:"config"`
	NewVersion uint64              `json:"new_version"`
	Stale      []conf.StaleProfile `json:"stale_profiles,omitempty"`
}

func (s *serviceRoom) validate(c *call, req validateRequest) (reply, error) {
	// What is checked are the values, also while a rollout runs: a save may replace it.
	d := conf.Draft{Service: c.service(), Op: conf.OpPut, Document: req.Config, Schema: req.Schema, Author: c.who.Name, DryRun: true, Rollout: conf.RolloutReplace}
	switch {
	case req.Mode == "" || req.Mode == "put":
	case req.Mode != "patch":
		return reply{}, invalid("mode", "%q is neither put nor patch", conf.Clip(req.Mode)).WithHint("use one of put, patch")
	case req.Schema != nil:
		return reply{}, invalid("mode", "a schema goes with whole values").WithHint("send all values that are to be stored, or leave schema out")
	default:
		d.Op = conf.OpPatch
	}
	if err := schemaMember(req.Schema); err != nil {
		return reply{}, err
	}
	if req.Config == nil && req.Schema != nil {
		d.Op = conf.OpSchema
	} else if err := object("config", req.Config); err != nil {
		return reply{}, err
	}
	out, err := s.editor.Do(c.r.Context(), c.who, d)
	if err != nil {
		return reply{}, err
	}
	return reply{
		header: outcomeHeader(out),
		body:   validateResponse{Valid: true, Config: orEmpty(out.Config), NewVersion: out.Version, Stale: out.Stale},
	}, nil
}

func (s *serviceRoom) listVersions(c *call) (reply, error) {
	limit, _, err := c.page()
	if err != nil {
		return reply{}, err
	}
	list, err := s.versions.Versions(c.r.Context(), c.service(), limit)
	return listed("versions", list, err)
}
