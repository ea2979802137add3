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
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// Options set up a Manager.
type Options struct {
	Options *options.Options
	Keys    *AgentKeys
	Vault   *keys.Vault
	Cluster *peers.Cluster
	View    *documents.View
	Secrets *documents.Secrets
	LKG     *lkg.Writer
	Editor  Reissuer
	Audit   func(row conf.Access)
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
	ca         caKeys
	wakeSync   chan struct{} // capacity 1
	wakeLeader chan struct{} // capacity 1
	pendingTTL time.Duration // how long a distributed key waits for its announcement

	mu      sync.Mutex             // one change of the keys at a time
	pending map[string]*pendingKey // what the leader distributed and did not announce yet, by kind
}

// New makes a Manager. Attach comes before everything that needs a replica.
func New(o Options) *Manager {
	return &Manager{
		AgentKeys: o.Keys, o: o, log: o.Logger, ca: caKeys{dir: o.Options.TLSDir(), port: o.Cluster.Port, log: o.Logger},
		wakeSync: make(chan struct{}, 1), wakeLeader: make(chan struct{}, 1), pending: map[string]*pendingKey{}, pendingTTL: pendingTTL,
	}
}

// Attach gives the Manager the replicas, and registers its routes.
func (m *Manager) Attach(s *replica.Supervisor) {
	m.sup = s
	m.registerRoutes()
}

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

func (m *Manager) keyOptions() keys.Options {
	return keys.Options{Role: string(m.o.Cluster.Port.Identity().Role), Joined: true, LockTimeout: 2 * time.Second}
}

// rotateFile makes a key the main one of the .env file, and active the old one.
func (m *Manager) rotateFile(k keys.Material, active string) error {
	return m.stored(keys.Rotate(m.o.Options.Env, m.o.Options.EnvFile, k, active, m.keyOptions()))
}

// undoFile takes a key out of the .env file, and makes the old one the main one.
func (m *Manager) undoFile(kind, id string) error {
	return m.stored(keys.Undo(m.o.Options.Env, m.o.Options.EnvFile, kind, id, m.keyOptions()))
}

// dropFile takes an old key out of the .env file.
func (m *Manager) dropFile(kind, id string) error {
	return m.stored(keys.Drop(m.o.Options.Env, m.o.Options.EnvFile, kind, id, m.keyOptions()))
}

// stored uses what the .env file holds now.
func (m *Manager) stored(set keys.Set, err error) error {
	if err == nil {
		m.holder.Put(set)
	}
	return err
}

// heldKeys reports what this agent has, by kind.
func (m *Manager) heldKeys() map[string]conf.KeysHeld {
	set := m.Set()
	out := map[string]conf.KeysHeld{}
	for _, kind := range []string{conf.KeyMaster, conf.KeyHMAC, conf.KeySigning} {
		h := conf.KeysHeld{IDs: []string{}}
		main, old := set.IDs(kind)
		for _, id := range []string{main, old} {
			if id != "" {
				h.IDs = append(h.IDs, id)
			}
		}
		h.Use = m.ActiveID(kind)
		out[kind] = h
	}
	id := m.o.Cluster.Port.Identity()
	if id.Role == transport.RoleSidecar {
		h := out[conf.KeySigning]
		h.IDs = conf.SortedKeys(m.PublicKeys())
		if a := m.Keyring().Active(conf.KeySigning); a != nil && h.Has(a.ID) {
			h.Use = a.ID
		}
		out[conf.KeySigning] = h
	}
	ca := conf.KeysHeld{IDs: []string{}, Use: transport.HashCA(id.Issuer())}
	for _, c := range id.CAs {
		// A server has a CA when it could issue by it.
		if hash := transport.HashCA(c); id.Role != transport.RoleServer || id.CA == nil || hash == id.CA.Hash() || hash == ca.Use || m.ca.next(hash) != nil {
			ca.IDs = append(ca.IDs, hash)
		}
	}
	out[conf.KeyCA] = ca
	errs := m.errs.Load()
	if errs == nil {
		return out
	}
	for kind, err := range *errs {
		h := out[kind]
		h.Err = err.Error()
		if hint := conf.HintOf(err); hint != "" {
			h.Err += "; " + hint
		}
		out[kind] = h
	}
	return out
}
