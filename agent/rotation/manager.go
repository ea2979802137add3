package rotation

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/agent/served"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Options set up a Manager.
type Options struct {
	Options *options.Options
	Keys    *AgentKeys // changed by the Manager alone
	Sealer  *keys.Sealer
	Cluster *peers.Cluster
	View    *documents.View                         // what is stable; its signatures and secrets follow the keys
	Served  *served.Served                          // what this agent serves; its marks follow the HMAC key
	Secrets *documents.Secrets                      // says which documents lack a secret without a key
	LKG     *lkg.Writer                             // the file is written under the active HMAC key
	Editor  Reissuer                                // signs everything again
	Audit   func(row conf.Access)                   // writes a row of the access log
	Pending func() bool                             // a recovery is not finished: keys stay as they are
	NewCA   func(context.Context, *replica.Replica) // called on the leader when it has moved to a new CA
	Logger  *slog.Logger
}

// Reissuer signs everything again with the active key; *edit.Editor is one.
type Reissuer interface {
	Reissue(ctx context.Context) (int, error)
}

// Manager changes the keys of this agent, and, on the leader, those of the cluster.
type Manager struct {
	*AgentKeys
	o          Options
	log        *slog.Logger
	sup        *replica.Supervisor
	file       keyFile
	ca         caKeys
	members    memberKeys
	wakeSync   chan struct{} // capacity 1
	wakeLeader chan struct{} // capacity 1
	pendingTTL time.Duration // how long a distributed key waits for its announcement

	mu      sync.Mutex             // one change of the keys at a time
	pending map[string]*pendingKey // what the leader distributed and did not announce yet, by kind
}

// New makes a Manager. Attach comes before everything that needs a replica.
func New(o Options) *Manager {
	m := &Manager{
		AgentKeys: o.Keys, o: o, log: o.Logger, file: keyFile{o.Options, o.Keys.holder, o.Cluster.Port},
		ca:       caKeys{dir: o.Options.TLSDir(), port: o.Cluster.Port, cluster: o.Cluster, now: o.Options.Clock, log: o.Logger},
		wakeSync: make(chan struct{}, 1), wakeLeader: make(chan struct{}, 1), pending: map[string]*pendingKey{}, pendingTTL: pendingTTL,
	}
	m.members = memberKeys{o.Cluster, o.Keys, &m.ca}
	return m
}

// Attach gives the Manager the replicas, and registers its routes.
func (m *Manager) Attach(s *replica.Supervisor) {
	m.sup = s
	m.registerRoutes()
}

// RenewCertificate is a job that replaces this agent's certificate in the last third of its
// life.
func (m *Manager) RenewCertificate(ctx context.Context, _ *replica.Replica) { m.ca.renew(ctx) }

func wake(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// setKeyError records why a key could not be had, nil for none, and logs what is new. The
// caller holds mu.
func (m *Manager) setKeyError(kind string, err error) {
	errs := map[string]error{}
	if old := m.errs.Load(); old != nil {
		maps.Copy(errs, *old)
	}
	was := errs[kind]
	if err == nil && was == nil {
		return
	}
	if delete(errs, kind); err != nil {
		errs[kind] = err
	}
	m.errs.Store(&errs)
	if err != nil && (was == nil || conf.CodeOf(was) != conf.CodeOf(err)) { // the texts name ports, which change each time
		m.log.Warn("a key of the cluster is not here yet: it is tried again", "kind", kind, "err", err, "hint", conf.HintOf(err))
	}
}
