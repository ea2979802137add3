package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Secrets lists the secrets of a service, without their values.
func (c Documents) Secrets(ctx context.Context, service string) ([]conf.SecretInfo, error) {
	return list[conf.SecretInfo](ctx, c.caller, c.consistency(nil), "services", service, "secrets")
}

// Reveal reads the value of a secret, as JSON. The access log of the cluster has who
// asked and why.
func (c Documents) Reveal(ctx context.Context, service, key, reason string) (json.RawMessage, error) {
	out, err := call[struct {
		Value json.RawMessage `json:"value"`
	}](ctx, c.caller, request{
		method: http.MethodPost, path: []string{"services", service, "secrets", key, "reveal"}, json: map[string]string{"reason": reason},
	})
	return out.Value, err
}

var explained = url.Values{"explain": {"1"}}

// Explain returns where the values of a service come from on the agent of the admin
// API. Values of secrets are masked.
func (c Documents) Explain(ctx context.Context, service string) (conf.Explanation, error) {
	return get[conf.Explanation](ctx, c.caller, c.consistency(explained), "services", service)
}

// LocalExplain is Explain of the agent of the local API; with a local token the
// values of secrets are in clear.
func (c Local) LocalExplain(ctx context.Context, service string) (out conf.Explanation, err error) {
	res, err := c.do(ctx, &c.local, request{method: http.MethodGet, path: []string{"v1", "config", service}, query: explained})
	if err == nil {
		err = c.local.into(res, &out)
	}
	return out, err
}
