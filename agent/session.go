package agent

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-config/holdfast/replication"
	"github.com/holdfast-config/holdfast/replication/backup"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/replication/store"
	"github.com/holdfast-config/holdfast/replication/view"
)

// session is one life of the replica: from opening SQLite to the fault or the
// stop that ends it.
type session struct {
	s      *supervisor
	store  *store.Store
	member *replication.Member
	differ chan uint64 // the index of a digest that differs, capacity 1
	lost   chan error  // what the session itself finds wrong, capacity 1
	once   sync.Once   // close

	stepping sync.Mutex // one step of the rotations at a time
	unsealed error      // a secret that does not open, as it was told last; under stepping
	tokensOf string     // the CA that the token files were last looked at for; under stepping
	tending  sync.Mutex // one look at the keys at a time
	mu       sync.Mutex
	opened   bool           // the member runs
	live     bool           // the view follows the log
	pending  []*conf.Record // applied while the view was being filled
	index    uint64

	ledTerm atomic.Uint64 // the term for which this session has passed its barrier; 0 = none
}

// traces says what of an earlier life stands on the disk.
type traces struct{ db, raft, other bool }

func (s *supervisor) traces() traces {
	exists := func(p string) bool { _, err := os.Lstat(p); return !errors.Is(err, fs.ErrNotExist) }
	return traces{
		db:    exists(s.o.DBPath),
		raft:  exists(filepath.Join(s.o.raftDir(), "raft.db")) || nonEmpty(filepath.Join(s.o.raftDir(), "snapshots")),
		other: exists(s.o.LKGPath) || exists(s.o.EpochPath) || exists(filepath.Join(s.o.DataDir, "quarantine")),
	}
}

func nonEmpty(dir string) bool {
	d, err := os.ReadDir(dir)
	return err == nil && len(d) > 0
}

// session is one life of the replica. It returns whether the replica was up, and the fault that ended it or ctx's error.
// A non-nil plan makes it a rebuild: the old files are set aside first.
func (s *supervisor) session(ctx context.Context, plan *rebuildPlan) (live bool, err error) {
	pending, err := readRevival(s.o)
	if err != nil {
		return false, err
	}
	member := !s.cluster.alone()
	if s.revive(pending); pending != nil && member {
		return false, conf.Errorf(conf.CodeReadOnly, "the recovery of the cluster was cut short").WithHint("stop this agent and run holdfast cluster recover again")
	}
	if plan == nil && !member {
		plan = s.unfinished()
	}
	if plan != nil && member {
		return false, oneOfSeveral()
	}
	if plan != nil {
		if err := s.begin(ctx, plan); err != nil {
			return false, err
		}
		if pending != nil { // it starts a new epoch too
			if err := os.Remove(s.o.recoverPending()); err != nil {
				return false, err
			}
			pending = nil
			s.revive(nil)
		}
		s.st.set(conf.DatabaseCorrupted, conf.ModeRebuilding, "rebuilding: "+plan.reason, nil)
		if err := s.setAside(plan.reason, s.o.DBPath, s.o.DBPath+"-wal", s.o.DBPath+"-shm", s.o.raftDir()); err != nil {
			return false, err
		}
		if pending, err = s.fromBackup(ctx, plan); err != nil {
			return false, err
		}
		s.revive(pending)
	}
	t := s.traces()
	if pending != nil && pending.Source == sourceBackup && !t.db && !t.raft {
		return false, conf.Errorf(conf.CodeCorrupt, "the restore from the backup was cut short").WithHint("run holdfast agent --restore again, or empty the data directory")
	}
	if member && !t.raft && s.cluster.begun() {
		return false, conf.Errorf(conf.CodeCorrupt, "the log of this agent is gone")
	}
	if plan == nil && !member && !t.db && !t.raft && t.other {
		return false, conf.Errorf(conf.CodeCorrupt, "the database and the log are gone, but other files of this agent are there").
			WithHint("put config.db or raft/ back, or rebuild: start with ALLOW_AUTO_REBUILD=1, or POST /api/config/rebuild with REBUILD_TOKEN; to begin anew use an empty directory")
	}
	ss := &session{s: s, lost: make(chan error, 1), differ: make(chan uint64, 1)}
	defer ss.close()
	if err := ss.open(ctx, t); err != nil {
		return false, err
	}
	rctx, stop := context.WithCancel(ctx)
	var leading sync.WaitGroup
	leading.Go(func() { ss.reconcile(rctx) })
	leading.Go(func() { ss.judge(rctx) })
	leading.Go(func() { ss.tendKeys(rctx) })
	leading.Go(func() { ss.guardSpace(rctx) })
	leading.Go(func() { ss.askAround(rctx) })
	leading.Go(func() { ss.watchBackup(rctx) })
	defer leading.Wait() // before close: it uses the member and the store
	defer stop()
	if err := ss.lead(ctx, plan, t, pending); err != nil {
		return false, err
	}
	if err := os.Remove(s.o.rebuildPending()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	s.cur.Store(ss)
	s.cluster.turn() // it may lead already, and nobody could see that before
	defer s.cluster.turn()
	defer s.cur.CompareAndSwap(ss, nil)
	if err := ss.goLive(ctx); err != nil {
		return false, err
	}
	if ss.leads() {
		s.setUnlessBlocked(conf.DatabaseHealthy, conf.ModeReadOnly, "loading the schema directory", nil)
		s.loadSchemas(ctx)
		if s.cluster.alone() {
			ss.keepJoinTokens(ctx)
		}
	}
	if s.healed != nil {
		s.keepHealed(ss)
	}
	s.writeEpochFile(ss)
	if !s.lkg.Status().Valid {
		if err := s.lkg.Flush(ctx); err != nil {
			s.log.Error("the last-known-good file was not written: it is tried again", "path", s.o.LKGPath, "err", err)
		}
	}
	s.loaded.Store(true)
	s.st.set(conf.DatabaseHealthy, conf.ModeNormal, s.normalEvent(plan), nil)
	if plan != nil {
		plan.finish(nil)
	}
	return true, ss.watch(ctx)
}

// open brings up SQLite and the Raft member. Whichever of the two is damaged is
// set aside and made again from the other one.
func (ss *session) open(ctx context.Context, t traces) error {
	if !t.db { // a log of a database that is gone belongs to no other
		if err := ss.s.setAside("the database file is gone", ss.s.o.DBPath+"-wal", ss.s.o.DBPath+"-shm"); err != nil {
			return err
		}
		if t.raft {
			ss.s.repaired = "database restored from the log"
		}
	}
	if err := backup.Clean(ss.s.o.DBPath); err != nil { // of a life that ended in the middle of one
		ss.s.log.Warn("what an earlier backup left could not be removed", "err", err)
	}
	err := ss.openStore(ctx)
	if conf.CodeOf(err) == conf.CodeCorrupt && t.raft {
		ss.s.log.Error("the database is damaged: rebuilding it from this agent's own snapshot and log", "err", err)
		ss.s.st.set(conf.DatabaseCorrupted, conf.ModeReadOnly, "restoring the database from the log", err)
		if err := ss.s.setAside(err.Error(), ss.s.o.DBPath, ss.s.o.DBPath+"-wal", ss.s.o.DBPath+"-shm"); err != nil {
			return err
		}
		t.db = false
		ss.s.repaired = "database restored from the log"
		err = ss.openStore(ctx)
	}
	if err != nil {
		return err
	}
	ss.s.cluster.recognise(ctx, ss.store)
	err = ss.openMember(ctx)
	if conf.CodeOf(err) == conf.CodeCorrupt && t.db && ss.s.cluster.alone() {
		if index, _ := ss.store.Applied(); index > 0 {
			ss.s.log.Error("the Raft log is damaged: making it anew from the database", "err", err)
			if err := ss.s.setAside(err.Error(), ss.s.o.raftDir()); err != nil {
				return err
			}
			ss.s.repaired = "log made anew from the database"
			err = ss.openMember(ctx)
		}
	}
	if err != nil && !t.db {
		// An empty file must not be mistaken for the database at the next start.
		ss.close()
		for _, suffix := range []string{"", "-wal", "-shm"} {
			_ = os.Remove(ss.s.o.DBPath + suffix)
		}
	}
	return err
}

func (ss *session) openStore(ctx context.Context) error {
	st, err := store.Open(ctx, store.Options{
		Path: ss.s.o.DBPath, Logger: ss.s.log, Project: ss.s.project, ModelHash: modelHash,
	})
	if err != nil {
		if st != nil {
			_ = st.Close()
		}
		return err
	}
	ss.store = st
	ss.s.newest.Store(st)
	return nil
}

func (ss *session) openMember(ctx context.Context) error {
	var seen uint64
	if snap := ss.s.view.Load(); snap.Epoch != "" && (snap.Epoch == ss.store.Epoch() || ss.store.Epoch() == "") && ss.s.cluster.begun() {
		seen = snap.Index
	}
	m, err := replication.Open(ctx, replication.Options{
		Dir: ss.s.o.raftDir(), NodeID: ss.s.cluster.self(), Logger: ss.s.log, Join: !ss.s.cluster.alone(),
		Begun: ss.s.cluster.begun(), Seen: seen,
		Gate:    ss.s.cluster.builds.gate,
		Machine: ss.store, OnApplied: ss.applied, OnDigest: ss.compare, OnRestored: ss.restored, OnBlocked: ss.blocked,
		Transport: replication.NewTransport(ss.s.cluster.port.RaftLayer(), ss.s.log),
	})
	if err != nil {
		return err
	}
	ss.mu.Lock()
	ss.member, ss.opened = m, true
	ss.mu.Unlock()
	return nil
}

// lead brings the replica to where it can serve, and starts the epoch where
// there is none.
func (ss *session) lead(ctx context.Context, plan *rebuildPlan, t traces, pending *revival) error {
	if !ss.s.cluster.alone() {
		return ss.catchUp(ctx)
	}
	for !ss.leads() {
		ss.s.setUnlessBlocked(conf.DatabaseHealthy, conf.ModeReadOnly, "waiting for a leader", nil)
		select {
		case err := <-ss.member.Fault():
			return err
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if pending != nil {
		if err := ss.revive(ctx, pending); err != nil {
			return err
		}
		ss.s.revive(nil)
		return nil
	}
	if ss.store.Epoch() != "" {
		return ss.checkNewest(ctx)
	}
	if plan == nil && t.other {
		return conf.Errorf(conf.CodeCorrupt, "the log holds no epoch, but this agent had one").
			WithHint("rebuild: start with ALLOW_AUTO_REBUILD=1, or POST /api/config/rebuild with REBUILD_TOKEN")
	}
	reason := "first start"
	if plan != nil {
		reason = plan.reason
	}
	now := time.Now()
	g := &command.Genesis{Epoch: uuid.NewString(), At: conf.FormatTime(now), NodeID: ss.s.cluster.self(), Reason: reason}
	if plan != nil {
		g.Signed = ss.s.signEpoch(plan.oldEpoch, g.Epoch, now)
	}
	res, err := ss.member.Propose(ctx, g)
	if err == nil && res.Err != nil {
		err = res.Err
	}
	if err != nil {
		return fmt.Errorf("starting the epoch: %w", err)
	}
	ss.s.log.Info("new epoch", "epoch", g.Epoch, "reason", reason)
	if plan != nil {
		return ss.refill(ctx, plan)
	}
	return nil
}

// checkNewest refuses a replica that is older than what this agent has already
// served: an acknowledged write would disappear without a word.
func (ss *session) checkNewest(ctx context.Context) error {
	snap := ss.s.view.Load()
	if epoch := ss.store.Epoch(); slices.Contains(ss.s.past, epoch) {
		return conf.Errorf(conf.CodeCorrupt, "the database is of the epoch %s, which this agent has left for %s", epoch, snap.Epoch).
			WithHint("restore the newer config.db and raft/, or rebuild from the last-known-good file (ALLOW_AUTO_REBUILD=1, or POST /api/config/rebuild)")
	} else if snap.Epoch != epoch {
		return nil
	}
	stored := map[string]uint64{}
	if err := ss.store.Records(ctx, func(r *conf.Record) error { stored[r.Service] = r.Version; return nil }); err != nil {
		return err
	}
	var err error
	snap.Range(func(e *entry) bool {
		if have := stored[e.Record.Service]; e.Record.Version > have {
			err = conf.Errorf(conf.CodeCorrupt, "the database is older than the last-known-good file: %s is at version %d there, %d here",
				e.Record.Service, e.Record.Version, have).
				WithHint("restore the newer config.db and raft/, or rebuild from the last-known-good file (ALLOW_AUTO_REBUILD=1, or POST /api/config/rebuild)")
			return false
		}
		return true
	})
	return err
}

// goLive fills the view from the store and lets it follow the log from there.
func (ss *session) goLive(ctx context.Context) error {
	if err := ss.catchUpKeys(ctx); err != nil {
		return err
	}
	trusted := ss.s.publicKeys()
	var recs []*conf.Record
	foreign := map[string]string{} // key id -> a service that it signed
	err := ss.store.Records(ctx, func(r *conf.Record) error {
		if r.Exists() || r.Deleted {
			if trusted[r.KeyID] == nil {
				foreign[r.KeyID] = r.Service
			}
			if err := proven(r, trusted); err != nil {
				return err
			}
		}
		recs = append(recs, r)
		return nil
	})
	if err != nil {
		return err
	}
	for id, service := range foreign {
		ss.s.log.Error("services in the database are signed by a key that this agent does not know, and are held to their checksum only: if nobody changed the key by hand, somebody wrote to the database",
			"key_id", id, "such_as", service)
	}
	changes, err := ss.store.Epochs(ctx)
	if err != nil {
		return err
	}
	ss.s.epochs.Store(&changes) // before the view tells of the epoch
	ss.mu.Lock()
	defer ss.mu.Unlock()
	index, _ := ss.store.Applied()
	ss.s.view.Reset(view.SourceReplica, ss.store.Epoch(), index, recs)
	if len(ss.pending) > 0 {
		ss.s.view.Advance(ss.index, ss.pending)
		ss.pending = nil
	}
	ss.live = true
	return nil
}

// applied is called by the log's goroutine after each batch was committed.
func (ss *session) applied(index uint64, recs []*conf.Record) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.index = index
	if !ss.live {
		ss.pending = append(ss.pending, recs...)
		return
	}
	ss.s.view.Advance(index, recs)
}

// restored is called by the log's goroutine after a snapshot replaced the
// store. The session starts over: the way in is the same as after a restart.
func (ss *session) restored() {
	ss.mu.Lock()
	live, sent := ss.live, ss.opened
	ss.pending = nil
	ss.mu.Unlock()
	if !sent { // it was this agent's own
		return
	}
	switch index, _ := ss.store.Applied(); {
	case ss.s.installs.loops(index, time.Now()):
		ss.fail(&mustRejoin{conf.Errorf(conf.CodeCorrupt, "the snapshot of index %d was installed %d times within %s, and the log never went on from it", index, sameSnapshot, sameSnapshotIn)})
	case live:
		ss.fail(errRestart)
	}
}

// blocked is called by the log's goroutine while another process holds the
// database (err set), and when it is free again (nil).
func (ss *session) blocked(err error) {
	if err != nil {
		ss.s.st.set(conf.DatabaseLocked, conf.ModeReadOnly, "another process holds the database", err)
		return
	}
	ss.mu.Lock()
	live := ss.live
	ss.mu.Unlock()
	if live {
		ss.s.st.set(conf.DatabaseHealthy, conf.ModeNormal, "the database is free again", nil)
	}
}

func (ss *session) fail(err error) {
	select {
	case ss.lost <- err:
	default:
	}
}

// watch keeps an eye on a running replica until something ends it.
func (ss *session) watch(ctx context.Context) error {
	present := time.NewTicker(time.Second)
	defer present.Stop()
	var verify <-chan time.Time
	if ss.s.o.VerifyEvery > 0 {
		t := time.NewTicker(ss.s.o.VerifyEvery)
		defer t.Stop()
		verify = t.C
	}
	rest := newRest()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ss.member.Fault():
			return err
		case err := <-ss.lost:
			return err
		case p := <-ss.s.rebuilds:
			return &rebuildFault{plan: p}
		case <-present.C:
			if err := ss.store.Present(); err != nil {
				return err
			}
			if err := ss.store.Tend(ctx); err != nil && ctx.Err() == nil {
				ss.s.log.Warn("checkpoint", "err", err)
			}
			ss.s.writeEpochFile(ss)
			rest.look(ss.store.Applied())
		case <-verify:
			if err := ss.store.Verify(ctx); err != nil && conf.CodeOf(err) == conf.CodeCorrupt {
				return err
			}
		}
	}
}

// close is idempotent. Requests that still hold the session get errors from the
// closed parts.
func (ss *session) close() {
	ss.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		ss.s.cur.CompareAndSwap(ss, nil)
		if ss.member != nil {
			if err := ss.member.Stop(ctx); err != nil {
				ss.s.log.Warn("stopping the Raft member", "err", err)
			}
		}
		if ss.store != nil {
			if err := ss.store.Close(); err != nil {
				ss.s.log.Warn("closing the database", "err", err)
			}
		}
	})
}

// proven checks the leader's signature on a record that was read from disk. A
// record signed by another key (the operator changed it by hand, or lost the .env
// file) is still held to its checksum: whoever can write the database of an agent
// that is alone is not kept from changing it; see docs/threat-model.md. Others
// notice by the digest of the state.
func proven(r *conf.Record, trusted map[string]ed25519.PublicKey) error {
	if pub := trusted[r.KeyID]; pub != nil {
		return seal.VerifyRecord(pub, r)
	}
	if seal.Checksum(r.Config) != r.Checksum {
		return conf.Errorf(conf.CodeCorrupt, "checksum of %s version %d does not match", r.Service, r.Version)
	}
	return nil
}
