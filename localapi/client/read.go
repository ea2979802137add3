package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Services lists the services.
func (c *Client) Services(ctx context.Context) ([]conf.ServiceInfo, error) {
	var out struct {
		Services []conf.ServiceInfo `json:"services"`
	}
	err := c.read(ctx, &out, nil, "services")
	return out.Services, err
}

// Service reads the effective document of a service, from the admin API.
func (c *Client) Service(ctx context.Context, service string) (conf.ReadResponse, error) {
	var out conf.ReadResponse
	err := c.read(ctx, &out, nil, "services", service)
	return out, err
}

// Stored reads the stored values of a service: without the defaults of its
// schema. version 0 is the current one.
func (c *Client) Stored(ctx context.Context, service string, version uint64) (conf.ReadResponse, error) {
	query := url.Values{"values": {"stored"}}
	if version > 0 {
		query.Set("version", strconv.FormatUint(version, 10))
	}
	var out conf.ReadResponse
	err := c.read(ctx, &out, query, "services", service)
	return out, err
}

// Versions lists the newest versions of a service, newest first; limit 0 is the
// agent's default.
func (c *Client) Versions(ctx context.Context, service string, limit int) ([]conf.Metadata, error) {
	var out struct {
		Versions []conf.Metadata `json:"versions"`
	}
	query := url.Values{}
	number(query, "limit", limit)
	err := c.read(ctx, &out, query, "services", service, "versions")
	return out.Versions, err
}

// Search looks for items in all services.
func (c *Client) Search(ctx context.Context, req conf.SearchRequest) (conf.SearchResponse, error) {
	var out conf.SearchResponse
	body, err := encode(req)
	if err != nil {
		return out, err
	}
	res, err := c.do(ctx, &c.admin, request{
		method: http.MethodPost, path: []string{"api", "config", "search"}, query: c.consistency(nil), body: body,
	})
	if err != nil {
		return out, err
	}
	err = c.admin.into(res, &out)
	return out, err
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
	var out conf.HistoryPage
	err := c.read(ctx, &out, query, "history")
	return out, err
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
	var out conf.AccessPage
	err := c.get(ctx, &out, query, "access")
	return out, err
}

// Schemas lists the schemas, without their text.
func (c *Client) Schemas(ctx context.Context) ([]conf.SchemaInfo, error) {
	var out struct {
		Schemas []conf.SchemaInfo `json:"schemas"`
	}
	err := c.read(ctx, &out, nil, "schemas")
	return out.Schemas, err
}

// Schema reads the schema of a service, with its fields.
func (c *Client) Schema(ctx context.Context, service string) (conf.SchemaInfo, error) {
	var out conf.SchemaInfo
	err := c.read(ctx, &out, nil, "schemas", service)
	return out, err
}

// Profiles lists the profiles.
func (c *Client) Profiles(ctx context.Context) ([]conf.Profile, error) {
	var out struct {
		Profiles []conf.Profile `json:"profiles"`
	}
	err := c.read(ctx, &out, nil, "profiles")
	return out.Profiles, err
}

// Profile reads a profile.
func (c *Client) Profile(ctx context.Context, name string) (conf.Profile, error) {
	var out conf.Profile
	err := c.read(ctx, &out, nil, "profiles", name)
	return out, err
}

// Health reads the health of the agent; it needs no token.
func (c *Client) Health(ctx context.Context) (conf.Health, error) {
	var out conf.Health
	err := c.get(ctx, &out, nil, "health")
	return out, err
}

// Me tells who the token belongs to.
func (c *Client) Me(ctx context.Context) (conf.Principal, error) {
	var out conf.Principal
	err := c.get(ctx, &out, nil, "me")
	return out, err
}

// OpenAPI reads the description of both APIs; it needs no token.
func (c *Client) OpenAPI(ctx context.Context) (json.RawMessage, error) {
	res, err := c.do(ctx, &c.admin, request{method: http.MethodGet, path: []string{"openapi.json"}})
	if err != nil {
		return nil, err
	}
	return res.body, nil
}

// read is get for what Consistent makes linearizable.
func (c *Client) read(ctx context.Context, dst any, query url.Values, path ...string) error {
	return c.get(ctx, dst, c.consistency(query), path...)
}

func (c *Client) consistency(query url.Values) url.Values {
	if !c.consistent {
		return query
	}
	if query == nil {
		query = url.Values{}
	}
	query.Set("consistent", "1")
	return query
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
