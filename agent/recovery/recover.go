package recovery

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/google/uuid"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/agent/schemas"
	"github.com/holdfast-config/holdfast/replication"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/store"
)

// Recovered is the result of Recover, for users as JSON.
type Recovered struct {
	NodeID   string   `json:"node_id"`
	OldEpoch string   `json:"old_epoch"`
	NewEpoch string   `json:"config_epoch"` // begins with the next start of the agent
	Index    uint64   `json:"index"`        // of the last change that this agent has
	Lost     []string `json:"lost"`         // the members that must join again
	Source   string   `json:"source"`       // log or database
}

// Recover makes one server's directory a cluster of one, after most voters were lost
// permanently. Its agent must be stopped. All data of this server is kept; the next
// start begins a new epoch with it, and removes the other members. It is safe to
// repeat after an interruption.
func Recover(ctx context.Context, o options.Options, log *slog.Logger) (rec Recovered, err error) {
	if err := o.Complete(); err != nil {
		return rec, err
	}
	if _, err := os.Stat(o.DataDir); err != nil {
		return rec, conf.Errorf(conf.CodeUsage, "no data directory %s", o.DataDir).WithHint("give the directory of a server that is left: --data-dir")
	}
	lock, err := process.LockDir(o.DataDir)
	if err != nil {
		return rec, err
	}
	defer lock.Close()
	if o.NodeID, err = process.NodeID(o); err != nil {
		return rec, err
	}
	list, err := peers.OpenMemberList(o.ClusterFile(), o.NodeID, log)
	if err != nil {
		return rec, err
	}
	id, err := pki.LoadIdentity(o.TLSDir())
	if err != nil {
		return rec, err
	}
	if id.Role != pki.RoleServer || id.CA == nil {
		return rec, conf.Errorf(conf.CodeUnsupported, "this agent is a %s and cannot lead a cluster", id.Role).
			WithHint("recover in the directory of a server")
	}
	cache := schema.NewCache()
	st, err := openForRecovery(ctx, &o, cache, log)
	if err != nil {
		return rec, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	// The database may have newer members than the file.
	if members, err := st.Queries.Members(ctx); err == nil && len(members) > 0 {
		list.Replace(members)
	}

	p := Pending{Epoch: uuid.NewString(), OldEpoch: st.Epoch(), NodeID: id.NodeID, Source: sourceLog}
	if was, err := LoadPending(&o); err == nil && was != nil && was.NodeID == id.NodeID { // interrupted
		p.Epoch, p.OldEpoch = was.Epoch, was.OldEpoch
	} else if list.IsSingleNode() {
		return rec, conf.Errorf(conf.CodeConflict, "this agent is the whole cluster: there is nothing to recover").WithHint("start it: holdfast agent")
	}
	if err := p.write(&o); err != nil {
		return rec, err
	}
	err = recoverLog(ctx, &o, st, id.NodeID, cache, log)
	if conf.CodeOf(err) == conf.CodeCorrupt {
		if index, _ := st.Applied(); index == 0 || st.Epoch() == "" {
			return rec, conf.Errorf(conf.CodeCorrupt, "neither the log nor the database of this agent can be used: %w", err).
				WithHint("recover in the directory of another server that is left, or rebuild from the last-known-good file: move tls, cluster.json and raft away and start with ALLOW_AUTO_REBUILD=1")
		}
		log.Warn("the log is damaged, recovering from the database", "err", err)
		p.Source = sourceDatabase
		if err = Quarantine(o.DataDir, log, "recover: "+err.Error(), o.RaftDir()); err == nil {
			err = p.write(&o)
		}
	}
	if err != nil {
		return rec, err
	}
	rec = Recovered{NodeID: id.NodeID, OldEpoch: p.OldEpoch, NewEpoch: p.Epoch, Source: p.Source, Lost: []string{}}
	rec.Index, _ = st.Applied()
	for _, m := range list.Members() {
		if m.NodeID != id.NodeID {
			rec.Lost = append(rec.Lost, m.NodeID)
		}
	}
	// Written last: without it the agent does not start, and its hint is to run this again.
	return rec, list.Start(peers.SavedState{ClusterID: id.ClusterID, LogOf: id.NodeID})
}

// openForRecovery opens the database. A damaged one is moved to quarantine: the
// log may have all of its data.
func openForRecovery(ctx context.Context, o *options.Options, cache *schema.Cache, log *slog.Logger) (*store.Store, error) {
	so := schemas.StoreOptions(o.DBPath, cache, log)
	st, err := store.Open(ctx, so)
	if err != nil && st != nil {
		_ = st.Close()
	}
	if conf.CodeOf(err) == conf.CodeCorrupt {
		log.Warn("the database is damaged, recovering from the log", "err", err)
		if err := Quarantine(o.DataDir, log, "recover: "+err.Error(), DatabaseFiles(o.DBPath)...); err != nil {
			return nil, err
		}
		st, err = store.Open(ctx, so)
	}
	return st, err
}

// recoverLog makes this node the only voter. Entries that were never acknowledged are
// applied to a scratch database first, so that a failure leaves the real one as it
// was.
func recoverLog(ctx context.Context, o *options.Options, st *store.Store, node string, cache *schema.Cache, log *slog.Logger) (err error) {
	dir, err := os.MkdirTemp(o.DataDir, "recover-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	scratch, err := store.Open(ctx, schemas.StoreOptions(filepath.Join(dir, "config.db"), cache, log))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	addr := o.Advertise()
	if addr == "" {
		addr = o.ClusterAddr
	}
	return replication.Recover(ctx, replication.Options{
		Dir: o.RaftDir(), NodeID: node, Advertise: addr, Logger: log, FSM: st,
	}, scratch)
}
