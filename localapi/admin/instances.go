package admin

import (
	"context"
	"net/http"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Instances tells which instances of a service run what, complete on the leader alone, and takes what observers report.
type Instances interface {
	Instances(ctx context.Context, service string, keys bool) (conf.Instances, error)
	TakeReports(ctx context.Context, in conf.ReportBatch) (conf.ReportReply, error)
}

// instanceRoom has the instances of services.
type instanceRoom struct{ instances Instances }

func (i *instanceRoom) routes() []Route {
	routes := []Route{
		{
			Name: "listInstances", Method: http.MethodGet, Path: "/api/config/services/:service/instances", Role: conf.RoleRead, Summary: "Which instances of a service run which version, and what became of it",
			Query: []string{"keys"}, handle: i.list, asks: true,
		},
		{
			Name: "reportInstances", Method: http.MethodPost, Path: "/api/config/instances", Role: conf.RoleReport, Summary: "Report what an observer runs", handle: decoded(i.take), writes: true, body: 256 << 10,
		},
	}
	if i.instances == nil {
		return unsupported(routes, conf.Errorf(conf.CodeUnsupported, "this agent knows of no instances"))
	}
	return routes
}

func (i *instanceRoom) take(c *call, in conf.ReportBatch) (reply, error) {
	return answer(i.instances.TakeReports(c.r.Context(), in))
}

func (i *instanceRoom) list(c *call) (reply, error) {
	keys, err := c.flag("keys")
	if err == nil {
		return answer(i.instances.Instances(c.r.Context(), c.service(), keys))
	}
	return reply{}, err
}
