package client

import (
	"context"
	"net/http"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Cluster returns the state of the cluster and its agents.
func (c Membership) Cluster(ctx context.Context) (conf.ClusterStatus, error) {
	return get[conf.ClusterStatus](ctx, c.caller, nil, "cluster")
}

// JoinTokens lists the join tokens.
func (c Membership) JoinTokens(ctx context.Context) ([]conf.JoinTokenInfo, error) {
	return list[conf.JoinTokenInfo](ctx, c.caller, c.consistency(nil), "cluster", "tokens")
}

// CreateJoinToken makes a join token. Its text is in this response and nowhere
// else; a TTL of 0 is the agent's default.
func (c Membership) CreateJoinToken(ctx context.Context, req conf.JoinTokenRequest) (conf.NewJoinToken, error) {
	in := map[string]any{"role": req.Role, "uses": req.Uses}
	if req.Service != "" {
		in["service"] = req.Service
	}
	if req.TTL != 0 {
		in["ttl"] = req.TTL.String()
	}
	return call[conf.NewJoinToken](ctx, c.caller, request{method: http.MethodPost, path: []string{"cluster", "tokens"}, json: in, change: true})
}

// RevokeJoinToken revokes a join token; members that joined by it stay.
func (c Membership) RevokeJoinToken(ctx context.Context, id string) error {
	return c.exec(ctx, request{method: http.MethodDelete, path: []string{"cluster", "tokens", id}, change: true})
}

// APITokens lists the API tokens, without their text.
func (c Access) APITokens(ctx context.Context) ([]conf.APITokenInfo, error) {
	return list[conf.APITokenInfo](ctx, c.caller, c.consistency(nil), "tokens")
}

// CreateAPIToken makes an API token. It is in this response and nowhere else; a TTL
// of 0 is the agent's default.
func (c Access) CreateAPIToken(ctx context.Context, req conf.APITokenRequest) (conf.NewAPIToken, error) {
	in := map[string]any{"role": req.Role, "name": req.Name}
	if req.TTL != 0 {
		in["ttl"] = req.TTL.String()
	}
	return call[conf.NewAPIToken](ctx, c.caller, request{method: http.MethodPost, path: []string{"tokens"}, json: in, change: true})
}

// RevokeAPIToken revokes an API token.
func (c Access) RevokeAPIToken(ctx context.Context, id string) error {
	return c.exec(ctx, request{method: http.MethodDelete, path: []string{"tokens", id}, change: true})
}

// Promote makes a server a voter.
func (c Membership) Promote(ctx context.Context, node string) error {
	return c.changeCluster(ctx, nil, "members", node, "promote")
}

// Demote makes a voter a non-voter.
func (c Membership) Demote(ctx context.Context, node string) error {
	return c.changeCluster(ctx, nil, "members", node, "demote")
}

// Remove takes an agent out of the cluster.
func (c Membership) Remove(ctx context.Context, node string) error {
	return c.changeCluster(ctx, nil, "members", node, "remove")
}

// Transfer transfers the leadership to a voter; with "" the leader chooses.
func (c Membership) Transfer(ctx context.Context, node string) error {
	if node == "" {
		return c.changeCluster(ctx, nil, "transfer")
	}
	return c.changeCluster(ctx, map[string]string{"node": node}, "transfer")
}

// Leave takes the agent that c calls out of the cluster.
func (c Membership) Leave(ctx context.Context) error { return c.changeCluster(ctx, nil, "leave") }

func (c Membership) changeCluster(ctx context.Context, body any, path ...string) error {
	return c.exec(ctx, request{method: http.MethodPost, path: append([]string{"cluster"}, path...), json: body, change: true})
}
