package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/holdfast-config/holdfast/replication/conf"
)

type secretBody struct {
	Value   json.RawMessage `json:"value"`
	Version *uint64         `json:"version,omitempty"`
	Reason  string          `json:"reason,omitempty"`
}

// Secrets lists the secrets of a service, without their values.
func (c *Client) Secrets(ctx context.Context, service string) ([]conf.SecretInfo, error) {
	var out struct {
		Secrets []conf.SecretInfo `json:"secrets"`
	}
	err := c.read(ctx, &out, nil, "services", service, "secrets")
	return out.Secrets, err
}

// Reveal reads the value of a secret, as JSON. The access log of the cluster keeps
// who asked and why.
func (c *Client) Reveal(ctx context.Context, service, key, reason string) (json.RawMessage, error) {
	body, err := encode(map[string]string{"reason": reason})
	if err != nil {
		return nil, err
	}
	res, err := c.do(ctx, &c.admin, request{
		method: http.MethodPost, path: []string{"api", "config", "services", service, "secrets", key, "reveal"}, body: body,
	})
	if err != nil {
		return nil, err
	}
	var out struct {
		Value json.RawMessage `json:"value"`
	}
	err = c.admin.into(res, &out)
	return out.Value, err
}

// Explain tells where the values of a service come from, as the agent behind the
// admin API sees it. Values of secrets are masked.
func (c *Client) Explain(ctx context.Context, service string) (conf.Explanation, error) {
	var out conf.Explanation
	err := c.read(ctx, &out, url.Values{"explain": {"1"}}, "services", service)
	return out, err
}

// LocalExplain is Explain of the agent beside; with a local token the values of
// secrets are in clear.
func (c *Client) LocalExplain(ctx context.Context, service string) (conf.Explanation, error) {
	var out conf.Explanation
	res, err := c.do(ctx, &c.local, request{method: http.MethodGet, path: []string{"v1", "config", service}, query: url.Values{"explain": {"1"}}})
	if err != nil {
		return out, err
	}
	err = c.local.into(res, &out)
	return out, err
}
