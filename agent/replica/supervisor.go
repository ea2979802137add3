package replica

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/agent/recovery"
	"github.com/holdfast-config/holdfast/agent/schemas"
	"github.com/holdfast-config/holdfast/agent/served"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/store"
	"github.com/holdfast-config/holdfast/replication/view"
)

// rebuildPause is the least time between two automatic rebuilds.
const rebuildPause = 30 * time.Second

// errSnapshotInstalled ends a replica that has to be opened again without a fault.
var errSnapshotInstalled = errors.New("the replica was replaced by a snapshot")

// rebuildRequest ends a replica because a rebuild was requested.
type rebuildRequest struct{ plan *recovery.Plan }

func (*rebuildRequest) Error() string { return "a rebuild was asked for" }

// Keys is what the replica asks of this agent's keys.
type Keys interface {
	LoadKeyring(ctx context.Context, st *store.Store) error // reads the keyring of the store
	CatchUp(ctx context.Context, r *Replica) error          // fetches what was rotated while this agent was away
	PublicKeys() map[string]ed25519.PublicKey               // that verify, by key id
	MissingActiveKey() error                                // why a leader cannot sign or seal yet
}

// Job works on a replica until ctx ends. A leader job runs on the ready leader only.
type Job func(ctx context.Context, r *Replica)

// Jobs are what other rooms do with a replica.
type Jobs struct {
	Life       []Job // while the replica is open, each on a goroutine of its own
	Leader     []Job // while it is the ready leader, each on a goroutine of its own
	Leadership []Job // at each change of leadership and each second, one after the other
	Founder    Job   // when the agent becomes ready as the leader of a single node
	Rejoin     func(ctx context.Context, cause error) error
}

// Options set up a Supervisor.
type Options struct {
	Options  *options.Options
	Cluster  *peers.Cluster
	Status   *Status         // set by the Supervisor and its jobs
	View     *documents.View // what is stable
	Served   *served.Served  // filled from the replica, with View, and outlives it
	Schemas  *schema.Cache
	Keys     Keys
	Recovery *recovery.Manager
	LKG      *lkg.Writer    // written once when a replica is up
	Editor   schemas.Putter // for the agent's own changes
	Loaded   *lkg.Content   // what the view was filled from, nil for nothing
	Jobs     Jobs
	Logger   *slog.Logger
}

// Supervisor opens replicas, one after the other, and decides what happens between
// them.
type Supervisor struct {
	o   Options
	log *slog.Logger

	current   atomic.Pointer[Replica]
	lastStore atomic.Pointer[store.Store] // opened last; its memory is read after it was closed, too
	disk      diskGuard
	alarms    alarms
	rebuilds  chan *recovery.Plan // requested; received by the running replica or between two

	everLoaded  atomic.Bool                        // there was all to read, once: from a last-known-good file, or from a replica with all its schemas
	epochs      atomic.Pointer[[]conf.EpochChange] // the signed changes of the epoch, as the store has them
	pastEpochs  []string                           // that this agent had left when it started
	lastSchema  atomic.Int64                       // schema version of the last running replica
	lastContact contactAge

	// On the supervisor's goroutine only.
	autoRebuilt time.Time      // the last automatic rebuild
	repairEvent string         // the event of the next normal status
	rejoinInfo  *recovery.Info // what the next replica writes to rebuild.info
	epochFile   conf.EpochFile // as last written

	installs installs // on Raft's goroutine of one replica after the other
}

// New makes a Supervisor. Run begins.
func New(o Options) *Supervisor {
	s := &Supervisor{o: o, log: o.Logger, alarms: newAlarms(o.Logger), rebuilds: make(chan *recovery.Plan)}
	s.disk = diskGuard{dir: o.Options.DataDir, minMB: o.Options.MinFreeMB, alarms: alarm.NewSet(o.Logger)}
	s.lastContact.start(time.Time{}, o.Options.Clock())
	if c := o.Loaded; c != nil {
		s.pastEpochs = c.PastEpochs
		s.lastContact.start(c.GeneratedAt, o.Options.Clock())
		s.everLoaded.Store(true)
	}
	return s
}

// Run returns when ctx ends and the last replica is closed.
func (s *Supervisor) Run(ctx context.Context) {
	var plan *recovery.Plan
	for ctx.Err() == nil {
		live, err := s.runReplica(ctx, plan)
		if plan != nil {
			plan.Finish(err)
			plan = nil
		}
		if ctx.Err() != nil {
			return
		}
		if req, ok := errors.AsType[*rebuildRequest](err); ok {
			plan = req.plan
			continue
		}
		if errors.Is(err, errSnapshotInstalled) {
			continue
		}
		if s.needsRejoin(err, live) {
			s.rejoinUntilAdmitted(ctx, err)
			continue
		}
		plan = s.awaitRetry(ctx, err, live)
	}
}

// awaitRetry reports a fault and waits for a reason to try again: time, a change of the
// files, or a rebuild. It returns the plan of the rebuild to make. A replica that was up
// is tried again at once: opening it is what repairs it.
func (s *Supervisor) awaitRetry(ctx context.Context, err error, wasUp bool) *recovery.Plan {
	db := statusOf(err)
	s.o.Status.Set(db, conf.ModeReadOnly, "the replica is down", err)
	s.alarms.replica.Raise(alarm.ReplicaDown, "", err, "database", db)
	s.serveDefaults()
	damaged := !wasUp && (db == conf.DatabaseCorrupted || db == conf.DatabaseSchemaMismatch)
	give := time.Now().Add(time.Minute)
	if damaged && s.o.Options.AllowAutoRebuild {
		if time.Since(s.autoRebuilt) >= rebuildPause {
			s.autoRebuilt = time.Now()
			return recovery.NewPlan("automatic: " + err.Error())
		}
		// The last one did not help: a broken disk, for example.
		give = s.autoRebuilt.Add(rebuildPause)
	}
	wait := time.Second
	if db == conf.DatabaseLocked || (wasUp && db == conf.DatabaseCorrupted) {
		wait = 200 * time.Millisecond
	}
	before := fileStamps(s.o.Options)
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-s.rebuilds:
			return p
		case <-time.After(wait):
			// A damaged file does not heal: reading all of it again each second
			// would only take the processor from the service beside us.
			if !damaged || fileStamps(s.o.Options) != before || time.Now().After(give) {
				return nil
			}
		}
	}
}

// fileStamps changes when the files of the replica do.
func fileStamps(o *options.Options) string {
	var out string
	segments, _ := filepath.Glob(filepath.Join(o.RaftDir(), "segments", "*")) // it fails for a bad pattern only
	for _, p := range slices.Concat([]string{o.DBPath}, logPaths(o.RaftDir()), segments) {
		if fi, err := os.Stat(p); err == nil {
			out += fmt.Sprintf("%d %d;", fi.Size(), fi.ModTime().UnixNano())
		} else {
			out += "missing;"
		}
	}
	return out
}

// serveDefaults fills an empty view from the schema directory.
func (s *Supervisor) serveDefaults() {
	if s.o.View.Load().Source != "" {
		return
	}
	recs := schemas.Defaults(s.o.Schemas, s.o.Options.SchemaDir, s.log)
	if recs == nil {
		return
	}
	s.alarms.replica.Raise(alarm.ServesDefaults, "defaults", nil, "services", len(recs))
	s.o.Served.Reset(view.SourceDefault, "", 0, recs, false)
}

// Current is the replica that serves now, nil when none does.
func (s *Supervisor) Current() *Replica { return s.current.Load() }

// LeaderReplica is the replica that serves now, while it is the ready leader.
func (s *Supervisor) LeaderReplica() (*Replica, error) {
	r := s.current.Load()
	if r == nil || !r.IsReadyLeader() {
		return nil, conf.Errorf(conf.CodeNoQuorum, "this agent does not lead")
	}
	return r, nil
}

// Query reads the store of the replica that serves now.
func Query[T any](s *Supervisor, q func(*store.Store) (T, error)) (T, error) {
	r := s.current.Load()
	if r == nil {
		var none T
		return none, s.Down()
	}
	return q(r.store)
}

// Propose puts a command through the log of the replica that serves now.
func (s *Supervisor) Propose(ctx context.Context, c command.Command) (command.Result, error) {
	r := s.current.Load()
	if r == nil {
		return command.Result{}, s.Down()
	}
	if err := store.AwaitWriteLock(ctx, r.store); err != nil {
		return command.Result{}, err
	}
	return r.node.Propose(ctx, c)
}

// Down is the error of a caller that needs a replica.
func (s *Supervisor) Down() error {
	if err := s.o.Status.Ready(); err != nil {
		return err
	}
	return conf.Errorf(conf.CodeReadOnly, "the replica is not up").WithHint("try again in a moment")
}

// Writable is nil while this agent itself may accept a change: it is in normal mode and
// is the ready leader. What comes here otherwise was not forwarded.
func (s *Supervisor) Writable() error {
	if err := s.o.Status.Ready(); err != nil {
		return err
	}
	if err := s.disk.Err(); err != nil {
		return err
	}
	if err := s.o.Keys.MissingActiveKey(); err != nil {
		return err
	}
	if _, err := s.LeaderReplica(); err != nil {
		return conf.Errorf(conf.CodeNoQuorum, "this agent does not lead, and knows of no leader").
			WithHint("reads go on; try again in a moment, or see: holdfast cluster status")
	}
	return nil
}

// Serving is nil while services read something better than schema defaults, and the
// service beside this agent, if it has one, exists: it is the readiness of the local API,
// which outlives the replica.
func (s *Supervisor) Serving() error {
	snap := s.o.View.Load()
	if src := snap.Source; src != view.SourceLKG && (src != view.SourceReplica || !s.everLoaded.Load()) {
		return s.Down()
	}
	own := s.o.Options.ServiceName
	if own == "" {
		return nil
	}
	if e, ok := snap.Get(own); ok && e.Record.Exists() {
		return nil
	}
	return conf.Errorf(conf.CodeNotFound, "the service %q beside this agent has no configuration", own).
		WithHint("put its schema and required values: holdfast schema put %s FILE; or correct CONFIG_SERVICE_NAME", own)
}

// DiskFull is why there is too little disk space to accept changes, nil when there is
// enough.
func (s *Supervisor) DiskFull() error { return s.disk.Err() }

// Age is the time since this agent last heard from a leader; negative when it never
// did. Until it does it counts from the writing of the last-known-good file. It is never
// below the monotonic time since then or since the start.
func (s *Supervisor) Age() time.Duration {
	if r := s.current.Load(); r != nil {
		if t := r.node.LastContact(); !t.IsZero() {
			s.lastContact.contact(t)
		}
	}
	return s.lastContact.age()
}

// SchemaVersion is that of the store, or of the last one that was open.
func (s *Supervisor) SchemaVersion() int {
	if r := s.current.Load(); r != nil {
		v, _ := r.store.SchemaVersion()
		s.lastSchema.Store(int64(v))
	}
	return int(s.lastSchema.Load())
}

// LastStore is the store that was opened last, also after it was closed; nil before
// the first one.
func (s *Supervisor) LastStore() *store.Store { return s.lastStore.Load() }

// EpochChanges are the signed changes of the epoch, as the store has them.
func (s *Supervisor) EpochChanges() []conf.EpochChange {
	if changes := s.epochs.Load(); changes != nil {
		return *changes
	}
	return nil
}

// EarlierEpochs are the epochs that led to this one, the oldest first.
func (s *Supervisor) EarlierEpochs(epoch string) (out []string) {
	add := func(e string) {
		if e != epoch && e != "" && !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	for _, c := range s.EpochChanges() {
		add(c.Previous)
	}
	for _, e := range s.pastEpochs {
		add(e)
	}
	return out
}

// Rebuild makes a new store with a new epoch from what this agent can verify. It
// returns when the new store serves. A healthy store is replaced too, and the old files
// stay under quarantine/: the caller has checked who asks.
func (s *Supervisor) Rebuild(ctx context.Context, reason string) error {
	if !s.o.Cluster.IsSingleNode() {
		return errRebuildInCluster()
	}
	p := recovery.NewPlan(reason)
	select {
	case s.rebuilds <- p:
	case <-ctx.Done():
		return conf.Errorf(conf.CodeReadOnly, "the agent is busy starting or rebuilding: %w", ctx.Err()).WithHint("try again in a moment")
	}
	select {
	case err := <-p.Result():
		if err != nil && errors.Is(err, context.Canceled) {
			return conf.Errorf(conf.CodeOutcomeUnknown, "the agent stopped during the rebuild")
		}
		return err
	case <-ctx.Done():
		return conf.Errorf(conf.CodeOutcomeUnknown, "the rebuild goes on: %w", ctx.Err()).WithHint("GET /api/config/health tells how it ends")
	}
}

func errRebuildInCluster() error {
	return conf.Errorf(conf.CodeUnsupported, "this agent is one of several: its replica comes from the others, not from a rebuild").
		WithHint("holdfast cluster status says who leads; when most voters are lost permanently: stop this agent and run holdfast cluster recover")
}
