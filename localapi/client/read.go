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
func (c *Client) Services(ctx context.Context) ([]conf.ServiceInfo, error) {
	return list[conf.ServiceInfo](ctx, c, c.consistency(nil), "services")
}

// Service reads the effective document of a service, from the admin API.
func (c *Client) Service(ctx context.Context, service string) (conf.ReadResponse, error) {
	return get[conf.ReadResponse](ctx, c, c.consistency(nil), "services", service)
}

// Stored reads the stored values of a service: without the defaults of its
// schema. version 0 is the current one.
func (c *Client) Stored(ctx context.Context, service string, version uint64) (conf.ReadResponse, error) {
	query := url.Values{"values": {"stored"}}
	number(query, "version", version)
	return get[conf.ReadResponse](ctx, c, c.consistency(query), "services", service)
}

// Versions lists the newest versions of a service, newest first; limit 0 is the
// agent's default.
func (c *Client) Versions(ctx context.Context, service string, limit int) ([]conf.Metadata, error) {
	query := url.Values{}
	number(query, "limit", limit)
	return list[conf.Metadata](ctx, c, c.consistency(query), "services", service, "versions")
}

// Search looks for items in all services.
func (c *Client) Search(ctx context.Context, req conf.SearchRequest) (conf.SearchResponse, error) {
	return call[conf.SearchResponse](ctx, c, request{method: http.MethodPost, path: []string{"search"}, query: c.consistency(nil), json: req})
}

// History lists changes, newest first.
func (c *Client) History(ctx context.Context, f conf.HistoryFilter) (conf.HistoryPage, error) {
	query := url.Values{}
	text(query, "service", f.Service)
	text(query, "key", f.Key)
	text(query, "user", f.User)
	text(query, "since", f.Since)
	text(query, "until", f.Until)
	number(query, "version", f.Version)
	number(query, "limit", f.Limit)
	number(query, "offset", f.Offset)
	return get[conf.HistoryPage](ctx, c, c.consistency(query), "history")
}

// AccessLog lists rows of the access log, newest first.
func (c *Client) AccessLog(ctx context.Context, f conf.AccessFilter) (conf.AccessPage, error) {
	query := url.Values{}
	text(query, "user", f.User)
	text(query, "action", f.Action)
	text(query, "service", f.Service)
	text(query, "since", f.Since)
	text(query, "until", f.Until)
	number(query, "limit", f.Limit)
	number(query, "offset", f.Offset)
	return get[conf.AccessPage](ctx, c, query, "access")
}

// Schemas lists the schemas, without their text.
func (c *Client) Schemas(ctx context.Context) ([]conf.SchemaInfo, error) {
	return list[conf.SchemaInfo](ctx, c, c.consistency(nil), "schemas")
}

// Schema reads the schema of a service, with its fields.
func (c *Client) Schema(ctx context.Context, service string) (conf.SchemaInfo, error) {
	return get[conf.SchemaInfo](ctx, c, c.consistency(nil), "schemas", service)
}

// Profiles lists the profiles.
func (c *Client) Profiles(ctx context.Context) ([]conf.Profile, error) {
	return list[conf.Profile](ctx, c, c.consistency(nil), "profiles")
}

// Profile reads a profile.
func (c *Client) Profile(ctx context.Context, name string) (conf.Profile, error) {
	return get[conf.Profile](ctx, c, c.consistency(nil), "profiles", name)
}

// Health reads the health of the agent; it needs no token.
func (c *Client) Health(ctx context.Context) (conf.Health, error) {
	return get[conf.Health](ctx, c, nil, "health")
}

// Me returns whose token the client has.
func (c *Client) Me(ctx context.Context) (conf.Principal, error) {
	return get[conf.Principal](ctx, c, nil, "me")
}

// OpenAPI reads the description of both APIs; it needs no token.
func (c *Client) OpenAPI(ctx context.Context) (json.RawMessage, error) {
	return c.text(ctx, &c.admin, nil, "openapi.json")
}

// consistency adds the parameter of Consistent to those of a read.
func (c *Client) consistency(query url.Values) url.Values {
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
