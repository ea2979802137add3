package client

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strconv"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Services lists the services.
func (c Documents) Services(ctx context.Context) ([]conf.ServiceInfo, error) {
	return list[conf.ServiceInfo](ctx, c.caller, c.consistency(nil), "services")
}

// Service reads the effective document of a service, from the admin API.
func (c Documents) Service(ctx context.Context, service string) (conf.ReadResponse, error) {
	return get[conf.ReadResponse](ctx, c.caller, c.consistency(nil), "services", service)
}

// Stored reads the stored values of a service: without the defaults of its
// schema. version 0 is the current one.
func (c Documents) Stored(ctx context.Context, service string, version uint64) (conf.ReadResponse, error) {
	query := url.Values{"values": {"stored"}}
	number(query, "version", version)
	return get[conf.ReadResponse](ctx, c.caller, c.consistency(query), "services", service)
}

// Versions lists the newest versions of a service, newest first; limit 0 is the
// agent's default.
func (c Documents) Versions(ctx context.Context, service string, limit int) ([]conf.Metadata, error) {
	query := url.Values{}
	number(query, "limit", limit)
	return list[conf.Metadata](ctx, c.caller, c.consistency(query), "services", service, "versions")
}

// Search looks for items in all services.
func (c Documents) Search(ctx context.Context, req conf.SearchRequest) (conf.SearchResponse, error) {
	return call[conf.SearchResponse](ctx, c.caller, request{method: http.MethodPost, path: []string{"search"}, query: c.consistency(nil), json: req})
}

// History lists changes, newest first.
func (c Documents) History(ctx context.Context, f conf.HistoryFilter) (conf.HistoryPage, error) {
	query := url.Values{}
	text(query, "service", f.Service)
	text(query, "key", f.Key)
	text(query, "user", f.User)
	text(query, "since", f.Since)
	text(query, "until", f.Until)
	number(query, "version", f.Version)
	number(query, "limit", f.Limit)
	number(query, "offset", f.Offset)
	return get[conf.HistoryPage](ctx, c.caller, c.consistency(query), "history")
}

// AccessLog lists rows of the access log, newest first.
func (c Access) AccessLog(ctx context.Context, f conf.AccessFilter) (conf.AccessPage, error) {
	query := url.Values{}
	text(query, "user", f.User)
	text(query, "action", f.Action)
	text(query, "service", f.Service)
	text(query, "since", f.Since)
	text(query, "until", f.Until)
	number(query, "limit", f.Limit)
	number(query, "offset", f.Offset)
	return get[conf.AccessPage](ctx, c.caller, query, "access")
}

// Schemas lists the schemas, without their text.
func (c SchemaStore) Schemas(ctx context.Context) ([]conf.SchemaInfo, error) {
	return list[conf.SchemaInfo](ctx, c.caller, c.consistency(nil), "schemas")
}

// Schema reads the schema of a service, with its fields.
func (c SchemaStore) Schema(ctx context.Context, service string) (conf.SchemaInfo, error) {
	return get[conf.SchemaInfo](ctx, c.caller, c.consistency(nil), "schemas", service)
}

// LastVersion returns the version that the next change of a service follows: that of its
// tombstone when it is deleted, 0 when it has none.
func (c Documents) LastVersion(ctx context.Context, service string) (uint64, error) {
	versions, err := c.Versions(ctx, service, 1)
	if conf.CodeOf(err) == conf.CodeNotFound {
		return 0, nil
	}
	if err != nil || len(versions) == 0 {
		return 0, err
	}
	return versions[0].Version, nil
}

// Profiles lists the profiles.
func (c ProfileStore) Profiles(ctx context.Context) ([]conf.Profile, error) {
	return list[conf.Profile](ctx, c.caller, c.consistency(nil), "profiles")
}

// Profile reads a profile.
func (c ProfileStore) Profile(ctx context.Context, name string) (conf.Profile, error) {
	return get[conf.Profile](ctx, c.caller, c.consistency(nil), "profiles", name)
}

// Health reads the health of the agent; it needs no token.
func (c *Client) Health(ctx context.Context) (conf.Health, error) {
	return get[conf.Health](ctx, c.caller, nil, "health")
}

// Me returns whose token the client has.
func (c Access) Me(ctx context.Context) (conf.Principal, error) {
	return get[conf.Principal](ctx, c.caller, nil, "me")
}

// OpenAPI reads the description of both APIs; it needs no token.
func (c *Client) OpenAPI(ctx context.Context) (json.RawMessage, error) {
	return c.text(ctx, &c.admin, nil, "openapi.json")
}

// consistency adds the parameter of Consistent to those of a read.
func (c *caller) consistency(query url.Values) url.Values {
	if !c.consistent {
		return query
	}
	out := url.Values{"consistent": {"1"}}
	maps.Copy(out, query)
	return out
}

func text(q url.Values, name, v string) {
	if v != "" {
		q.Set(name, v)
	}
}

func number[T int | uint64](q url.Values, name string, v T) {
	if v != 0 {
		q.Set(name, strconv.FormatInt(int64(v), 10))
	}
}
