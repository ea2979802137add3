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

// Change says of a change what is not its content.
type Change struct {
	Reason    string
	RequestID string // Idempotency-Key; a random one when empty
}

func (ch Change) query() url.Values {
	q := url.Values{}
	if ch.Reason != "" {
		q.Set("reason", ch.Reason)
	}
	return q
}

// Do has a change of one service made, or checked when d.DryRun is set. The
// agent takes the author from the token; d.Author is not sent. A put needs
// d.Expect, which is 0 for a new service. The outcome of a change that is not a
// dry run has no Config.
func (c *Client) Do(ctx context.Context, d conf.Draft) (conf.Outcome, error) {
	if d.DryRun {
		return c.validate(ctx, d)
	}
	path := []string{"api", "config", "services", d.Service}
	q := request{change: true, id: d.RequestID, path: path, query: url.Values{}, header: http.Header{}}
	var body any
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
		body = putBody{Service: d.Service, Config: d.Document, Version: *d.Expect, Reason: d.Reason}
	case conf.OpSecretSet:
		if _, err := conf.ParseJSON(d.Document, conf.MaxDocument); err != nil {
			return conf.Outcome{}, err
		}
		q.method, q.path = http.MethodPut, append(path, "secrets", d.Key)
		body = secretBody{Value: d.Document, Version: d.Expect, Reason: d.Reason}
	case conf.OpPatch, conf.OpDelete, conf.OpSecretDelete:
		q.method = http.MethodDelete
		if d.Op == conf.OpSecretDelete {
			q.path = append(path, "secrets", d.Key)
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
		if d.Reason != "" {
			q.query.Set("reason", d.Reason)
		}
	case conf.OpRestore:
		q.method, q.path = http.MethodPost, append(path, "restore")
		body = restoreBody{Version: d.Restore, Expect: d.Expect, Reason: d.Reason}
	default:
		return conf.Outcome{}, conf.Errorf(conf.CodeUsage, "no such operation %q", d.Op)
	}
	if body != nil {
		var err error
		if q.body, err = encode(body); err != nil {
			return conf.Outcome{}, err
		}
	}
	res, err := c.do(ctx, &c.admin, q)
	if err != nil {
		return conf.Outcome{}, err
	}
	var out struct {
		NewVersion uint64 `json:"new_version"`
	}
	if err := c.admin.into(res, &out); err != nil {
		return conf.Outcome{}, err
	}
	return conf.Outcome{Service: d.Service, Version: out.NewVersion, Changed: changed(res)}, nil
}

type putBody struct {
	Service string          `json:"service"`
	Config  json.RawMessage `json:"config"`
	Version uint64          `json:"version"`
	Reason  string          `json:"reason,omitempty"`
}

type restoreBody struct {
	Version uint64  `json:"version"`
	Expect  *uint64 `json:"expect,omitempty"`
	Reason  string  `json:"reason,omitempty"`
}

func (c *Client) validate(ctx context.Context, d conf.Draft) (conf.Outcome, error) {
	if d.Op != conf.OpPut && d.Op != conf.OpPatch {
		return conf.Outcome{}, conf.Errorf(conf.CodeUsage, "only a put and a patch can be checked without making them")
	}
	if _, err := conf.ParseObject(d.Document, conf.MaxDocument); err != nil {
		return conf.Outcome{}, err
	}
	body, err := encode(map[string]any{"config": d.Document, "mode": string(d.Op)})
	if err != nil {
		return conf.Outcome{}, err
	}
	res, err := c.do(ctx, &c.admin, request{
		method: http.MethodPost, path: []string{"api", "config", "services", d.Service, "validate"}, body: body,
	})
	if err != nil {
		return conf.Outcome{}, err
	}
	var out struct {
		Config     json.RawMessage `json:"config"`
		NewVersion uint64          `json:"new_version"`
	}
	if err := c.admin.into(res, &out); err != nil {
		return conf.Outcome{}, err
	}
	return conf.Outcome{Service: d.Service, Version: out.NewVersion, Changed: changed(res), Config: out.Config}, nil
}

// changed is what the agent says in a header, because the seed's body has no
// member for it.
func changed(res *response) bool { return res.header.Get("X-Config-Changed") != "false" }

func encode(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, conf.Errorf(conf.CodeMalformed, "cannot be written as JSON: %w", err)
	}
	return data, nil
}

// PutSchema stores the schema of a service and tells its hash, and the version
// that the service's document has under it.
func (c *Client) PutSchema(ctx context.Context, service string, schema json.RawMessage, ch Change) (hash string, version uint64, err error) {
	res, err := c.do(ctx, &c.admin, request{
		method: http.MethodPut, path: []string{"api", "config", "schemas", service}, query: ch.query(),
		body: schema, change: true, id: ch.RequestID,
	})
	if err != nil {
		return "", 0, err
	}
	var out struct {
		Hash       string `json:"hash"`
		NewVersion uint64 `json:"new_version"`
	}
	err = c.admin.into(res, &out)
	return out.Hash, out.NewVersion, err
}

// SaveProfile stores p. With p.Services nil the agent saves the stored values
// that the services named in of have now, or all services when of is empty.
func (c *Client) SaveProfile(ctx context.Context, p conf.Profile, of []string, ch Change) (conf.Profile, error) {
	in := map[string]any{"description": p.Description}
	if p.Services != nil {
		in["services"] = p.Services
	}
	body, err := encode(in)
	if err != nil {
		return conf.Profile{}, err
	}
	query := ch.query()
	if len(of) > 0 {
		query.Set("service", strings.Join(of, ","))
	}
	res, err := c.do(ctx, &c.admin, request{
		method: http.MethodPut, path: []string{"api", "config", "profiles", p.Name}, query: query,
		body: body, change: true, id: ch.RequestID,
	})
	if err != nil {
		return conf.Profile{}, err
	}
	var out struct {
		Profile conf.Profile `json:"profile"`
	}
	err = c.admin.into(res, &out)
	return out.Profile, err
}

// ActivateProfile puts the values of a profile into effect. The outcomes have no
// Config.
func (c *Client) ActivateProfile(ctx context.Context, name string, ch Change) ([]conf.Outcome, error) {
	res, err := c.do(ctx, &c.admin, request{
		method: http.MethodPost, path: []string{"api", "config", "profiles", name, "activate"}, query: ch.query(),
		change: true, id: ch.RequestID,
	})
	if err != nil {
		return nil, err
	}
	var in struct {
		Services []struct {
			Service    string `json:"service"`
			NewVersion uint64 `json:"new_version"`
			Changed    bool   `json:"changed"`
		} `json:"services"`
	}
	if err := c.admin.into(res, &in); err != nil {
		return nil, err
	}
	out := make([]conf.Outcome, len(in.Services))
	for i, s := range in.Services {
		out[i] = conf.Outcome{Service: s.Service, Version: s.NewVersion, Changed: s.Changed}
	}
	return out, nil
}

// DeleteProfile deletes a profile; the services that it names keep their values.
func (c *Client) DeleteProfile(ctx context.Context, name string, ch Change) error {
	_, err := c.do(ctx, &c.admin, request{
		method: http.MethodDelete, path: []string{"api", "config", "profiles", name}, query: ch.query(),
		change: true, id: ch.RequestID,
	})
	return err
}

// Rebuild has the agent make a new store with a new epoch. It needs the rebuild
// token, and no other.
func (c *Client) Rebuild(ctx context.Context, token string) error {
	body, err := encode(map[string]string{"token": token})
	if err != nil {
		return err
	}
	_, err = c.do(ctx, &c.admin, request{
		method: http.MethodPost, path: []string{"api", "config", "rebuild"}, body: body, change: true,
	})
	return err
}
