package client_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// backend stands behind the real admin handler and notes what arrives.
type backend struct {
	draft       conf.Draft
	raw         []byte
	profile     conf.Profile
	of          []string
	reason, id  string
	search      conf.SearchRequest
	history     conf.HistoryFilter
	access      conf.AccessFilter
	limit       int
	recordCalls atomic.Int64
	token       conf.JoinTokenRequest
	change      string // what was last asked of the cluster
	settled     int
	err         error
}

func (b *backend) Authenticate(token string) (conf.Principal, bool) {
	return conf.Principal{Name: "admin", Role: conf.RoleWrite}, token == "admin-token"
}

func (b *backend) Record(conf.Access) {}

func (b *backend) Health() conf.Health {
	return conf.Health{OK: true, DatabaseStatus: conf.DatabaseHealthy}
}

type reader struct{ *backend }

func (r reader) ListServices(context.Context) ([]conf.ServiceInfo, error) {
	return []conf.ServiceInfo{{Service: "stt-worker", Version: 5}}, r.err
}

func (r reader) CurrentRecord(_ context.Context, service string) (*conf.Record, error) {
	r.recordCalls.Add(1)
	return &conf.Record{Service: service, Version: 5, Values: json.RawMessage(`{"a":1}`), Config: json.RawMessage(`{"a":1,"b":2}`)}, r.err
}

func (b *backend) Search(_ context.Context, req conf.SearchRequest) (conf.SearchResponse, error) {
	b.search = req
	return conf.SearchResponse{}, b.err
}

func (b *backend) History(_ context.Context, f conf.HistoryFilter) (conf.HistoryPage, error) {
	b.history = f
	return conf.HistoryPage{}, b.err
}

func (b *backend) AccessLog(_ context.Context, f conf.AccessFilter) (conf.AccessPage, error) {
	b.access = f
	return conf.AccessPage{}, b.err
}

func (b *backend) Versions(_ context.Context, _ string, limit int) ([]conf.Metadata, error) {
	b.limit = limit
	return []conf.Metadata{{Version: 3}}, b.err
}

func (b *backend) VersionValues(context.Context, string, uint64) (json.RawMessage, error) {
	return json.RawMessage(`{"old":3}`), b.err
}

func (b *backend) Schemas(context.Context) ([]conf.SchemaInfo, error) {
	return []conf.SchemaInfo{{Service: "router"}}, b.err
}

func (b *backend) Schema(_ context.Context, service string) (conf.SchemaInfo, error) {
	return conf.SchemaInfo{Service: service, Hash: "hash", Fields: []conf.Field{{Key: "a"}}}, b.err
}

func (b *backend) Profiles(context.Context) ([]conf.Profile, error) {
	return []conf.Profile{{Name: "night"}}, b.err
}

func (b *backend) Profile(_ context.Context, name string) (conf.Profile, error) {
	return conf.Profile{Name: name}, b.err
}

func (b *backend) Do(_ context.Context, _ conf.Principal, d conf.Draft) (conf.Outcome, error) {
	b.draft = d
	if d.Op == conf.OpSchema {
		b.raw, b.reason, b.id = d.Schema, d.Reason, d.RequestID
	}
	return conf.Outcome{Service: d.Service, Version: 6, Config: json.RawMessage(`{"a":2}`)}, b.err
}

func (b *backend) SaveProfile(_ context.Context, who conf.Principal, p conf.Profile, of []string, reason, id string) (conf.Profile, error) {
	b.profile, b.of, b.reason, b.id = p, of, reason, id
	p.UpdatedBy = who.Name
	return p, b.err
}

func (b *backend) ImportProfile(_ context.Context, _ conf.Principal, p conf.Profile, reason, id string) (conf.Profile, []conf.StaleProfile, error) {
	b.profile, b.reason, b.id = p, reason, id
	return p, []conf.StaleProfile{{Profile: p.Name, Service: "router", Error: "stale"}}, b.err
}

func (b *backend) ActivateProfile(_ context.Context, _ conf.Principal, _, reason, id, _ string) ([]conf.Outcome, error) {
	b.reason, b.id = reason, id
	return []conf.Outcome{{Service: "stt-worker", Version: 6}}, b.err
}

func (b *backend) DeleteProfile(_ context.Context, _ conf.Principal, _, reason, id string) error {
	b.reason, b.id = reason, id
	return b.err
}

func (b *backend) Rebuild(_ context.Context, token string) error {
	if token != "rebuild-token" {
		return conf.Errorf(conf.CodeDenied, "wrong token")
	}
	return b.err
}

func (b *backend) Status(context.Context) (conf.ClusterStatus, error) {
	return conf.ClusterStatus{Leader: "n1", Quorum: true, Nodes: []conf.NodeStatus{{NodeID: "n1", Services: map[string]uint64{"router": 4}}}}, b.err
}

func (b *backend) Tokens(context.Context) ([]conf.JoinTokenInfo, error) {
	return []conf.JoinTokenInfo{{ID: "t1", Role: conf.MemberServer, Uses: 1}}, b.err
}

func (b *backend) CreateToken(_ context.Context, _ conf.Principal, req conf.JoinTokenRequest) (conf.NewJoinToken, error) {
	b.token = req
	return conf.NewJoinToken{ID: "t1", Token: "HF1", Command: "holdfast agent", ExpiresAt: "2026-01-02T03:04:05+00:00"}, b.err
}

func (b *backend) RevokeToken(_ context.Context, _ conf.Principal, id string) error {
	b.change = "revoke " + id
	return b.err
}

func (b *backend) Change(_ context.Context, _ conf.Principal, change, node string) error {
	b.change = change + " " + node
	return b.err
}

// newAgent serves the admin API of a backend and makes a client of it.
func newAgent(t *testing.T) (*backend, *client.Client) {
	t.Helper()
	return newAgentFor(t, client.Options{Token: "admin-token"})
}

func options(b *backend) admin.Options {
	return admin.Options{
		Auth: b, Audit: b, Health: b, Reader: reader{b}, Queries: b, Versions: b, Schemas: b, Profiles: b,
		Editor: b, ProfileEditor: b, Rebuilder: b, Cluster: b,
		Consistent: func(context.Context) error { b.settled++; return nil },
	}
}

func newAgentFor(t *testing.T, o client.Options) (*backend, *client.Client) {
	t.Helper()
	b := &backend{}
	h, err := admin.New(options(b))
	check(t, err)
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	o.AdminURL = srv.URL
	return b, newClient(t, o)
}

func newClient(t *testing.T, o client.Options) *client.Client {
	t.Helper()
	c, err := client.New(o)
	check(t, err)
	t.Cleanup(c.Close)
	return c
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
