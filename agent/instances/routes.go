package instances

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
)

// Paths of the cluster port.
const (
	routeReport  = "/instances"
	routeChanges = "/instances/changes"
)

const (
	maxReports  = 64              // in one batch
	followFor   = 5 * time.Second // for one call of routeChanges
	bytesPerSec = 64 << 10        // of the reports of one member
	bytesAtOnce = 1 << 20
)

// RegisterRoutes registers what members call at the leader.
func RegisterRoutes(c *peers.Cluster, t *Table) {
	quota := peers.NewQuota("bytes of reports", bytesPerSec, bytesAtOnce)
	peers.HandlePost(c, routeReport, func(_ context.Context, p pki.Peer, in conf.ReportBatch) (any, error) {
		size := 0
		for i := range in.Reports {
			size += sizeOf(&in.Reports[i])
		}
		if err := quota.Take(p.NodeID, size, time.Now()); err != nil {
			c.LogRefused("reports of an instance", p.NodeID, err)
			return nil, err
		}
		out, err := t.TakeMember(p.NodeID, in)
		if conf.CodeOf(err) == conf.CodeDenied || conf.CodeOf(err) == conf.CodeInvalid {
			c.LogRefused("reports of an instance", p.NodeID, err)
		}
		return out, err
	})
	c.HandleGet(routeChanges, func(r *http.Request) (any, error) {
		term, _ := strconv.ParseUint(r.URL.Query().Get("term"), 10, 64)
		position, _ := strconv.ParseUint(r.URL.Query().Get("position"), 10, 64)
		if t.Term() == 0 {
			return nil, errNotLeading()
		}
		return t.Since(r.Context(), term, position, followFor), nil
	})
}

// TakeMember takes the reports of a member, which speaks for itself alone.
func (t *Table) TakeMember(node string, in conf.ReportBatch) (conf.ReportReply, error) {
	for i := range in.Reports {
		if r := &in.Reports[i]; r.Node != node {
			return conf.ReportReply{}, conf.Errorf(conf.CodeDenied, "member %s reports for %s", node, conf.Clip(r.Node))
		}
	}
	return t.take(KindMember, in)
}

// TakeObserver takes the reports of observers, which have a token for that.
func (t *Table) TakeObserver(in conf.ReportBatch, isMember func(node string) bool) (conf.ReportReply, error) {
	for i := range in.Reports {
		if r := &in.Reports[i]; isMember(r.Node) || isMember(r.Instance) {
			return conf.ReportReply{}, conf.Errorf(conf.CodeDenied, "%s is the name of a member", conf.Clip(r.Instance)).
				WithHint("name the instance with CONFIG_INSTANCE")
		}
	}
	return t.take(KindObserver, in)
}

func (t *Table) take(kind string, in conf.ReportBatch) (conf.ReportReply, error) {
	if len(in.Reports) == 0 || len(in.Reports) > maxReports {
		return conf.ReportReply{}, conf.Errorf(conf.CodeInvalid, "%d reports at once", len(in.Reports)).WithHint("send 1 to %d", maxReports)
	}
	for i := range in.Reports {
		if err := in.Reports[i].Check(); err != nil {
			return conf.ReportReply{}, err
		}
	}
	term := t.Term()
	if term == 0 {
		return conf.ReportReply{}, errNotLeading()
	}
	for i := range in.Reports {
		if err := t.Hear(kind, &in.Reports[i]); err != nil {
			return conf.ReportReply{}, err
		}
	}
	return conf.ReportReply{Success: true, Term: term}, nil
}

func errNotLeading() error {
	return conf.Errorf(conf.CodeNoQuorum, "this agent does not lead").WithHint("try again in a moment")
}

// Sender returns what delivers the reports of this agent to the leader.
func Sender(c *peers.Cluster, t *Table) func(context.Context, []conf.Report) (uint64, error) {
	return func(ctx context.Context, reports []conf.Report) (uint64, error) {
		in := conf.ReportBatch{Reports: reports}
		if !c.IsReadyLeader() {
			leader, ok := c.Leader()
			if !ok {
				return 0, errNotLeading()
			}
			var out conf.ReportReply
			err := c.Call(ctx, leader, routeReport, in, &out)
			return out.Term, err
		}
		out, err := t.TakeMember(c.Self(), in)
		return out.Term, err
	}
}
