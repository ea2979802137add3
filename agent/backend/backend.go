package backend

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/holdfast-config/holdfast/agent/backupjob"
	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/edit"
	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/agent/rotation"
	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/connlimit"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/replication/store"
	"github.com/holdfast-config/holdfast/replication/view"
)

// Options set up a Backend.
type Options struct {
	View       *documents.View // what is stable
	Served     *documents.View // what this agent serves
	Supervisor *replica.Supervisor
	Status     *replica.Status
	Schemas    *schema.Cache
	Secrets    *documents.Secrets
	Editor     *edit.Editor
	LKG        *lkg.Writer
	Backups    *backupjob.Manager
	Keys       *rotation.AgentKeys
	Options    *options.Options
	Cluster    *peers.Cluster
	Ports      *connlimit.Budget
	// Remarks are what other rooms have to say in the health. They leave ok as it is.
	Remarks []func() error
}

// Backend implements admin.Backend. Its methods are safe for concurrent use; those that
// read the store return conf.CodeReadOnly while no replica is open.
type Backend struct {
	o       Options
	sup     *replica.Supervisor
	records documents.Records
	explain chan struct{} // limits concurrent calls: each reads the history of every stored value
}

// New makes a Backend.
func New(o Options) *Backend {
	return &Backend{o: o, sup: o.Supervisor, records: documents.Records{View: o.View}, explain: make(chan struct{}, 2)}
}

// ListServices lists the services that have a document or a schema.
func (b *Backend) ListServices(context.Context) ([]conf.ServiceInfo, error) {
	if b.o.View.Load().Source == "" {
		return nil, b.sup.Down()
	}
	out := []conf.ServiceInfo{}
	for _, r := range b.records.Services() {
		if r.Deleted {
			continue
		}
		out = append(out, conf.ServiceInfo{
			Service: r.Service, Version: r.Version, UpdatedAt: r.UpdatedAt, UpdatedBy: r.UpdatedBy,
			Epoch: r.Epoch, Checksum: r.Checksum, HasSchema: r.Schema != nil,
		})
	}
	return out, nil
}

// CurrentRecord returns the newest record of a service, or conf.CodeNotFound.
func (b *Backend) CurrentRecord(_ context.Context, service string) (*conf.Record, error) {
	if rec := b.records.Record(service); rec != nil {
		return rec, nil
	}
	return nil, b.absent(service, conf.Errorf(conf.CodeNotFound, "no service %q", service).WithHint("GET /api/config/services lists them"))
}

// absent is the error for something of a service that this agent does not have: missing,
// when it has all that the store has; else it cannot know.
func (b *Backend) absent(service string, missing error) error {
	switch source := b.o.View.Load().Source; source {
	case view.SourceReplica:
		return missing
	case "":
		return b.sup.Down()
	default:
		return conf.Errorf(conf.CodeReadOnly, "this agent cannot know whether %q exists: its source is %s, which may be older than the store", service, source).
			WithHint("try again when its replica is up, or ask another agent; GET /api/config/health shows the reason")
	}
}

// Versions lists the kept versions of a service, newest first.
func (b *Backend) Versions(ctx context.Context, service string, limit int) ([]conf.Metadata, error) {
	return replica.Query(b.sup, func(st *store.Store) ([]conf.Metadata, error) { return st.Queries.Versions(ctx, service, limit) })
}

// VersionValues returns the values that were stored at a version.
func (b *Backend) VersionValues(ctx context.Context, service string, version uint64) (json.RawMessage, error) {
	return replica.Query(b.sup, func(st *store.Store) (json.RawMessage, error) { return st.Queries.VersionValues(ctx, service, version) })
}

// Profile returns one profile.
func (b *Backend) Profile(ctx context.Context, name string) (conf.Profile, error) {
	return replica.Query(b.sup, func(st *store.Store) (conf.Profile, error) { return st.Queries.Profile(ctx, name) })
}

// Profiles lists all profiles.
func (b *Backend) Profiles(ctx context.Context) ([]conf.Profile, error) {
	return replica.Query(b.sup, func(st *store.Store) ([]conf.Profile, error) { return st.Queries.Profiles(ctx) })
}

// Search finds configuration items.
func (b *Backend) Search(ctx context.Context, q conf.SearchRequest) (conf.SearchResponse, error) {
	return replica.Query(b.sup, func(st *store.Store) (conf.SearchResponse, error) { return st.Search(ctx, q) })
}

// History pages through the changes.
func (b *Backend) History(ctx context.Context, f conf.HistoryFilter) (conf.HistoryPage, error) {
	return replica.Query(b.sup, func(st *store.Store) (conf.HistoryPage, error) { return st.Queries.History(ctx, f) })
}

// AccessLog pages through the access log.
func (b *Backend) AccessLog(ctx context.Context, f conf.AccessFilter) (conf.AccessPage, error) {
	return replica.Query(b.sup, func(st *store.Store) (conf.AccessPage, error) { return st.Queries.AccessLog(ctx, f) })
}

// Schemas lists the schemas, without their text. It works in every mode.
func (b *Backend) Schemas(ctx context.Context) ([]conf.SchemaInfo, error) {
	if r := b.sup.Current(); r != nil {
		return r.Store().Queries.Schemas(ctx)
	}
	out := []conf.SchemaInfo{}
	for _, r := range b.records.Services() {
		if r.Schema != nil {
			out = append(out, conf.SchemaInfo{Service: r.Service, Hash: seal.Checksum(r.Schema)})
		}
	}
	return out, nil
}

// Schema returns the schema of a service with its fields. It works in every mode.
func (b *Backend) Schema(ctx context.Context, service string) (conf.SchemaInfo, error) {
	r := b.records.Record(service)
	if r == nil || r.Schema == nil {
		return conf.SchemaInfo{}, b.absent(service, conf.Errorf(conf.CodeNotFound, "service %q has no schema", service).
			WithHint("put one: holdfast schema put %s FILE", service))
	}
	s, err := b.o.Schemas.Get(service, r.Schema)
	if err != nil {
		return conf.SchemaInfo{}, err
	}
	info := conf.SchemaInfo{Service: service, Hash: seal.Checksum(r.Schema), Schema: r.Schema, Fields: s.Fields()}
	all, err := b.Schemas(ctx)
	if err != nil {
		return info, nil //nolint:nilerr // author and time are optional; the schema itself is at hand
	}
	for _, i := range all {
		if i.Service == service {
			info.UpdatedAt, info.UpdatedBy = i.UpdatedAt, i.UpdatedBy
		}
	}
	return info, nil
}

// Rebuild makes a new store from what this agent can verify, for a caller with the rebuild
// token.
func (b *Backend) Rebuild(ctx context.Context, token string) error {
	if !b.o.Keys.Set().AllowsRebuild(token) {
		return conf.Errorf(conf.CodeDenied, "wrong rebuild token").WithHint("send the value of REBUILD_TOKEN in the .env file of this agent")
	}
	return b.sup.Rebuild(ctx, "by hand")
}

// ownWrite is how long the answer to a change that the leader has acknowledged waits for
// this agent. A member whose log is replicated has the change within milliseconds, and
// within a second of its own start.
const ownWrite = 3 * time.Second

// AwaitLocal waits until this agent serves a change that the leader has acknowledged: a
// caller that writes here and then reads here expects its own write. What takes longer than
// ownWrite is committed too, and the reply says that it cannot be read here yet.
// It is peers.Forwarder.AwaitLocal.
func (b *Backend) AwaitLocal(ctx context.Context, target admin.Target, reply http.Header) {
	ctx, cancel := context.WithTimeout(ctx, ownWrite)
	defer cancel()
	if target.Route == admin.RouteListAPITokens {
		_ = b.sup.Consistent(ctx) // so that a change of a token takes effect on this agent
		return
	}
	if target.Route == admin.RouteRemoveMember && target.Node == b.o.Cluster.Self() {
		return // it gets no more of the log
	}
	index, err := strconv.ParseUint(reply.Get(replica.IndexHeader), 10, 64)
	if err != nil {
		return // it changed nothing, or the leader's build does not tell
	}
	reply.Set("X-Config-Applied", strconv.FormatBool(replica.AwaitIndex(ctx, b.sup, index)))
}
