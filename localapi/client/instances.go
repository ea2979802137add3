package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Instances tells which instances of a service run which version; with keys also who reads
// which key.
func (c Documents) Instances(ctx context.Context, service string, keys bool) (conf.Instances, error) {
	query := url.Values{}
	if keys {
		query.Set("keys", "1")
	}
	return get[conf.Instances](ctx, c.caller, query, "services", service, "instances")
}

// Report tells the leader what an observer runs, and returns its term.
func (c Documents) Report(ctx context.Context, reports []conf.Report) (uint64, error) {
	out, err := call[conf.ReportReply](ctx, c.caller, request{method: http.MethodPost, path: []string{"instances"}, json: conf.ReportBatch{Reports: reports}})
	return out.Term, err
}
