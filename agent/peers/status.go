package peers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
)

const routeStatus = "/status"

// Report is what a member reports of itself.
type Report struct {
	LastTerm    uint64            `json:"last_term"`
	LastIndex   uint64            `json:"last_index"`
	Applied     uint64            `json:"applied"`
	LastContact time.Duration     `json:"last_contact"` // nanoseconds
	Version     string            `json:"version"`
	Epoch       string            `json:"config_epoch"`
	Digest      string            `json:"digest"`
	CertExpires string            `json:"certificate_expires"`
	Services    map[string]uint64 `json:"services"`
	Full        bool              `json:"full"` // too little disk space to lead
	Health      conf.Health       `json:"health"`
	Since       string            `json:"since"`             // of what the health reports
	Features    uint64            `json:"knows"`             // of its build
	CutOff      []conf.CutOff     `json:"cut_off,omitempty"` // by this agent, while it leads
}

// Report asks a member for its report; this agent's own comes from memory.
func (c *Cluster) Report(ctx context.Context, node string) (r Report, err error) {
	if node == c.Self() {
		return c.report(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, StatusTimeout)
	defer cancel()
	err = c.Call(ctx, node, routeStatus, nil, &r)
	return r, err
}

// NodeStats is replication.AutopilotOptions.Stats. It records the features of the
// member's build too.
func (c *Cluster) NodeStats(ctx context.Context, id, _ string) (replication.NodeStats, error) {
	var r Report
	if err := c.Call(ctx, id, routeStatus, nil, &r); err != nil {
		c.Features().SetSilent(id, time.Now())
		return replication.NodeStats{}, err
	}
	c.Features().Set(id, r.Version, r.Features, time.Now())
	return replication.NodeStats{LastTerm: r.LastTerm, LastIndex: r.LastIndex, LastContact: r.LastContact}, nil
}

// Status is admin.Cluster: it asks all members at once. Without a leader it answers
// too, as far as this agent can see.
func (c *Cluster) Status(ctx context.Context) (conf.ClusterStatus, error) {
	id := c.Port.Identity()
	own := c.report()
	out := conf.ClusterStatus{ClusterID: id.ClusterID, ConfigEpoch: own.Epoch, Nodes: []conf.NodeStatus{}}
	servers := c.servers()
	voter := c.Voters()
	for _, s := range servers {
		if s.Voter {
			out.Voters++
		}
	}
	out.Leader, out.Term, out.Index = c.replica.Leader(), own.LastTerm, own.Applied
	members := c.Members()
	for _, s := range servers { // in Raft's configuration, and not in the list yet
		if !slices.ContainsFunc(members, func(m conf.Member) bool { return m.NodeID == s.ID }) {
			members = append(members, unlisted(s, c.Port.Identity(), c.service))
		}
	}
	if len(members) == 0 {
		members = []conf.Member{{NodeID: id.NodeID, Role: string(id.Role), Addr: c.Port.Addr(), Service: c.service}}
	}
	out.Nodes = make([]conf.NodeStatus, len(members))
	reports := make([]Report, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() { out.Nodes[i], reports[i] = c.nodeStatus(ctx, m) })
	}
	wg.Wait()
	alive := 0
	for i := range out.Nodes {
		if n := &out.Nodes[i]; n.Reachable && (voter[n.NodeID] || len(voter) == 0) && reports[i].LastIndex > out.Index {
			out.Index = reports[i].LastIndex
		}
	}
	for i := range out.Nodes {
		n := &out.Nodes[i]
		switch {
		case !n.Reachable:
			n.State = conf.NodeUnreachable
			continue
		case n.Mode == conf.ModeRebuilding:
			n.State = conf.NodeRebuilding
		case n.NodeID == out.Leader:
			n.State = conf.NodeLeader
		case voter[n.NodeID]:
			n.State = conf.NodeVoter
		default:
			n.State = conf.NodeNonVoter
		}
		if voter[n.NodeID] && n.State != conf.NodeRebuilding {
			alive++
		}
		if out.Index > reports[i].Applied {
			n.LagEntries = out.Index - reports[i].Applied
		}
		n.LagSeconds = reports[i].LastContact.Seconds()
	}
	nameCutOff(out, reports)
	out.Quorum = out.Leader != "" && 2*alive > out.Voters
	slices.SortFunc(out.Nodes, func(a, b conf.NodeStatus) int { return strings.Compare(a.NodeID, b.NodeID) })
	return out, nil
}

// unlisted is what an agent, beside service, knows of a member before its row is written, as
// that of a founder in the first seconds. Only servers vote.
func unlisted(s replication.Server, id *pki.Identity, service string) conf.Member {
	switch {
	case s.ID == id.NodeID:
		return conf.Member{NodeID: s.ID, Role: string(id.Role), Addr: s.Addr, Service: service}
	case s.Voter:
		return conf.Member{NodeID: s.ID, Role: conf.MemberServer, Addr: s.Addr}
	}
	return conf.Member{NodeID: s.ID, Role: conf.MemberSidecar, Addr: s.Addr}
}

// nameCutOff notes at the members that the leader has cut off why they are.
func nameCutOff(st conf.ClusterStatus, reports []Report) {
	leader := slices.IndexFunc(st.Nodes, func(n conf.NodeStatus) bool { return n.NodeID == st.Leader })
	if leader < 0 {
		return
	}
	for _, cut := range reports[leader].CutOff {
		for i := range st.Nodes {
			if n := &st.Nodes[i]; n.NodeID == cut.NodeID {
				n.Err = CutOffText(cut)
				n.Event = n.Err // it shows first, whatever the member says of itself
			}
		}
	}
}

// CutOffText is what is told about a member that is cut off.
func CutOffText(c conf.CutOff) string {
	return fmt.Sprintf("cut off: it does not vote, and responds with the higher term %d; holdfast cluster remove %s removes it", c.Term, c.NodeID)
}

func (c *Cluster) nodeStatus(ctx context.Context, m conf.Member) (conf.NodeStatus, Report) {
	n := conf.NodeStatus{NodeID: m.NodeID, Role: m.Role, Service: m.Service, Addr: m.Addr, Version: m.Version}
	r, err := c.Report(ctx, m.NodeID)
	if err != nil {
		n.Err = err.Error()
		return n, r
	}
	n.Reachable, n.ConfigEpoch, n.Digest, n.Services = true, r.Epoch, r.Digest, r.Services
	n.CertificateExpires, n.Version = r.CertExpires, r.Version
	n.Mode, n.Since = r.Health.OperationalMode, r.Since
	if r.Health.Event != nil {
		n.Event = *r.Health.Event
	}
	if r.Health.Err != nil {
		n.Err = *r.Health.Err
	}
	n.UpdatedAt = conf.FormatTime(time.Now())
	return n, r
}
