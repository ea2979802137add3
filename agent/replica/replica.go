package replica

import (
	"cmp"
	"context"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/agent/recovery"
	"github.com/holdfast-config/holdfast/replication"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store"
)

// Replica is one life of the store and the Raft node: from opening SQLite to the fault
// or the stop that ends it. Jobs and requests that still hold it after its end get
// errors from the closed parts.
type Replica struct {
	sup    *Supervisor
	store  *store.Store
	node   *replication.Node
	digest digestCheck
	faults chan error // what the replica itself finds wrong, capacity 1
	once   sync.Once  // close

	readyTerm atomic.Uint64 // the term in which this replica has passed its barrier; 0 = none

	mu      sync.Mutex
	opened  bool           // the node runs
	shown   bool           // the view follows the log; that a leader knows of nothing newer is not sure
	live    bool           // the view follows the log
	pending []*conf.Record // applied while the view was being filled
	index   uint64
}

// Store is the store of the replica.
func (r *Replica) Store() *store.Store { return r.store }

// Node is the Raft node of the replica.
func (r *Replica) Node() *replication.Node { return r.node }

// Propose puts a command through the log. It returns the error of the proposal, or else
// that of its result.
func (r *Replica) Propose(ctx context.Context, c command.Command) error {
	if err := store.AwaitWriteLock(ctx, r.store); err != nil {
		return err
	}
	res, err := r.node.Propose(ctx, c)
	if err == nil && res.Err != nil {
		return res.Err
	}
	return err
}

// IsReadyLeader reports whether this replica may accept changes now.
func (r *Replica) IsReadyLeader() bool {
	return r.readyTerm.Load() != 0 && r.readyTerm.Load() == r.node.Term() && r.node.IsLeader()
}

// IsCurrent reports whether this replica is the one that serves.
func (r *Replica) IsCurrent() bool { return r.sup.current.Load() == r }

// leader names another node that leads, as Raft knows it.
func (r *Replica) leader() (string, bool) {
	node, _ := r.node.Leader()
	return node, node != "" && node != r.sup.o.Cluster.Self()
}

// leaderGrace is longer than an election takes.
const leaderGrace = 3 * time.Second

// HasLeader reports whether this replica leads, or heard from a leader within the time
// that an election takes.
func (r *Replica) HasLeader() bool {
	at := r.node.LastContact()
	return !at.IsZero() && time.Since(at) <= leaderGrace
}

// fail ends the replica.
func (r *Replica) fail(err error) {
	select {
	case r.faults <- err:
	default:
	}
}

// runReplica is one life of the replica. It returns whether the replica was up, and the
// fault that ended it or ctx's error. A non-nil plan makes it a rebuild: the old files
// are quarantined first.
func (s *Supervisor) runReplica(ctx context.Context, plan *recovery.Plan) (live bool, err error) {
	plan, pending, files, err := s.chooseFiles(ctx, plan)
	if err != nil {
		return false, err
	}
	r := &Replica{sup: s, faults: make(chan error, 1)}
	r.digest = digestCheck{r: r, mismatches: make(chan uint64, 1)}
	defer r.close()
	if err := r.open(ctx, files, plan == nil && pending == nil); err != nil {
		return false, err
	}
	jobs, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { r.monitorLeadership(jobs) })
	running.Go(func() { r.digest.resolveMismatches(jobs) })
	running.Go(func() { r.monitorDiskSpace(jobs) })
	for _, job := range s.o.Jobs.Life {
		running.Go(func() { job(jobs, r) })
	}
	defer running.Wait() // before close: they use the node and the store
	defer stop()
	if err := r.prepare(ctx, plan, files, pending); err != nil {
		return false, err
	}
	if err := s.o.Recovery.EndRebuild(); err != nil {
		return false, err
	}
	s.current.Store(r)
	s.o.Cluster.NotifyLeadership() // it may lead already, and nobody could see that before
	defer s.o.Cluster.NotifyLeadership()
	defer s.current.CompareAndSwap(r, nil)
	if err := r.publish(ctx); err != nil {
		return false, err
	}
	if r.IsReadyLeader() {
		s.o.Status.SetUnlessLocked(conf.DatabaseHealthy, conf.ModeReadOnly, "loading the schema directory", nil)
		dir := schemaDir{s}
		if mismatched, saw := dir.load(ctx); len(mismatched) > 0 {
			running.Go(func() { dir.retry(jobs, r, mismatched, saw) })
		}
		if s.o.Cluster.IsSingleNode() && s.o.Jobs.Founder != nil {
			s.o.Jobs.Founder(ctx, r)
		}
	}
	if s.rejoinInfo != nil {
		r.writeRejoinInfo()
	}
	r.writeEpochFile()
	if !s.o.LKG.Status().Valid {
		if err := s.o.LKG.Flush(ctx); err != nil {
			s.log.Warn("the last-known-good file was not written: it is tried again", "path", s.o.Options.LKGPath, "err", err)
		}
	}
	s.everLoaded.Store(true)
	event := cmp.Or(s.repairEvent, "started")
	if plan != nil {
		event = "rebuilt from " + plan.Source()
	}
	s.repairEvent = ""
	s.o.Status.Set(conf.DatabaseHealthy, conf.ModeNormal, event, nil)
	s.alarms.replica.Only("")
	if plan != nil {
		plan.Finish(nil)
	}
	return true, r.monitor(ctx)
}

// monitor watches a running replica until something ends it.
func (r *Replica) monitor(ctx context.Context) error {
	s := r.sup
	second := time.NewTicker(time.Second)
	defer second.Stop()
	var verify <-chan time.Time
	if s.o.Options.VerifyEvery > 0 {
		t := time.NewTicker(s.o.Options.VerifyEvery)
		defer t.Stop()
		verify = t.C
	}
	memory := newMemoryReleaser(s.o.Schemas)
	var lock lockWatch
	log, err := openedLogFile(s.o.Options.RaftDir())
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-r.node.Fault():
			return err
		case err := <-r.faults:
			return err
		case p := <-s.rebuilds:
			return &rebuildRequest{plan: p}
		case <-second.C:
			if err := cmp.Or(r.store.CheckFiles(), log.check()); err != nil {
				return err
			}
			if err := r.store.Maintain(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("checkpoint", "err", err)
			}
			lock.tick(r)
			r.writeEpochFile()
			memory.tick(r.store.Applied())
		case <-verify:
			if err := r.store.Verify(ctx); err != nil && conf.CodeOf(err) == conf.CodeCorrupt {
				return err
			}
			s.checkSigners(s.o.Keys.PublicKeys())
		}
	}
}

// close is idempotent.
func (r *Replica) close() {
	r.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		r.sup.current.CompareAndSwap(r, nil)
		if r.node != nil {
			if err := r.node.Stop(ctx); err != nil {
				r.sup.log.Warn("stopping the Raft member", "err", err)
			}
		}
		if r.store != nil {
			if err := r.store.Close(); err != nil {
				r.sup.log.Warn("closing the database", "err", err)
			}
		}
	})
}

// writeEpochFile keeps health+epoch.json current; it writes only what changed.
func (r *Replica) writeEpochFile() {
	s := r.sup
	epoch, created := r.store.Genesis()
	version, _ := r.store.SchemaVersion()
	f := conf.EpochFile{ConfigEpoch: epoch, SchemaVersion: version, CreatedAt: created, LastRebuild: recovery.LastRebuild(s.o.Options)}
	if sameEpochFile(f, s.epochFile) {
		if _, err := os.Stat(s.o.Options.EpochPath); err == nil {
			return
		}
	}
	if err := lkg.WriteJSON(s.o.Options.EpochPath, f, 0o600); err != nil {
		s.log.Warn("writing the epoch file", "path", s.o.Options.EpochPath, "err", err)
		return
	}
	s.epochFile = f
}

func sameEpochFile(a, b conf.EpochFile) bool {
	at, bt := "", ""
	if a.LastRebuild != nil {
		at = *a.LastRebuild
	}
	if b.LastRebuild != nil {
		bt = *b.LastRebuild
	}
	return a.ConfigEpoch == b.ConfigEpoch && a.SchemaVersion == b.SchemaVersion && a.CreatedAt == b.CreatedAt && at == bt
}

var _ peers.Replica = (*Supervisor)(nil)

// Servers is Raft's configuration, nil without a replica.
func (s *Supervisor) Servers() []replication.Server {
	r := s.current.Load()
	if r == nil {
		return nil
	}
	list, _, err := r.node.Servers()
	if err != nil {
		return nil
	}
	return list
}

// Leader is the node id of the leader as Raft knows it, "" for none.
func (s *Supervisor) Leader() string {
	r := s.current.Load()
	if r == nil {
		return ""
	}
	node, _ := r.node.Leader()
	return node
}

// IsReadyLeader reports whether this agent accepts changes.
func (s *Supervisor) IsReadyLeader() bool {
	r := s.current.Load()
	return r != nil && r.IsReadyLeader()
}

// Err is why no replica serves, nil while one does.
func (s *Supervisor) Err() error {
	if s.current.Load() != nil {
		return nil
	}
	return s.Down()
}
