package recovery

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/edit"
	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/replication"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/backup"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/durable"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/replication/store"
)

// Keys are this agent's keys. Its methods may be called from any goroutine.
type Keys interface {
	Signer() *seal.Signer
	PublicKeys() map[string]ed25519.PublicKey // by key id
	SignEpoch(old, next string, at time.Time) *conf.EpochChange
}

// Replica is a store and the log in front of it, while this agent leads it.
type Replica interface {
	Store() *store.Store
	Node() *replication.Node
}

// Options set up a Manager.
type Options struct {
	Options   *options.Options
	Cluster   *peers.Cluster
	View      *documents.View
	Stable    func() []*conf.Record // what a rebuild begins with
	Schemas   *schema.Cache
	Keys      Keys
	Sealer    *keys.Sealer
	LKG       *lkg.Writer
	SetStatus func(event string) // health shows it while a rebuild runs
	Logger    *slog.Logger
}

// Manager carries out the ways of recovery that need a running agent.
type Manager struct {
	o   Options
	log *slog.Logger

	pending         atomic.Bool // a recovery is not finished: the members in the log are not current
	tokensUnrevoked atomic.Bool // the store is from a backup, and its tokens are not revoked yet
}

// New makes a Manager.
func New(o Options) *Manager { return &Manager{o: o, log: o.Logger} }

// SetPending stores the recovery that is not finished; nil means none.
func (m *Manager) SetPending(p *Pending) {
	m.tokensUnrevoked.Store(p != nil && p.FromBackup())
	m.pending.Store(p != nil)
}

// IsPending reports whether a recovery is not finished.
func (m *Manager) IsPending() bool { return m.pending.Load() }

// TokensUnrevoked reports whether the tokens of the store must not be accepted yet.
func (m *Manager) TokensUnrevoked() bool { return m.tokensUnrevoked.Load() }

// Begin writes the marker that makes an interrupted rebuild start again. Before that it
// saves what the plan collects in the last-known-good file. While the marker exists, no
// replica serves before the new store is filled.
func (m *Manager) Begin(ctx context.Context, p *Plan) error {
	p.collect(m.o.View, m.o.Stable)
	if p.source == sourceMemory {
		if err := m.o.LKG.Flush(ctx); err != nil {
			return conf.Errorf(conf.CodeStorageFull, "a rebuild needs a valid last-known-good file first: %w", err)
		}
	}
	return lkg.WriteJSON(m.o.Options.RebuildPending(), map[string]string{"reason": p.Reason}, 0o600)
}

// PendingRebuild returns the interrupted rebuild, nil when there is none.
func (m *Manager) PendingRebuild() *Plan {
	data, err := os.ReadFile(m.o.Options.RebuildPending())
	if err != nil {
		return nil
	}
	var was struct {
		Reason string `json:"reason"`
	}
	if err := conf.DecodeStrict(data, conf.MaxDocument, &was); err != nil || was.Reason == "" {
		was.Reason = "one that was cut short"
	}
	return NewPlan(was.Reason)
}

// EndRebuild removes the marker of Begin.
func (m *Manager) EndRebuild() error {
	if err := os.Remove(m.o.Options.RebuildPending()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// ImportRecords writes the plan's records to the new epoch, and then rebuild.info.
func (m *Manager) ImportRecords(ctx context.Context, r Replica, p *Plan) error {
	ed := edit.New(edit.Options{
		Proposer: r.Node(), Records: fixedEpoch(r.Store().Epoch()), Archive: r.Store().Queries, Schemas: m.o.Schemas,
		Sealer: m.o.Sealer, Signer: m.o.Keys.Signer, Ready: func() error { return nil },
	})
	who := conf.Principal{Name: "rebuild", Role: conf.RoleWrite}
	dropped, unopened, err := ed.ImportRecords(ctx, who, p.recs, p.Reason)
	if err != nil {
		return err
	}
	m.logUnopened(unopened)
	now := conf.FormatTime(time.Now())
	row := conf.Access{UserID: who.Name, Action: "write", Success: true, Reason: "rebuild from " + p.source + ": " + p.Reason, Timestamp: now}
	if _, err := r.Node().Propose(ctx, &command.Audit{Rows: []conf.Access{row}}); err != nil {
		return err
	}
	info := Info{
		ConfigEpoch: r.Store().Epoch(), OldEpoch: p.oldEpoch, RebuiltAt: now, Source: p.source, Reason: p.Reason,
		Services: []string{}, Dropped: append([]string{}, dropped...),
	}
	for _, rec := range p.recs {
		if !rec.Deleted {
			info.Services = append(info.Services, rec.Service)
		}
	}
	return info.Write(m.o.Options)
}

func (m *Manager) logUnopened(secrets []string) {
	if len(secrets) > 0 { // they stay sealed: their values are not known
		m.log.Warn("secrets could not be opened and must be set again", "secrets", secrets)
	}
}

// SignEpoch signs the change from the old epoch to that of a rebuild; it returns nil when
// there was no old one.
func (m *Manager) SignEpoch(p *Plan, next string, at time.Time) *conf.EpochChange {
	return m.o.Keys.SignEpoch(p.oldEpoch, next, at)
}

// fixedEpoch is the state of a new store.
type fixedEpoch string

func (fixedEpoch) Record(string) *conf.Record { return nil }
func (fixedEpoch) Services() []*conf.Record   { return nil }
func (e fixedEpoch) Epoch() string            { return string(e) }

// RestoreNewestBackup restores the newest verified backup in place of a lost database,
// for a rebuild; it returns nil when no backup is usable. earlier are the epochs before
// the current one.
func (m *Manager) RestoreNewestBackup(ctx context.Context, p *Plan, earlier []string) (*Pending, error) {
	o := m.o.Options
	if !o.Backup.Enabled() || p.source == sourceMemory {
		return nil, nil //nolint:nilnil // none is not an error
	}
	m.o.SetStatus("rebuilding: looking for a backup")
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	tmp := o.DBPath + ".restored"
	removeRestored(tmp)
	ours := backup.ClusterIdentity{Epochs: append(slices.Clone(earlier), m.o.View.Load().Epoch), Keys: conf.SortedKeys(m.o.Keys.PublicKeys())}
	check := checker(m.o.Schemas, m.log)
	got, err := backup.Restore(ctx, o.Backup, backup.Selection{Verified: true, Own: ours}, tmp, check, nil)
	if conf.CodeOf(err) == conf.CodeNotFound {
		got, err = backup.Restore(ctx, o.Backup, backup.Selection{Own: ours}, tmp, check, nil)
	}
	if err == nil {
		err = verifySigners(ctx, o, tmp, m.log)
	}
	if err != nil {
		_ = os.Remove(tmp)
		alarm.NoBackup.Report(m.log, "source", p.source, "err", err, "hint", conf.HintOf(err))
		return nil, nil //nolint:nilnil,nilerr // the next source is tried
	}
	pending := &Pending{
		Epoch: uuid.NewString(), OldEpoch: got.Epoch, NodeID: m.o.Cluster.Self(), Source: sourceBackup,
		Reason: "rebuild from the backup " + got.Generation.ID + ", index " + strconv.FormatUint(got.Index, 10) + ": " + p.Reason,
	}
	if p.source == sourceLKG {
		pending.newer = p.recs
	}
	p.source = sourceBackup
	return pending, durable.Rename(tmp, o.DBPath)
}
