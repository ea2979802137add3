package admin

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Cluster knows the other agents. A change is asked for on the agent that leads,
// but for conf.ChangeLeave, which is asked for on the agent that is to leave.
type Cluster interface {
	// Status asks the members how they are. It answers without a leader, too.
	Status(ctx context.Context) (conf.ClusterStatus, error)
	Tokens(ctx context.Context) ([]conf.JoinTokenInfo, error)
	CreateToken(ctx context.Context, who conf.Principal, req conf.JoinTokenRequest) (conf.NewJoinToken, error)
	RevokeToken(ctx context.Context, who conf.Principal, id string) error
	// Change makes one of the changes of conf (conf.ChangePromote and so on). node
	// is "" for a transfer to anybody and for a leave.
	Change(ctx context.Context, who conf.Principal, change, node string) error
}

const leavePath = "/api/config/cluster/leave"

// cluster is the backend of all routes of this file.
func (h *Handler) cluster() (Cluster, error) {
	if h.o.Cluster == nil {
		return nil, conf.Errorf(conf.CodeUnsupported, "this agent has no cluster").
			WithHint("GET /openapi.json lists what there is")
	}
	return h.o.Cluster, nil
}

func (h *Handler) clusterStatus(c *call) (reply, error) {
	cl, err := h.cluster()
	if err != nil {
		return reply{}, err
	}
	out, err := cl.Status(c.r.Context())
	if err != nil {
		return reply{}, err
	}
	if out.Nodes == nil {
		out.Nodes = []conf.NodeStatus{}
	}
	return ok(out)
}

func (h *Handler) listTokens(c *call) (reply, error) {
	cl, err := h.cluster()
	if err != nil {
		return reply{}, err
	}
	list, err := cl.Tokens(c.r.Context())
	if err != nil {
		return reply{}, err
	}
	if list == nil {
		list = []conf.JoinTokenInfo{}
	}
	return ok(tokensResponse{Tokens: list})
}

func (h *Handler) createToken(c *call) (reply, error) {
	cl, err := h.cluster()
	if err != nil {
		return reply{}, err
	}
	var in tokenRequest
	if err := conf.DecodeStrict(c.body, len(c.body), &in); err != nil {
		return reply{}, err
	}
	req, err := in.check()
	if err != nil {
		return reply{}, err
	}
	t, err := cl.CreateToken(c.r.Context(), c.who, req)
	if err != nil {
		return reply{}, err
	}
	return ok(tokenResponse{Success: true, NewJoinToken: t})
}

// check fills in what the request leaves out.
func (in *tokenRequest) check() (conf.JoinTokenRequest, error) {
	out := conf.JoinTokenRequest{Role: in.Role, Service: in.Service, TTL: conf.DefaultTokenTTL, Uses: 1}
	if conf.CheckMemberRole(in.Role) != nil {
		return out, invalid("role", "%q is neither %s nor %s", clip(in.Role), conf.MemberServer, conf.MemberSidecar).
			WithHint("use %s for an agent that may vote and holds all keys, %s for one beside a service", conf.MemberServer, conf.MemberSidecar)
	}
	if in.Service != "" {
		if err := conf.CheckService(in.Service); err != nil {
			return out, err
		}
	}
	if in.TTL != "" {
		ttl, err := time.ParseDuration(in.TTL)
		if err != nil {
			return out, invalid("ttl", "%q is not a duration", clip(in.TTL)).WithHint("write it as 30m, 1h or 48h")
		}
		if ttl < time.Second || ttl > conf.MaxTokenTTL {
			return out, invalid("ttl", "must be from 1s to %s", hours(conf.MaxTokenTTL)).WithHint("make a new token later instead of one that lives longer")
		}
		out.TTL = ttl
	}
	if in.Uses != nil {
		if *in.Uses < 0 || *in.Uses > conf.MaxTokenUses {
			return out, invalid("uses", "must be from 0 to %d", conf.MaxTokenUses).WithHint("0 is without a limit")
		}
		out.Uses = *in.Uses
	}
	return out, nil
}

func hours(d time.Duration) string { return fmt.Sprintf("%dh", int(d.Hours())) }

func (h *Handler) revokeToken(c *call) (reply, error) {
	cl, err := h.cluster()
	if err != nil {
		return reply{}, err
	}
	if err := cl.RevokeToken(c.r.Context(), c.who, c.params.ByName("id")); err != nil {
		return reply{}, err
	}
	return ok(doneResponse{Success: true})
}

// changeMember makes the change that the end of the path names.
func (h *Handler) changeMember(c *call) (reply, error) {
	change := c.route.Path[strings.LastIndexByte(c.route.Path, '/')+1:]
	return h.changeCluster(c, change, c.params.ByName("node"))
}

func (h *Handler) transferLeadership(c *call) (reply, error) {
	var req transferRequest
	if len(c.body) > 0 {
		if err := conf.DecodeStrict(c.body, len(c.body), &req); err != nil {
			return reply{}, err
		}
	}
	if req.Node != "" {
		if err := conf.CheckNode(req.Node); err != nil {
			return reply{}, err
		}
	}
	return h.changeCluster(c, conf.ChangeTransfer, req.Node)
}

func (h *Handler) leaveCluster(c *call) (reply, error) {
	return h.changeCluster(c, conf.ChangeLeave, "")
}

func (h *Handler) changeCluster(c *call, change, node string) (reply, error) {
	cl, err := h.cluster()
	if err != nil {
		return reply{}, err
	}
	if err := cl.Change(c.r.Context(), c.who, change, node); err != nil {
		return reply{}, err
	}
	return ok(doneResponse{Success: true})
}
