package agent

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-config/holdfast/agent/edit"
	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/replication"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/store"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// Recovered says what Recover did.
type Recovered struct {
	NodeID   string   `json:"node_id"`
	OldEpoch string   `json:"old_epoch"`
	NewEpoch string   `json:"config_epoch"` // begins with the next start of the agent
	Index    uint64   `json:"index"`        // of the last change that this agent has
	Lost     []string `json:"lost"`         // the members that have to join anew
	Source   string   `json:"source"`       // log or database
}

// revival is recover.pending: what the next start has to finish.
type revival struct {
	Epoch    string `json:"config_epoch"`
	OldEpoch string `json:"old_epoch"`
	NodeID   string `json:"node_id"`
	Source   string `json:"source"`
	Reason   string `json:"reason,omitempty"` // default: the recovery of a cluster

	newer []*conf.Record // of the old epoch, that may be newer than what the database has
}

func (o *Options) recoverPending() string { return filepath.Join(o.DataDir, "recover.pending") }

// Recover makes a cluster that lost most of its voters for ever live on in the
// directory of one server that is left. Its agent must be stopped. All that this
// server has is kept; the next start begins a new epoch with it, and takes the
// other members out. Doing it again after it was cut short is safe.
func Recover(ctx context.Context, o Options, log *slog.Logger) (rec Recovered, err error) {
	if err := o.Complete(); err != nil {
		return rec, err
	}
	if _, err := os.Stat(o.DataDir); err != nil {
		return rec, conf.Errorf(conf.CodeUsage, "no data directory %s", o.DataDir).WithHint("give the directory of a server that is left: --data-dir")
	}
	lock, err := lockDir(o.DataDir)
	if err != nil {
		return rec, err
	}
	defer lock.Close()
	if o.NodeID, err = nodeID(o); err != nil {
		return rec, err
	}
	c := &cluster{o: o, log: log, gone: map[string]bool{}}
	if err := c.readFile(); err != nil {
		return rec, err
	}
	id, err := transport.LoadIdentity(o.tlsDir())
	if err != nil {
		return rec, err
	}
	if id.Role != transport.RoleServer || id.CA == nil {
		return rec, conf.Errorf(conf.CodeUnsupported, "this agent is a %s and cannot lead a cluster", id.Role).
			WithHint("recover in the directory of a server")
	}
	s := &supervisor{o: o, log: log, schemas: schema.NewCache(), cluster: c}
	st, err := s.openForRecovery(ctx, o.DBPath)
	if err != nil {
		return rec, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	c.learnFrom(ctx, st)

	r := revival{Epoch: uuid.NewString(), OldEpoch: st.Epoch(), NodeID: id.NodeID, Source: "log"}
	if was, err := readRevival(o); err == nil && was != nil && was.NodeID == id.NodeID { // cut short
		r.Epoch, r.OldEpoch = was.Epoch, was.OldEpoch
	} else if c.alone() {
		return rec, conf.Errorf(conf.CodeConflict, "this agent is the whole cluster: there is nothing to recover").WithHint("start it: holdfast agent")
	}
	if err := lkg.WriteJSON(o.recoverPending(), r, 0o600); err != nil {
		return rec, err
	}
	err = s.recoverLog(ctx, st, id.NodeID)
	if conf.CodeOf(err) == conf.CodeCorrupt {
		if index, _ := st.Applied(); index == 0 || st.Epoch() == "" {
			return rec, conf.Errorf(conf.CodeCorrupt, "neither the log nor the database of this agent can be used: %w", err).
				WithHint("recover in the directory of another server that is left, or rebuild from the last-known-good file: move tls, cluster.json and raft away and start with ALLOW_AUTO_REBUILD=1")
		}
		log.Warn("the log is damaged: the database is what the cluster goes on from", "err", err)
		r.Source = "database"
		if err = s.setAside("recover: "+err.Error(), o.raftDir()); err == nil {
			err = lkg.WriteJSON(o.recoverPending(), r, 0o600)
		}
	}
	if err != nil {
		return rec, err
	}
	rec = Recovered{NodeID: id.NodeID, OldEpoch: r.OldEpoch, NewEpoch: r.Epoch, Source: r.Source, Lost: []string{}}
	rec.Index, _ = st.Applied()
	for _, m := range c.members() {
		if m.NodeID != id.NodeID {
			rec.Lost = append(rec.Lost, m.NodeID)
		}
	}
	// Last: until here the agent refuses to start, and asks for this to be done again.
	c.known = clusterFile{ClusterID: id.ClusterID, LogOf: id.NodeID}
	return rec, c.writeFile()
}

// learnFrom takes the members over from the database, which may know more of them
// than the file.
func (c *cluster) learnFrom(ctx context.Context, st *store.Store) {
	if members, err := st.Members(ctx); err == nil && len(members) > 0 {
		c.known.Members = members
	}
}

// openForRecovery opens the database. A damaged one is set aside: the log may
// hold all of it.
func (s *supervisor) openForRecovery(ctx context.Context, path string) (*store.Store, error) {
	so := store.Options{Path: path, Logger: s.log, Project: s.project, ModelHash: modelHash}
	st, err := store.Open(ctx, so)
	if err != nil && st != nil {
		_ = st.Close()
	}
	if conf.CodeOf(err) == conf.CodeCorrupt {
		s.log.Warn("the database is damaged: the log is what the cluster goes on from", "err", err)
		if err := s.setAside("recover: "+err.Error(), path, path+"-wal", path+"-shm"); err != nil {
			return nil, err
		}
		st, err = store.Open(ctx, so)
	}
	return st, err
}

// recoverLog makes this node the only voter. What was never acknowledged is
// applied to a database of its own first, so that a failure leaves the true one
// as it was.
func (s *supervisor) recoverLog(ctx context.Context, st *store.Store, node string) (err error) {
	dir, err := os.MkdirTemp(s.o.DataDir, "recover-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	scratch, err := store.Open(ctx, store.Options{Path: filepath.Join(dir, "config.db"), Logger: s.log, Project: s.project, ModelHash: modelHash})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	addr := s.o.advertise()
	if addr == "" {
		addr = s.o.ClusterAddr
	}
	return replication.Recover(ctx, replication.Options{
		Dir: s.o.raftDir(), NodeID: node, Advertise: addr, Logger: s.log, Machine: st,
	}, scratch)
}

// readRevival is what a recovery left to be done, nil when there was none.
func readRevival(o Options) (*revival, error) {
	data, err := os.ReadFile(o.recoverPending())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // none is not an error
	}
	var r revival
	if err == nil {
		err = conf.DecodeStrict(data, conf.MaxDocument, &r)
	}
	if err == nil && (r.Epoch == "" || r.NodeID == "") {
		err = conf.Errorf(conf.CodeCorrupt, "it is not complete")
	}
	if err != nil {
		return nil, conf.Errorf(conf.CodeCorrupt, "%s cannot be read: %w", o.recoverPending(), err).WithHint("run holdfast cluster recover again")
	}
	return &r, nil
}

// revive notes what recovery is not finished, nil for none.
func (s *supervisor) revive(r *revival) {
	s.unproven.Store(r != nil && r.Source == sourceBackup)
	s.reviving.Store(r != nil)
}

// revive starts the new epoch of a recovered cluster with all that is there: every
// service gets its next version, signed for the new epoch, and the old members go.
// It can be cut short and done again.
func (ss *session) revive(ctx context.Context, r *revival) error {
	now := time.Now()
	at := conf.FormatTime(now)
	propose := func(c command.Command) error {
		res, err := ss.member.Propose(ctx, c)
		if err == nil && res.Err != nil {
			err = res.Err
		}
		return err
	}
	reason := cmp.Or(r.Reason, "cluster recovered on "+r.NodeID)
	if ss.store.Epoch() != r.Epoch {
		if err := propose(&command.Genesis{
			Epoch: r.Epoch, At: at, NodeID: r.NodeID, Reason: reason, Keep: true, Signed: ss.s.signEpoch(r.OldEpoch, r.Epoch, now),
		}); err != nil {
			return err
		}
	}
	if r.Source == sourceBackup {
		if err := ss.endTokens(ctx, at); err != nil {
			return err
		}
	}
	var old []*conf.Record
	services := []string{}
	newer := map[string]*conf.Record{}
	trusted := ss.s.publicKeys()
	for _, rec := range r.newer {
		if rec.Epoch == r.OldEpoch && proven(rec, trusted) == nil {
			newer[rec.Service] = rec
		}
	}
	err := ss.store.Records(ctx, func(rec *conf.Record) error {
		if n := newer[rec.Service]; n != nil && rec.Epoch == n.Epoch && n.Version > rec.Version {
			// Acknowledged after the backup was made. The number is that of the store.
			up := *n
			up.Version, up.Secrets = rec.Version, rec.Secrets
			rec = &up
		}
		delete(newer, rec.Service)
		if rec.Version > 0 && rec.Epoch != r.Epoch {
			old = append(old, rec)
		}
		if rec.Exists() {
			services = append(services, rec.Service)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, rec := range newer { // services that the backup does not know
		up := *rec
		up.Version = 0
		old = append(old, &up)
		if rec.Exists() {
			services = append(services, rec.Service)
		}
	}
	signer := ss.s.signer()
	for len(old) > 0 {
		ed := &command.Edit{Epoch: r.Epoch, At: at, By: "recover", Reason: reason, Action: command.ActionRebuild}
		for size := 0; len(old) > 0 && size < command.MaxSize/8; old = old[1:] {
			rec := old[0]
			m := signer.Sign(rec.Service, rec.Config, r.Epoch, now)
			ed.Updates = append(ed.Updates, command.Update{
				Service: rec.Service, Prev: rec.Version, Version: rec.Version + 1, Values: rec.Values, Config: rec.Config,
				Checksum: m.Checksum, IssuedAt: m.IssuedAt, Signature: m.Signature, KeyID: signer.KeyID(), Deleted: rec.Deleted,
				UpdatedAt: rec.UpdatedAt, UpdatedBy: rec.UpdatedBy,
			})
			sealed, lost, err := edit.Reseal(ss.s.vault, rec, r.Epoch)
			if err != nil {
				return err
			}
			if len(lost) > 0 { // they stay as they are: nobody can enter again what is not known
				ss.s.log.Warn("secrets did not open and have to be set again", "secrets", lost)
			}
			ed.Secrets = append(ed.Secrets, sealed...)
			size += len(rec.Values) + len(rec.Config)
			for _, s := range sealed {
				size += len(s.EncryptedValue)
			}
		}
		if err := propose(ed); err != nil {
			return err
		}
	}
	members, err := ss.store.Members(ctx)
	if err != nil {
		return err
	}
	out := &command.Cluster{At: at, By: "recover", Audit: []conf.Access{{UserID: "recover", Action: "write", Success: true, Reason: reason, Timestamp: at}}}
	for _, m := range members {
		if m.NodeID != r.NodeID && m.RemovedAt == "" {
			out.MemberRemoves = append(out.MemberRemoves, m.NodeID)
		}
	}
	if err := propose(out); err != nil {
		return err
	}
	info := RebuildInfo{
		ConfigEpoch: r.Epoch, OldEpoch: r.OldEpoch, RebuiltAt: at, Source: r.Source, Reason: reason, Services: services, Dropped: []string{},
	}
	if err := lkg.WriteJSON(ss.s.o.rebuildInfo(), info, 0o600); err != nil {
		return err
	}
	if members, err = ss.store.Members(ctx); err != nil {
		return err
	}
	ss.s.cluster.learn(members)
	ss.s.repaired = reason + ": the others have to join anew"
	ss.s.log.Warn("the cluster lives on in this agent, with a new epoch", "epoch", r.Epoch, "old", r.OldEpoch, "services", len(services), "removed", out.MemberRemoves)
	if err := os.Remove(ss.s.o.recoverPending()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
