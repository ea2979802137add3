package client

import (
	"context"
	"net/http"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Consistent is a client whose reads of the admin API are linearizable: as new as
// the last change that anybody was told of when the read began. They need a
// leader. Its changes, and its reads of the local API, are those of c.
func (c *Client) Consistent() *Client {
	out := *c
	out.consistent = true
	return &out
}

// Cluster tells how the cluster and its agents are.
func (c *Client) Cluster(ctx context.Context) (conf.ClusterStatus, error) {
	var out conf.ClusterStatus
	err := c.get(ctx, &out, nil, "cluster")
	return out, err
}

// JoinTokens lists the join tokens.
func (c *Client) JoinTokens(ctx context.Context) ([]conf.JoinTokenInfo, error) {
	var out struct {
		Tokens []conf.JoinTokenInfo `json:"tokens"`
	}
	err := c.read(ctx, &out, nil, "cluster", "tokens")
	return out.Tokens, err
}

// CreateJoinToken makes a join token. Its text is in this answer and nowhere
// else; a TTL of 0 is the agent's default.
func (c *Client) CreateJoinToken(ctx context.Context, req conf.JoinTokenRequest) (conf.NewJoinToken, error) {
	in := map[string]any{"role": req.Role, "uses": req.Uses}
	if req.Service != "" {
		in["service"] = req.Service
	}
	if req.TTL != 0 {
		in["ttl"] = req.TTL.String()
	}
	body, err := encode(in)
	if err != nil {
		return conf.NewJoinToken{}, err
	}
	res, err := c.do(ctx, &c.admin, request{
		method: http.MethodPost, path: []string{"api", "config", "cluster", "tokens"}, body: body, change: true,
	})
	if err != nil {
		return conf.NewJoinToken{}, err
	}
	var out conf.NewJoinToken
	err = c.admin.into(res, &out)
	return out, err
}

// RevokeJoinToken makes a join token useless; who joined by it stays.
func (c *Client) RevokeJoinToken(ctx context.Context, id string) error {
	_, err := c.do(ctx, &c.admin, request{
		method: http.MethodDelete, path: []string{"api", "config", "cluster", "tokens", id}, change: true,
	})
	return err
}

// APITokens lists the API tokens, without what they are used by.
func (c *Client) APITokens(ctx context.Context) ([]conf.APITokenInfo, error) {
	var out struct {
		Tokens []conf.APITokenInfo `json:"tokens"`
	}
	err := c.read(ctx, &out, nil, "tokens")
	return out.Tokens, err
}

// CreateAPIToken makes an API token. It is in this answer and nowhere else; a TTL
// of 0 is the agent's default.
func (c *Client) CreateAPIToken(ctx context.Context, req conf.APITokenRequest) (conf.NewAPIToken, error) {
	in := map[string]any{"role": req.Role, "name": req.Name}
	if req.TTL != 0 {
		in["ttl"] = req.TTL.String()
	}
	body, err := encode(in)
	if err != nil {
		return conf.NewAPIToken{}, err
	}
	res, err := c.do(ctx, &c.admin, request{method: http.MethodPost, path: []string{"api", "config", "tokens"}, body: body, change: true})
	if err != nil {
		return conf.NewAPIToken{}, err
	}
	var out conf.NewAPIToken
	err = c.admin.into(res, &out)
	return out, err
}

// RevokeAPIToken ends an API token.
func (c *Client) RevokeAPIToken(ctx context.Context, id string) error {
	_, err := c.do(ctx, &c.admin, request{method: http.MethodDelete, path: []string{"api", "config", "tokens", id}, change: true})
	return err
}

// Promote makes a server a voter.
func (c *Client) Promote(ctx context.Context, node string) error {
	return c.changeCluster(ctx, nil, "members", node, "promote")
}

// Demote makes a voter a non-voter.
func (c *Client) Demote(ctx context.Context, node string) error {
	return c.changeCluster(ctx, nil, "members", node, "demote")
}

// Remove takes an agent out of the cluster.
func (c *Client) Remove(ctx context.Context, node string) error {
	return c.changeCluster(ctx, nil, "members", node, "remove")
}

// Transfer hands the leadership to a voter; with "" the leader chooses.
func (c *Client) Transfer(ctx context.Context, node string) error {
	if node == "" {
		return c.changeCluster(ctx, nil, "transfer")
	}
	body, err := encode(map[string]string{"node": node})
	if err != nil {
		return err
	}
	return c.changeCluster(ctx, body, "transfer")
}

// Leave takes the agent itself that c talks to out of the cluster.
func (c *Client) Leave(ctx context.Context) error { return c.changeCluster(ctx, nil, "leave") }

func (c *Client) changeCluster(ctx context.Context, body []byte, path ...string) error {
	_, err := c.do(ctx, &c.admin, request{
		method: http.MethodPost, path: append([]string{"api", "config", "cluster"}, path...), body: body, change: true,
	})
	return err
}
