package replica

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/recovery"
	"github.com/holdfast-config/holdfast/agent/schemas"
	"github.com/holdfast-config/holdfast/replication"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/backup"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store"
	"github.com/holdfast-config/holdfast/replication/view"
)

// chooseFiles decides from what the replica opens: the files that are there, or, with a
// plan or after one that was cut short, those of a rebuild. It returns the recovery that
// the open replica has to finish.
func (s *Supervisor) chooseFiles(ctx context.Context, plan *recovery.Plan) (_ *recovery.Plan, pending *recovery.Pending, files recovery.Files, err error) {
	o, rec := s.o.Options, s.o.Recovery
	if pending, err = recovery.LoadPending(o); err != nil {
		return plan, nil, files, err
	}
	member := !s.o.Cluster.IsSingleNode()
	if rec.SetPending(pending); pending != nil && member {
		return plan, nil, files, conf.Errorf(conf.CodeReadOnly, "the recovery of the cluster was cut short").WithHint("stop this agent and run holdfast cluster recover again")
	}
	if plan == nil && !member {
		plan = rec.PendingRebuild()
	}
	if plan != nil {
		if member {
			return plan, nil, files, errRebuildInCluster()
		}
		if pending, err = s.beginRebuild(ctx, plan, pending); err != nil {
			return plan, nil, files, err
		}
	}
	files = recovery.ExistingFiles(o)
	switch {
	case pending != nil && pending.FromBackup() && !files.Database && !files.Raft:
		err = conf.Errorf(conf.CodeCorrupt, "the restore from the backup was cut short").WithHint("run holdfast agent --restore again, or empty the data directory")
	case member && !files.Raft && s.o.Cluster.HasLog():
		err = conf.Errorf(conf.CodeCorrupt, "the log of this agent is missing")
	case plan == nil && !member && !files.Database && !files.Raft && files.Other:
		err = conf.Errorf(conf.CodeCorrupt, "the database and the log are missing, but other files of this agent are there").
			WithHint("put config.db or raft/ back, or rebuild: start with ALLOW_AUTO_REBUILD=1, or POST /api/config/rebuild with REBUILD_TOKEN; to start without data use an empty directory")
	}
	return plan, pending, files, err
}

// beginRebuild quarantines the files of the old store, and puts the newest backup in
// their place when there is one. pending is the recovery that was to be finished; the
// one that is to be finished now is returned.
func (s *Supervisor) beginRebuild(ctx context.Context, plan *recovery.Plan, pending *recovery.Pending) (*recovery.Pending, error) {
	o, rec := s.o.Options, s.o.Recovery
	if err := rec.Begin(ctx, plan); err != nil {
		return nil, err
	}
	if pending != nil { // the rebuild starts a new epoch too
		if err := recovery.DropPending(o); err != nil {
			return nil, err
		}
		rec.SetPending(nil)
	}
	s.o.Status.Set(conf.DatabaseCorrupted, conf.ModeRebuilding, "rebuilding: "+plan.Reason, nil)
	if err := recovery.Quarantine(o.DataDir, s.log, plan.Reason, append(recovery.DatabaseFiles(o.DBPath), o.RaftDir())...); err != nil {
		return nil, err
	}
	pending, err := rec.RestoreNewestBackup(ctx, plan, s.EarlierEpochs(s.o.View.Load().Epoch))
	if err != nil {
		return nil, err
	}
	rec.SetPending(pending)
	return pending, nil
}

// open brings up SQLite and the Raft node. The one that is damaged is quarantined and
// made from the other one. With show the database is served as soon as it is open.
func (r *Replica) open(ctx context.Context, files recovery.Files, show bool) error {
	s := r.sup
	o := s.o.Options
	database := recovery.DatabaseFiles(o.DBPath)
	if !files.Database { // the log files of a database that is missing belong to no other
		if err := recovery.Quarantine(o.DataDir, s.log, "the database file is missing", database[1:]...); err != nil {
			return err
		}
		if files.Raft {
			s.repairEvent = "database restored from the log"
		}
	}
	if err := backup.RemoveLocalState(o.DBPath); err != nil && !errors.Is(err, syscall.EROFS) { // of a replica that ended in the middle of one
		s.log.Warn("what an earlier backup left could not be removed", "err", err)
	}
	err := r.openStore(ctx)
	if isDamage(err) && files.Raft {
		s.alarms.replica.Raise(alarm.DatabaseDamaged, "", err)
		s.o.Status.Set(statusOf(err), conf.ModeReadOnly, "restoring the database from the log", err)
		if err := recovery.Quarantine(o.DataDir, s.log, err.Error(), database...); err != nil {
			return err
		}
		files.Database = false
		s.repairEvent = "database restored from the log"
		err = r.openStore(ctx)
	}
	if err != nil {
		return err
	}
	s.o.Cluster.LoadFrom(ctx, r.store.Queries)
	served := servedIndex(&r.sup.o, r.store.Epoch())
	if show {
		r.show(ctx)
	}
	err = r.openNode(ctx, served)
	if conf.CodeOf(err) == conf.CodeCorrupt && files.Database && s.o.Cluster.IsSingleNode() {
		if index, _ := r.store.Applied(); index > 0 {
			s.alarms.replica.Raise(alarm.LogDamaged, "", err)
			if err := recovery.Quarantine(o.DataDir, s.log, err.Error(), o.RaftDir()); err != nil {
				return err
			}
			s.repairEvent = "log made anew from the database"
			err = r.openNode(ctx, served)
		}
	}
	if err != nil && !files.Database {
		// An empty file must not be mistaken for the database at the next start.
		r.close()
		for _, path := range database {
			_ = os.Remove(path)
		}
	}
	return err
}

func (r *Replica) openStore(ctx context.Context) error {
	st, err := store.Open(ctx, schemas.StoreOptions(r.sup.o.Options.DBPath, r.sup.o.Schemas, r.sup.log))
	if err != nil {
		if st != nil {
			_ = st.Close()
		}
		return err
	}
	r.store = st
	r.sup.lastStore.Store(st)
	return nil
}

// servedIndex is the log index that this agent has served in an earlier life, 0 when it
// has none of the epoch of its store.
func servedIndex(o *Options, epoch string) uint64 {
	if snap := o.View.Load(); snap.Epoch != "" && (snap.Epoch == epoch || epoch == "") && o.Cluster.HasLog() {
		return snap.Index
	}
	return 0
}

func (r *Replica) openNode(ctx context.Context, served uint64) error {
	s := r.sup
	c := s.o.Cluster
	node, err := replication.Open(ctx, replication.Options{
		Dir: s.o.Options.RaftDir(), NodeID: c.Self(), Logger: s.log, Join: !c.IsSingleNode(),
		LogStore: s.o.Options.RaftLog,
		HadLog:   c.HasLog(), MinIndex: served,
		CheckCommand: c.CheckCommand,
		FSM:          r.store, OnApplied: r.onApplied, OnDigest: r.digest.onDigest, OnRestored: r.onRestored, OnBlocked: r.onBlocked,
		Transport: replication.NewTransport(c.Port.RaftLayer(), s.log),
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.node, r.opened = node, true
	r.mu.Unlock()
	return nil
}

// prepare brings the replica to where it can serve, and starts the epoch where there is
// none.
func (r *Replica) prepare(ctx context.Context, plan *recovery.Plan, files recovery.Files, pending *recovery.Pending) error {
	s := r.sup
	if !s.o.Cluster.IsSingleNode() {
		return r.catchUp(ctx)
	}
	for !r.IsReadyLeader() {
		s.o.Status.SetUnlessLocked(conf.DatabaseHealthy, conf.ModeReadOnly, "waiting for a leader", nil)
		select {
		case err := <-r.node.Fault():
			return err
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if pending != nil {
		event, err := s.o.Recovery.Finish(ctx, r, pending)
		if err != nil {
			return err
		}
		s.repairEvent = event
		s.o.Recovery.SetPending(nil)
		return nil
	}
	if r.store.Epoch() != "" {
		return r.checkNotOlderThanServed(ctx)
	}
	if plan == nil && files.Other {
		return conf.Errorf(conf.CodeCorrupt, "the log holds no epoch, but this agent had one").
			WithHint("rebuild: start with ALLOW_AUTO_REBUILD=1, or POST /api/config/rebuild with REBUILD_TOKEN")
	}
	now := time.Now()
	g := &command.Genesis{Epoch: uuid.NewString(), At: conf.FormatTime(now), NodeID: s.o.Cluster.Self(), Reason: "first start"}
	if plan != nil {
		g.Reason, g.Signed = plan.Reason, s.o.Recovery.SignEpoch(plan, g.Epoch, now)
	}
	if err := r.Propose(ctx, g); err != nil {
		return fmt.Errorf("starting the epoch: %w", err)
	}
	s.log.Info("new epoch", "epoch", g.Epoch, "reason", g.Reason)
	if plan != nil {
		return s.o.Recovery.ImportRecords(ctx, r, plan)
	}
	return nil
}

// checkNotOlderThanServed rejects a replica that is older than what this agent has
// already served: an acknowledged write would disappear silently.
func (r *Replica) checkNotOlderThanServed(ctx context.Context) error {
	const hint = "restore the newer config.db and raft/, or rebuild from the last-known-good file (ALLOW_AUTO_REBUILD=1, or POST /api/config/rebuild)"
	snap := r.sup.o.View.Load()
	if epoch := r.store.Epoch(); slices.Contains(r.sup.pastEpochs, epoch) {
		return conf.Errorf(conf.CodeCorrupt, "the database is of the epoch %s, which this agent has left for %s", epoch, snap.Epoch).WithHint(hint)
	} else if snap.Epoch != epoch {
		return nil
	}
	stored, floor := map[string]uint64{}, map[string]uint64{}
	if err := r.store.Queries.Records(ctx, func(rec *conf.Record) error {
		stored[rec.Service], floor[rec.Service] = rec.Version, rec.Floor()
		return nil
	}); err != nil {
		return err
	}
	// What is served may be the candidate of a rollout, or its revert, which were given out
	// and are not stable.
	err := older(snap, stored, hint)
	if err == nil {
		err = older(r.sup.o.Served.Views().Served.Load(), floor, hint)
	}
	return err
}

// older is the error of a store that has not reached a version of a snapshot.
func older(snap *documents.Snapshot, stored map[string]uint64, hint string) (err error) {
	snap.Range(func(e *documents.Entry) bool {
		if have := stored[e.Record.Service]; e.Record.Version > have {
			err = conf.Errorf(conf.CodeCorrupt, "the database is older than the last-known-good file: %s is at version %d there, %d here",
				e.Record.Service, e.Record.Version, have).WithHint("%s", hint)
			return false
		}
		return true
	})
	return err
}

// publish fills the view from the store and lets it follow the log from there.
func (r *Replica) publish(ctx context.Context) error {
	s := r.sup
	if err := s.o.Keys.CatchUp(ctx, r); err != nil {
		return err
	}
	recs, err := r.verifiedRecords(ctx, s.o.Keys.PublicKeys())
	if err != nil {
		return err
	}
	changes, err := r.store.Queries.Epochs(ctx)
	if err != nil {
		return err
	}
	s.epochs.Store(&changes) // before the view shows the epoch
	r.mu.Lock()
	defer r.mu.Unlock()
	index, _ := r.store.Applied()
	s.o.Served.Reset(view.SourceReplica, r.store.Epoch(), index, recs, true)
	if len(r.pending) > 0 {
		s.o.Served.Advance(r.index, r.pending)
		r.pending = nil
	}
	r.live = true
	return nil
}

func (r *Replica) verifiedRecords(ctx context.Context, trusted map[string]ed25519.PublicKey) (recs []*conf.Record, err error) {
	unknown := map[string]string{} // key id -> a service that it signed
	err = r.store.Queries.Records(ctx, func(rec *conf.Record) error {
		if rec.Exists() || rec.Deleted {
			for id := range rec.KeyIDs() {
				if trusted[id] == nil {
					unknown[id] = rec.Service
				}
			}
			if err := recovery.VerifyRecord(rec, trusted); err != nil {
				return err
			}
		}
		recs = append(recs, rec)
		return nil
	})
	if err != nil {
		return nil, err
	}
	r.sup.alarms.reportSigners(unknown)
	return recs, nil
}

// onApplied is called by Raft's goroutine after each batch was committed.
func (r *Replica) onApplied(index uint64, recs []*conf.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.index = index
	if !r.live && !r.shown {
		r.pending = append(r.pending, recs...)
		return
	}
	r.sup.o.Served.Advance(index, recs)
}

// onRestored is called by Raft's goroutine after a snapshot replaced the store. The
// replica is opened again: the way in is the same as after a restart.
func (r *Replica) onRestored() {
	r.mu.Lock()
	live, opened := r.live, r.opened
	r.pending = nil
	r.mu.Unlock()
	if !opened { // it was this agent's own snapshot
		return
	}
	switch index, _ := r.store.Applied(); {
	case r.sup.installs.add(index, time.Now()):
		r.fail(&rejoinError{conf.Errorf(conf.CodeCorrupt, "the snapshot of index %d was installed %d times within %s, and the log never went on from it", index, sameSnapshot, sameSnapshotIn)})
	case live:
		r.fail(errSnapshotInstalled)
	}
}

// onBlocked is called by Raft's goroutine while another process holds the database
// (err set), and when it is free again (nil).
func (r *Replica) onBlocked(err error) {
	if err != nil {
		r.sup.o.Status.Set(conf.DatabaseLocked, conf.ModeReadOnly, "another process holds the database", err)
		return
	}
	r.mu.Lock()
	live := r.live
	r.mu.Unlock()
	if live {
		r.sup.o.Status.Set(conf.DatabaseHealthy, conf.ModeNormal, "the database is free again", nil)
	}
}
