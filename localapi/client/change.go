package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Change is what a change has besides its content.
type Change struct {
	Reason    string
	RequestID string // Idempotency-Key; a random one when empty
}

func (ch Change) query() url.Values {
	q := url.Values{}
	text(q, "reason", ch.Reason)
	return q
}

func (ch Change) request(method string, body []byte, path ...string) request {
	return request{method: method, path: path, query: ch.query(), body: body, change: true, id: ch.RequestID}
}

// Do changes one service, or checks a change when d.DryRun is set. d.Rollout may also be the
// name of a preset of rollouts. The author is
// that of the token; d.Author is not sent. A put needs d.Expect, which is 0 for a
// new service; with d.Schema the schema is stored in the same change. Only the
// outcome of a dry run has a Config, and tells why a profile is stale.
func (c Documents) Do(ctx context.Context, d conf.Draft) (conf.Outcome, error) {
	if d.DryRun {
		return c.validate(ctx, d)
	}
	q := request{change: true, id: d.RequestID, query: url.Values{}, header: http.Header{}}
	switch d.Op {
	case conf.OpPut:
		if d.Expect == nil {
			return conf.Outcome{}, conf.Errorf(conf.CodeUsage, "replacing %s needs the version that it replaces", d.Service).
				WithHint("read it first; 0 is the version of a new service")
		}
		if _, err := conf.ParseObject(d.Document, conf.MaxDocument); err != nil {
			return conf.Outcome{}, err
		}
		q.method = http.MethodPut
		q.json = putBody{Service: d.Service, Config: d.Document, Schema: d.Schema, Version: *d.Expect, Reason: d.Reason}
	case conf.OpSecretSet:
		if _, err := conf.ParseJSON(d.Document, conf.MaxDocument); err != nil {
			return conf.Outcome{}, err
		}
		q.method, q.path = http.MethodPut, []string{"secrets", d.Key}
		q.json = secretBody{Value: d.Document, Version: d.Expect, Reason: d.Reason}
	case conf.OpPatch, conf.OpDelete, conf.OpSecretDelete:
		q.method = http.MethodDelete
		if d.Op == conf.OpSecretDelete {
			q.path = []string{"secrets", d.Key}
		}
		if d.Op == conf.OpPatch {
			if _, err := conf.ParseObject(d.Document, conf.MaxDocument); err != nil {
				return conf.Outcome{}, err
			}
			q.method, q.body = http.MethodPatch, d.Document
			q.header.Set("Content-Type", "application/merge-patch+json")
		}
		if d.Expect != nil {
			q.query.Set("version", strconv.FormatUint(*d.Expect, 10))
		}
		text(q.query, "reason", d.Reason)
	case conf.OpRestore:
		q.method, q.path = http.MethodPost, []string{"restore"}
		q.json = restoreBody{Version: d.Restore, Expect: d.Expect, Reason: d.Reason}
	default:
		return conf.Outcome{}, conf.Errorf(conf.CodeUsage, "no such operation %q", d.Op)
	}
	text(q.query, "rollout", d.Rollout)
	return c.outcome(ctx, d.Service, q)
}

// outcome sends a change, or the check of one.
func (c *caller) outcome(ctx context.Context, service string, q request) (conf.Outcome, error) {
	q.path = append([]string{"api", "config", "services", service}, q.path...)
	res, err := c.do(ctx, &c.admin, q)
	if err != nil {
		return conf.Outcome{}, err
	}
	var out struct {
		Config     json.RawMessage     `json:"config"` // of a check
		NewVersion uint64              `json:"new_version"`
		Stale      []conf.StaleProfile `json:"stale_profiles"` // of a check
	}
	if err := c.admin.into(res, &out); err != nil {
		return conf.Outcome{}, err
	}
	rollout := res.header.Get("X-Config-Rollout")
	// The seed's body has no member for whether there is a new version, nor for profiles.
	changed := res.header.Get("X-Config-Changed") != "false"
	if names := res.header.Get("X-Config-Stale-Profiles"); names != "" && out.Stale == nil {
		for name := range strings.SplitSeq(names, ", ") {
			out.Stale = append(out.Stale, conf.StaleProfile{Profile: name, Service: service})
		}
	}
	return conf.Outcome{Service: service, Version: out.NewVersion, Changed: changed, Config: out.Config, Rollout: rollout, Stale: out.Stale}, nil
}

type putBody struct {
	Service string          `json:"service"`
	Config  json.RawMessage `json:"config"`
	Schema  json.RawMessage `json:"schema,omitempty"`
	Version uint64          `json:"version"`
	Reason  string          `json:"reason,omitempty"`
}

type secretBody struct {
	Value   json.RawMessage `json:"value"`
	Version *uint64         `json:"version,omitempty"`
	Reason  string          `json:"reason,omitempty"`
}

type restoreBody struct {
	Version uint64  `json:"version"`
	Expect  *uint64 `json:"expect,omitempty"`
	Reason  string  `json:"reason,omitempty"`
}

func (c Documents) validate(ctx context.Context, d conf.Draft) (conf.Outcome, error) {
	in := map[string]any{}
	switch d.Op {
	case conf.OpPut, conf.OpPatch:
		if _, err := conf.ParseObject(d.Document, conf.MaxDocument); err != nil {
			return conf.Outcome{}, err
		}
		in["config"], in["mode"] = d.Document, string(d.Op)
	case conf.OpSchema:
	default:
		return conf.Outcome{}, conf.Errorf(conf.CodeUsage, "only a put, a patch and a schema can be checked without making them")
	}
	if d.Schema != nil {
		in["schema"] = d.Schema
	}
	return c.outcome(ctx, d.Service, request{method: http.MethodPost, path: []string{"validate"}, json: in})
}

// StoredSchema is the result of PutSchema.
type StoredSchema struct {
	Hash    string              `json:"hash"`
	Version uint64              `json:"new_version"` // of the service's document under it
	Stale   []conf.StaleProfile `json:"stale_profiles"`
}

// PutSchema stores the schema of a service, whose values stay. A draft with a schema
// stores both: see Do.
func (c SchemaStore) PutSchema(ctx context.Context, service string, schema json.RawMessage, ch Change) (StoredSchema, error) {
	return call[StoredSchema](ctx, c.caller, ch.request(http.MethodPut, schema, "schemas", service))
}

// SaveProfile stores p. With p.Services nil the agent saves the stored values
// that the services in of have now, or all services when of is empty.
func (c ProfileStore) SaveProfile(ctx context.Context, p conf.Profile, of []string, ch Change) (conf.Profile, error) {
	in := map[string]any{"description": p.Description}
	if p.Services != nil {
		in["services"] = p.Services
	}
	q := ch.request(http.MethodPut, nil, "profiles", p.Name)
	q.json = in
	text(q.query, "service", strings.Join(of, ","))
	out, err := call[struct {
		Profile conf.Profile `json:"profile"`
	}](ctx, c.caller, q)
	return out.Profile, err
}

// ImportProfile stores p with the values that it has, and lists those that their
// services do not accept.
func (c ProfileStore) ImportProfile(ctx context.Context, p conf.Profile, ch Change) ([]conf.StaleProfile, error) {
	q := ch.request(http.MethodPut, nil, "profiles", p.Name)
	q.json = map[string]any{"description": p.Description, "services": p.Services, "keep_stale": true}
	out, err := call[struct {
		Stale []conf.StaleProfile `json:"stale_profiles"`
	}](ctx, c.caller, q)
	return out.Stale, err
}

// ActivateProfile makes the values of a profile the stored ones. The outcomes have
// no Config.
func (c ProfileStore) ActivateProfile(ctx context.Context, name string, ch Change) ([]conf.Outcome, error) {
	in, err := call[struct {
		Services []struct {
			Service    string `json:"service"`
			NewVersion uint64 `json:"new_version"`
			Changed    bool   `json:"changed"`
		} `json:"services"`
	}](ctx, c.caller, ch.request(http.MethodPost, nil, "profiles", name, "activate"))
	if err != nil {
		return nil, err
	}
	out := make([]conf.Outcome, len(in.Services))
	for i, s := range in.Services {
		out[i] = conf.Outcome{Service: s.Service, Version: s.NewVersion, Changed: s.Changed}
	}
	return out, nil
}

// DeleteProfile deletes a profile; the services that it names keep their values.
func (c ProfileStore) DeleteProfile(ctx context.Context, name string, ch Change) error {
	return c.exec(ctx, ch.request(http.MethodDelete, nil, "profiles", name))
}

// Rebuild makes the agent build a new store with a new epoch. It needs the rebuild
// token, and no other.
func (c *Client) Rebuild(ctx context.Context, token string) error {
	return c.exec(ctx, request{method: http.MethodPost, path: []string{"rebuild"}, json: map[string]string{"token": token}, change: true})
}
