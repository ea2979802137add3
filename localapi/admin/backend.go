package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Authenticator knows the tokens. It compares them in constant time.
type Authenticator interface {
	Authenticate(token string) (conf.Principal, bool)
}

// Auditor keeps the access log. Record never blocks: it may drop a row and count
// the loss, but must not hold up the request that is being logged.
type Auditor interface {
	Record(row conf.Access)
}

// HealthReporter tells this agent's health from memory.
type HealthReporter interface {
	Health() conf.Health
}

// Reader reads the current configuration from memory.
type Reader interface {
	// Services lists all services that have a document or a schema, by name.
	Services(ctx context.Context) ([]conf.ServiceInfo, error)
	// Record is the newest record of one service; a service that nobody knows is
	// conf.CodeNotFound. The record of a deleted or not yet configured service
	// may be returned: the handler answers 404 for it.
	Record(ctx context.Context, service string) (*conf.Record, error)
}

// Queries searches what the store holds beside the current documents. Filters
// arrive checked, with their limits filled in.
type Queries interface {
	Search(ctx context.Context, req conf.SearchRequest) (conf.SearchResponse, error)
	History(ctx context.Context, f conf.HistoryFilter) (conf.HistoryPage, error)
	AccessLog(ctx context.Context, f conf.AccessFilter) (conf.AccessPage, error)
}

// Versions reads the earlier versions of a service.
type Versions interface {
	// Versions lists the newest limit versions, newest first.
	Versions(ctx context.Context, service string, limit int) ([]conf.Metadata, error)
	// VersionValues is what was stored at that version.
	VersionValues(ctx context.Context, service string, version uint64) (json.RawMessage, error)
}

// SchemaReader reads schemas. Schemas leaves Schema and Fields empty; Schema
// fills both.
type SchemaReader interface {
	Schemas(ctx context.Context) ([]conf.SchemaInfo, error)
	Schema(ctx context.Context, service string) (conf.SchemaInfo, error)
}

// ProfileReader reads profiles.
type ProfileReader interface {
	Profiles(ctx context.Context) ([]conf.Profile, error)
	Profile(ctx context.Context, name string) (conf.Profile, error)
}

// Editor changes one service. A draft with DryRun needs the read role only.
type Editor interface {
	Do(ctx context.Context, who conf.Principal, d conf.Draft) (conf.Outcome, error)
}

// SchemaEditor replaces the schema of one service. The outcome is that of the
// service's document under the new schema.
type SchemaEditor interface {
	PutSchema(ctx context.Context, who conf.Principal, service string, raw []byte, reason, requestID string) (conf.SchemaInfo, conf.Outcome, error)
}

// ProfileEditor changes profiles.
type ProfileEditor interface {
	// SaveProfile stores p. With p.Services nil it saves the stored values that
	// the services named in of have now, or all services when of is empty.
	SaveProfile(ctx context.Context, who conf.Principal, p conf.Profile, of []string, reason, requestID string) (conf.Profile, error)
	// ActivateProfile makes the values of the profile the stored values of its
	// services, all or none.
	ActivateProfile(ctx context.Context, who conf.Principal, name, reason, requestID string) ([]conf.Outcome, error)
	DeleteProfile(ctx context.Context, who conf.Principal, name, reason, requestID string) error
}

// Rebuilder makes a new store with a new epoch. It checks its own token, in
// constant time: conf.CodeDenied for a wrong one.
type Rebuilder interface {
	Rebuild(ctx context.Context, token string) error
}

// Options are the backends and settings of a Handler. Every backend of the first
// block is needed, none of the second.
type Options struct {
	Auth          Authenticator
	Audit         Auditor
	Health        HealthReporter
	Reader        Reader
	Queries       Queries
	Versions      Versions
	Schemas       SchemaReader
	Profiles      ProfileReader
	Editor        Editor
	SchemaEditor  SchemaEditor
	ProfileEditor ProfileEditor
	Rebuilder     Rebuilder

	// Cluster answers for the routes under /api/config/cluster, which are
	// unsupported without it.
	Cluster Cluster
	// Forward sends what changes something, and reads with ?consistent=1, to the
	// leader. nil handles everything here.
	Forward Forwarder
	// Relay is for an agent that knows no tokens: everything but health, the
	// OpenAPI document and a rebuild is forwarded, for the leader to judge.
	Relay bool
	// Consistent waits until a read of this agent is linearizable. It is called
	// for reads with ?consistent=1 that were not forwarded.
	Consistent func(ctx context.Context) error
	// Age says how old the local view may be: its source ("replica", "lkg",
	// "default" or "") and the time since a leader was heard, negative for never.
	Age func() (source string, age time.Duration)
	// Self is this agent's node id. With Relay it is needed for leaving the
	// cluster, which then is a removal that the leader makes.
	Self func() string

	Logger *slog.Logger     // default: slog.DiscardHandler
	Now    func() time.Time // default: time.Now

	// Failed attempts that one source address may make: FailRate a second after a
	// burst of FailBurst. Defaults: 2 and 20.
	FailRate  rate.Limit
	FailBurst int
	// Timeout bounds each request but a rebuild. Default: 30 s.
	Timeout time.Duration
	// BodyTimeout bounds how long a body may take to arrive. Default: 15 s.
	BodyTimeout time.Duration
}

func (o *Options) fill() error {
	var missing []error
	need := func(name string, ok bool) {
		if !ok {
			missing = append(missing, fmt.Errorf("admin: Options.%s is nil", name))
		}
	}
	need("Auth", o.Auth != nil)
	need("Audit", o.Audit != nil)
	need("Health", o.Health != nil)
	need("Reader", o.Reader != nil)
	need("Queries", o.Queries != nil)
	need("Versions", o.Versions != nil)
	need("Schemas", o.Schemas != nil)
	need("Profiles", o.Profiles != nil)
	need("Editor", o.Editor != nil)
	need("SchemaEditor", o.SchemaEditor != nil)
	need("ProfileEditor", o.ProfileEditor != nil)
	need("Rebuilder", o.Rebuilder != nil)
	need("Forward (Relay is set)", o.Forward != nil || !o.Relay)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.FailRate <= 0 {
		o.FailRate = 2
	}
	if o.FailBurst <= 0 {
		o.FailBurst = 20
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.BodyTimeout <= 0 {
		o.BodyTimeout = 15 * time.Second
	}
	return errors.Join(missing...)
}
