package admin

import (
	"context"
	"net/http"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Cluster reports and changes the members. A change is requested on the leader,
// but for conf.ChangeLeave, which is requested on the agent that is to leave.
type Cluster interface {
	// Status returns the state of the members, also without a leader.
	Status(ctx context.Context) (conf.ClusterStatus, error)
	Tokens(ctx context.Context) ([]conf.JoinTokenInfo, error)
	CreateToken(ctx context.Context, who conf.Principal, req conf.JoinTokenRequest) (conf.NewJoinToken, error)
	RevokeToken(ctx context.Context, who conf.Principal, id string) error
	// Change makes one of the changes of conf (conf.ChangePromote and so on). node
	// is "" for a leave, and for a transfer to any voter.
	Change(ctx context.Context, who conf.Principal, change, node string) error
}

const removePath = "/api/config/cluster/members/:node/remove"

// clusterRoom reports and changes the members, and makes join tokens.
type clusterRoom struct{ cluster Cluster }

func (m *clusterRoom) routes() []Route {
	routes := []Route{
		{
			Name: "clusterStatus", Method: http.MethodGet, Path: "/api/config/cluster", Role: conf.RoleRead,
			Summary: "The agents of the cluster and how they are",
			handle:  m.status,
		},
		{
			Name: "listJoinTokens", Method: http.MethodGet, Path: "/api/config/cluster/tokens", Role: conf.RoleRead,
			Summary: "List the join tokens, without their secrets",
			Query:   []string{"consistent"}, handle: m.listTokens,
		},
		{
			Name: "createJoinToken", Method: http.MethodPost, Path: "/api/config/cluster/tokens", Role: conf.RoleWrite,
			Summary: "Make a join token; it is shown this once",
			handle:  decoded(m.createToken), writes: true, body: smallBody,
		},
		{
			Name: "revokeJoinToken", Method: http.MethodDelete, Path: "/api/config/cluster/tokens/:id", Role: conf.RoleWrite,
			Summary: "Revoke a join token",
			handle: func(c *call) (reply, error) {
				return done(m.cluster.RevokeToken(c.r.Context(), c.who, c.params.ByName("id")))
			}, writes: true,
		},
		{
			Name: "promoteMember", Method: http.MethodPost, Path: "/api/config/cluster/members/:node/promote", Role: conf.RoleWrite,
			Summary: "Make a server a voter",
			handle:  m.change(conf.ChangePromote), writes: true,
		},
		{
			Name: "demoteMember", Method: http.MethodPost, Path: "/api/config/cluster/members/:node/demote", Role: conf.RoleWrite,
			Summary: "Make a voter a non-voter",
			handle:  m.change(conf.ChangeDemote), writes: true,
		},
		{
			Name: RouteRemoveMember, Method: http.MethodPost, Path: removePath, Role: conf.RoleWrite, Summary: "Take an agent out of the cluster",
			handle: m.change(conf.ChangeRemove), writes: true,
		},
		{
			Name: "transferLeadership", Method: http.MethodPost, Path: "/api/config/cluster/transfer", Role: conf.RoleWrite,
			Summary: "Hand the leadership to another voter",
			handle:  decoded(m.transfer), writes: true, body: smallBody, optional: true,
		},
		{
			Name: RouteLeaveCluster, Method: http.MethodPost, Path: "/api/config/cluster/leave", Role: conf.RoleWrite,
			Summary: "Take this agent itself out of the cluster",
			handle:  m.change(conf.ChangeLeave), writes: true, here: true,
		},
	}
	if m.cluster == nil {
		return unsupported(routes, conf.Errorf(conf.CodeUnsupported, "this agent has no cluster").WithHint("GET /openapi.json lists what there is"))
	}
	return routes
}

func (m *clusterRoom) status(c *call) (reply, error) {
	out, err := m.cluster.Status(c.r.Context())
	if out.Nodes == nil {
		out.Nodes = []conf.NodeStatus{}
	}
	return answer(out, err)
}

func (m *clusterRoom) listTokens(c *call) (reply, error) {
	list, err := m.cluster.Tokens(c.r.Context())
	return listed("tokens", list, err)
}

type joinTokenRequest struct {
	Role    string `json:"role"`
	Service string `json:"service"`
	TTL     string `json:"ttl"`
	Uses    *int   `json:"uses"`
}

// joinTokenResponse is the only body with the secret of a join token.
type joinTokenResponse struct {
	Success bool `json:"success"`
	conf.NewJoinToken
}

func (m *clusterRoom) createToken(c *call, in joinTokenRequest) (reply, error) {
	req, err := in.check()
	if err != nil {
		return reply{}, err
	}
	created, err := m.cluster.CreateToken(c.r.Context(), c.who, req)
	return answer(joinTokenResponse{Success: true, NewJoinToken: created}, err)
}

// check fills in what the request leaves out.
func (in *joinTokenRequest) check() (out conf.JoinTokenRequest, err error) {
	out = conf.JoinTokenRequest{Role: in.Role, Service: in.Service, TTL: conf.DefaultTokenTTL, Uses: 1}
	if conf.CheckMemberRole(in.Role) != nil {
		return out, invalid("role", "%q is neither %s nor %s", conf.Clip(in.Role), conf.MemberServer, conf.MemberSidecar).
			WithHint("use %s for an agent that may vote and holds all keys, %s for one beside a service", conf.MemberServer, conf.MemberSidecar)
	}
	if in.Service != "" {
		if err := conf.CheckService(in.Service); err != nil {
			return out, err
		}
	}
	if in.TTL != "" {
		if out.TTL, err = parseTTL(in.TTL, conf.MaxTokenTTL, "1h or 48h"); err != nil {
			return out, err
		}
	}
	if in.Uses != nil {
		if *in.Uses < 0 || *in.Uses > conf.MaxTokenUses {
			return out, invalid("uses", "must be from 0 to %d", conf.MaxTokenUses).WithHint("0 is without a limit")
		}
		out.Uses = *in.Uses
	}
	return out, nil
}

// change makes a change of the member that the path names, if any.
func (m *clusterRoom) change(change string) func(*call) (reply, error) {
	return func(c *call) (reply, error) {
		return done(m.cluster.Change(c.r.Context(), c.who, change, c.params.ByName("node")))
	}
}

type transferRequest struct {
	Node string `json:"node"`
}

func (m *clusterRoom) transfer(c *call, req transferRequest) (reply, error) {
	if req.Node != "" {
		if err := conf.CheckNode(req.Node); err != nil {
			return reply{}, err
		}
	}
	return done(m.cluster.Change(c.r.Context(), c.who, conf.ChangeTransfer, req.Node))
}
