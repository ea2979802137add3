package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/time/rate"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Authenticator knows the tokens. It compares them in constant time. For a token
// that was good once, and has expired or was revoked, it answers false and the
// name alone.
type Authenticator interface {
	Authenticate(token string) (conf.Principal, bool)
}

// Auditor keeps the access log. Record may take as long as it takes to keep a row, and
// a moment at most: then it may drop one and count the loss.
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

// APITokens makes and ends the tokens by which callers show who they are. A
// change is asked for on the agent that leads.
type APITokens interface {
	APITokens(ctx context.Context) ([]conf.APITokenInfo, error)
	CreateAPIToken(ctx context.Context, who conf.Principal, req conf.APITokenRequest) (conf.NewAPIToken, error)
	RevokeAPIToken(ctx context.Context, who conf.Principal, id string) error
}

// Backups knows the copies of the database. A drill is asked for on the agent
// that leads.
type Backups interface {
	BackupStatus(ctx context.Context) (conf.BackupStatus, error)
	// Backups lists the generations, the newest first.
	Backups(ctx context.Context) ([]conf.Backup, error)
	// DrillBackup proves the backup by restoring it, now.
	DrillBackup(ctx context.Context) (conf.Drill, error)
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
	// APITokens answers for the routes under /api/config/tokens, which are
	// unsupported without it.
	APITokens APITokens
	// Keys answers for the routes under /api/config/keys, which are unsupported
	// without it.
	Keys Keys
	// Secrets answers for the routes of secrets and for ?explain=1, which are
	// unsupported without it.
	Secrets Secrets
	// RequestKeys are keys that the members share: the id of a request is made of
	// its body, and nobody who sees the id may try bodies until one fits. The first
	// makes new ids; by the others a request is known that came before the keys
	// changed. nil: none.
	RequestKeys func() [][]byte
	// Backups answers for the routes under /api/config/backups, which are
	// unsupported without it.
	Backups Backups
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
	// Caller says for the access log who made a request. Default: CallerAddr.
	Caller func(*http.Request) string
	// Self is this agent's node id, for the access log. With Relay it is needed for leaving the
	// cluster, which then is a removal that the leader makes.
	Self func() string

	// Share divides the agent between its callers; the handlers of one agent are
	// given the same. Default: one of its own.
	Share *Share

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
	if o.Share == nil {
		o.Share = NewShare()
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
