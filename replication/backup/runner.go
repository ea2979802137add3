package backup

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Options of a Runner. Its goroutines call the functions.
type Options struct {
	Target    Target
	DB        string        // path of the database, which must not move until Stop
	Retention time.Duration // of restore points; default 168 h

	Epoch, EpochCreated, Node string
	Term                      uint64
	// Previous are the earlier epochs, the oldest first, and Keys the ids of the trusted
	// public keys: they identify the generations of this cluster.
	Previous []string
	Keys     func() []string

	// Applied returns the applied index of the database.
	Applied func() uint64
	// Digest returns the digest of the state after the entry with that index, if it is
	// retained.
	Digest func(index uint64) (digest string, ok bool)
	// Check opens a restored file, verifies all of it, and returns what it contains.
	Check func(ctx context.Context, file string) (Content, error)
	// Own is called with false before Litestream makes the checkpoints of the database, and
	// with true when the caller makes them again.
	Own func(bool)

	DrillEvery time.Duration // 0 = only when a generation begins
	MaxLocal   int64         // bytes that may wait for upload, including the WAL; default 256 MiB
	Logger     *slog.Logger

	SyncEvery, ProbeEvery time.Duration // for tests; default 1 s and 10 s
	SharedPath            string        // for tests: the known fault, one path for all
}

// Content describes a restored file.
type Content struct {
	Index  uint64
	Term   uint64
	Epoch  string
	Digest string
}

func (o *Options) complete() {
	o.Retention = cmp.Or(max(o.Retention, 0), 168*time.Hour)
	o.MaxLocal = cmp.Or(max(o.MaxLocal, 0), 256<<20)
	o.SyncEvery = cmp.Or(max(o.SyncEvery, 0), time.Second)
	o.ProbeEvery = cmp.Or(max(o.ProbeEvery, 0), 10*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Own == nil {
		o.Own = func(bool) {}
	}
}

// metaPath is Litestream's local state.
func (o *Options) metaPath() string {
	dir, file := filepath.Split(o.DB)
	return filepath.Join(dir, "."+file+"-litestream")
}

// RemoveLocalState removes the local state of a backup of the database at path. No Runner may use
// it.
func RemoveLocalState(db string) error {
	o := Options{DB: db}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(db), drillPattern))
	for _, dir := range append(left, o.metaPath()) {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// Runner is the backup of one leadership.
type Runner struct {
	o      Options
	log    *slog.Logger
	alarms *alarm.Set
	cancel context.CancelFunc
	done   chan struct{}
	final  chan context.Context // of Stop, for the last upload; capacity 1

	mu      sync.Mutex
	st      Status
	inSync  time.Time // when everything applied was last uploaded
	lags    lagRing
	bad     time.Time     // when a generation was last given up after a failed drill
	drilled chan struct{} // closed and replaced after each drill
	wish    chan struct{} // requests a drill; capacity 1
}

// Status is the state of a Runner.
type Status struct {
	Generation string        // "" if there is none
	Started    time.Time     // of the generation
	Index      uint64        // of the log, that is uploaded
	Behind     uint64        // entries that are not uploaded
	Lag        time.Duration // age of the oldest of them
	LagP99     time.Duration // of the last thousand syncs
	LastSync   time.Time     // the last successful upload
	Local      int64         // bytes that wait for upload, including the WAL
	Err        error         // why uploads fail; nil if they succeed
	Drill      *Drill        // the last drill
	Verified   *Verified     // the last successful drill
	Earlier    *Verified     // the same, of an earlier generation of this epoch
	ForeignErr error         // another cluster has backups at the target; else nil
	Restarts   int           // generations that were given up
}

// Drill is the result of one restore drill.
type Drill struct {
	At   time.Time
	Took time.Duration
	Err  error
}

// Start starts a Runner and returns at once: a target that is unreachable is retried until
// Stop.
func Start(o Options) *Runner {
	o.complete()
	ctx, cancel := context.WithCancel(context.Background())
	r := &Runner{
		o: o, log: o.Logger, alarms: alarm.NewSet(o.Logger), cancel: cancel, done: make(chan struct{}), final: make(chan context.Context, 1),
		drilled: make(chan struct{}), wish: make(chan struct{}, 1), inSync: time.Now(),
	}
	go r.run(ctx)
	return r
}

// Stop ends the uploads and returns when the database is released. Until ctx ends it
// uploads the rest; with an ended ctx, as after lost leadership, nothing.
func (r *Runner) Stop(ctx context.Context) {
	select {
	case r.final <- ctx:
	default:
	}
	r.cancel()
	<-r.done
	r.alarms.Only("")
}

// Status returns the current state.
func (r *Runner) Status() Status {
	applied := r.o.Applied()
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.st
	st.LagP99 = r.lags.p99()
	if applied > st.Index {
		st.Behind, st.Lag = applied-st.Index, time.Since(r.inSync)
		if st.Index == 0 {
			st.Behind = applied
		}
	}
	if st.Err == nil && st.Lag > 15*time.Second+2*r.o.SyncEvery {
		st.Err = conf.Errorf(conf.CodeStale, "nothing was copied for %s", st.Lag.Round(time.Second))
	}
	if st.Err == nil {
		st.Err = st.ForeignErr
	}
	return st
}

func (r *Runner) update(f func(st *Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.st)
}

// setError keeps the error, and logs it if it is a new one.
func (r *Runner) setError(what string, err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	err = r.o.Target.fault(what, err)
	r.mu.Lock()
	news := r.st.Err == nil || r.st.Err.Error() != err.Error()
	r.st.Err = err
	r.mu.Unlock()
	if news {
		r.log.Warn("backup failed, retrying", "err", err, "hint", conf.HintOf(err))
	}
}

func (r *Runner) clearError() {
	r.mu.Lock()
	was := r.st.Err
	r.st.Err = nil
	r.mu.Unlock()
	if was != nil {
		r.log.Info("backup continues", "was", was)
	}
}

// run runs one generation after the other; usually there is only one.
func (r *Runner) run(ctx context.Context) {
	defer close(r.done)
	restart := 0
	for wait := r.o.SyncEvery; ctx.Err() == nil; wait = min(2*wait, 10*time.Second) {
		began := time.Now()
		next, err := r.runGeneration(ctx, restart)
		if ctx.Err() != nil {
			return
		}
		if next > restart {
			restart = next
			if time.Since(began) > time.Minute { // limits the rate of whole copies
				wait = r.o.SyncEvery
			}
			r.update(func(st *Status) { st.Restarts++ })
		}
		r.setError("begin a backup", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// errGiveUp ends a generation that cannot continue.
var errGiveUp = errors.New("the generation is given up")

// runGeneration runs a generation until ctx ends or it has to be given up. It returns
// the number of the next one.
func (r *Runner) runGeneration(ctx context.Context, restart int) (next int, err error) {
	pctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	p, err := r.o.Target.open(pctx)
	if err != nil {
		return restart, err
	}
	var id string
	for ; ; restart++ {
		id = r.o.Epoch + "/" + dirOf(r.o.Term, restart, r.o.Node)
		if r.o.SharedPath != "" {
			id = r.o.SharedPath
			break
		}
		there, err := p.list(pctx, id)
		if err != nil {
			return restart, err
		}
		if len(there) == 0 {
			break
		}
	}
	g := &activeGeneration{r: r, p: p, id: id, manifest: Manifest{
		Format: 1, Epoch: r.o.Epoch, EpochCreated: r.o.EpochCreated, Term: r.o.Term, Restart: restart, Node: r.o.Node,
		StartedAt: time.Now().UTC(), Index: r.o.Applied(), Previous: r.o.Previous,
	}}
	if err := g.open(pctx); err != nil {
		return restart, err
	}
	r.log.Info("backup started", "generation", id, "target", r.o.Target.String())
	r.update(func(st *Status) { st.Generation, st.Started, st.Index = id, g.manifest.StartedAt, 0 })
	err = g.run(ctx)
	g.close(ctx)
	r.update(func(st *Status) { st.Generation, st.Local = "", 0 })
	return restart + 1, err
}

// levels are the compaction levels of Litestream.
func levels() litestream.CompactionLevels {
	return litestream.CompactionLevels{
		{Level: 0},
		{Level: 1, Interval: 30 * time.Second},
		{Level: 2, Interval: 5 * time.Minute},
		{Level: 3, Interval: time.Hour},
	}
}

// activeGeneration is a generation that is being written.
type activeGeneration struct {
	r        *Runner
	p        objectStore
	id       string
	manifest Manifest
	db       *litestream.DB
	store    *litestream.Store
	limit    int64 // of the bytes that wait for upload

	mu     sync.Mutex
	points []point // read from the WAL and not uploaded yet, oldest first
}

// point is the applied index of the database when it was read.
type point struct {
	txid  ltx.TXID
	index uint64
	at    time.Time // when it was read
}

func (g *activeGeneration) open(ctx context.Context) error {
	o := &g.r.o
	if err := os.RemoveAll(o.metaPath()); err != nil {
		return err
	}
	g.limit = o.MaxLocal + 2*(fileSize(o.DB)+fileSize(o.DB+"-wal")) // the first file is the whole database
	log := slog.New(quiet{g.r.log.Handler()})
	g.db = litestream.NewDB(o.DB)
	g.db.SetMetaPath(o.metaPath())
	g.db.MonitorInterval = 0 // read calls Sync: Litestream's own monitor waits up to five minutes after an error
	g.db.CheckpointInterval = time.Minute
	g.db.MinCheckpointPageN = 6000 // 24 MiB: each checkpoint syncs the disk of the Raft log
	g.db.TruncatePageN = 16384     // 64 MiB of WAL
	g.db.Replica = litestream.NewReplicaWithClient(g.db, o.Target.client(g.id))
	g.db.Replica.MonitorEnabled = false
	g.store = litestream.NewStore([]*litestream.DB{g.db}, levels())
	g.store.Logger = log
	g.db.SetLogger(log)
	g.store.CompactionMonitorEnabled = false
	g.store.L0RetentionCheckInterval = 0
	g.store.SnapshotInterval = snapshotEvery(o.Retention)
	g.store.SnapshotRetention = o.Retention
	g.store.SetShutdownSyncTimeout(0)
	o.Own(false)
	err := g.store.Open(ctx)
	if err == nil {
		err = g.db.Sync(ctx) // the first one is the whole database
	}
	if err == nil && o.SharedPath == "" {
		err = g.writeManifest(ctx)
	}
	if err != nil {
		g.close(ctx)
	}
	return err
}

// snapshotEvery gives a few whole copies within the retention.
func snapshotEvery(retention time.Duration) time.Duration {
	return max(min(24*time.Hour, retention/4), time.Minute)
}

// run uploads until ctx ends (nil) or the generation has to be given up.
func (g *activeGeneration) run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop(nil)
	work := make(chan struct{}, 1)
	first := make(chan struct{})
	wg.Go(func() { g.read(ctx, work, stop) })
	wg.Go(func() { g.upload(ctx, work, first) })
	wg.Go(func() { g.maintain(ctx, first, stop) })
	wg.Go(func() { g.drills(ctx, first, stop) })
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// close releases the database, also after errors.
func (g *activeGeneration) close(ctx context.Context) {
	last, cancel := context.WithCancel(context.Background())
	cancel() // given up: nothing more is uploaded
	if ctx.Err() != nil {
		select {
		case last = <-g.r.final:
		default:
		}
	}
	before := g.r.o.Applied()
	if last.Err() == nil {
		wait := 3 * time.Second
		if end, ok := last.Deadline(); ok { // the rest of Stop takes less than a second
			wait = max(wait, time.Until(end)-time.Second)
		}
		g.store.SetShutdownSyncTimeout(wait)
	}
	err := g.store.Close(last)
	if err == nil && last.Err() == nil {
		g.r.update(func(st *Status) { st.Index, st.LastSync = before, time.Now() })
	} else if last.Err() == nil {
		g.r.log.Warn("the backup does not contain the last changes before the stop", "err", err)
	}
	if err := os.RemoveAll(g.r.o.metaPath()); err != nil {
		g.r.log.Warn("the local state of the backup could not be removed", "err", err)
	}
	g.r.o.Own(true)
}
