package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// KeyRing tells of the keys of the cluster: which there are, who holds them, and
// where rotations stand.
func (c *Client) KeyRing(ctx context.Context) (conf.KeysStatus, error) {
	var out conf.KeysStatus
	err := c.get(ctx, &out, nil, "keys")
	return out, err
}

// ChangeKey makes a change of conf (conf.KeysRotate and so on) of the key of a kind,
// and tells where its rotation stands then; one that was begun goes on by itself.
func (c *Client) ChangeKey(ctx context.Context, change, kind, reason string) (conf.KeyRotation, error) {
	q := url.Values{}
	if reason != "" {
		q.Set("reason", reason)
	}
	res, err := c.do(ctx, &c.admin, request{
		method: http.MethodPost, path: []string{"api", "config", "keys", kind, change}, query: q, change: true,
	})
	if err != nil {
		return conf.KeyRotation{}, err
	}
	var out conf.KeyRotation
	err = c.admin.into(res, &out)
	return out, err
}
