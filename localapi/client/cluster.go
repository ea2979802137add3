package client

import (
	"context"
	"net/http"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Consistent is a client whose reads of the admin API are linearizable: they see
// all writes acknowledged before them, and need a leader. Its changes, and its reads
// of the local API, are those of c.
func (c *Client) Consistent() *Client {
	out := *c
	out.consistent = true
	return &out
}

// Cluster returns the state of the cluster and its agents.
func (c *Client) Cluster(ctx context.Context) (conf.ClusterStatus, error) {
	return get[conf.ClusterStatus](ctx, c, nil, "cluster")
}

// JoinTokens lists the join tokens.
func (c *Client) JoinTokens(ctx context.Context) ([]conf.JoinTokenInfo, error) {
	return list[conf.JoinTokenInfo](ctx, c, c.consistency(nil), "cluster", "tokens")
}

// CreateJoinToken makes a join token. Its text is in this response and nowhere
// else; a TTL of 0 is the agent's default.
func (c *Client) CreateJoinToken(ctx context.Context, req conf.JoinTokenRequest) (conf.NewJoinToken, error) {
	in := map[string]any{"role": req.Role, "uses": req.Uses}
	if req.Service != "" {
		in["service"] = req.Service
	}
	if req.TTL != 0 {
		in["ttl"] = req.TTL.String()
	}
	return call[conf.NewJoinToken](ctx, c, request{method: http.MethodPost, path: []string{"cluster", "tokens"}, json: in, change: true})
}

// RevokeJoinToken revokes a join token; members that joined by it stay.
func (c *Client) RevokeJoinToken(ctx context.Context, id string) error {
	return c.exec(ctx, request{method: http.MethodDelete, path: []string{"cluster", "tokens", id}, change: true})
}

// APITokens lists the API tokens, without their text.
func (c *Client) APITokens(ctx context.Context) ([]conf.APITokenInfo, error) {
	return list[conf.APITokenInfo](ctx, c, c.consistency(nil), "tokens")
}

// CreateAPIToken makes an API token. It is in this response and nowhere else; a TTL
// of 0 is the agent's default.
func (c *Client) CreateAPIToken(ctx context.Context, req conf.APITokenRequest) (conf.NewAPIToken, error) {
	in := map[string]any{"role": req.Role, "name": req.Name}
	if req.TTL != 0 {
		in["ttl"] = req.TTL.String()
	}
	return call[conf.NewAPIToken](ctx, c, request{method: http.MethodPost, path: []string{"tokens"}, json: in, change: true})
}

// RevokeAPIToken revokes an API token.
func (c *Client) RevokeAPIToken(ctx context.Context, id string) error {
	return c.exec(ctx, request{method: http.MethodDelete, path: []string{"tokens", id}, change: true})
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

// Transfer transfers the leadership to a voter; with "" the leader chooses.
func (c *Client) Transfer(ctx context.Context, node string) error {
	if node == "" {
		return c.changeCluster(ctx, nil, "transfer")
	}
	return c.changeCluster(ctx, map[string]string{"node": node}, "transfer")
}

// Leave takes the agent that c calls out of the cluster.
func (c *Client) Leave(ctx context.Context) error { return c.changeCluster(ctx, nil, "leave") }

func (c *Client) changeCluster(ctx context.Context, body any, path ...string) error {
	return c.exec(ctx, request{method: http.MethodPost, path: append([]string{"cluster"}, path...), json: body, change: true})
}
