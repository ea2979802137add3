package backup

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Options set a Runner up. Funcs are called from its goroutines.
type Options struct {
	Target    Target
	DB        string        // the database, which has to stay where it is until Stop
	Retention time.Duration // how long restore points are kept; default 168 h

	Epoch, EpochCreated, Node string
	Term                      uint64
	// Previous are the epochs before it, the oldest first, and Keys the ids of the
	// public keys that are trusted: by these a generation is known as this cluster's.
	Previous []string
	Keys     func() []string

	// Applied is the index of the log that the database holds.
	Applied func() uint64
	// Digest is that of the state after the entry with that index, as long as it
	// is remembered.
	Digest func(index uint64) (digest string, ok bool)
	// Check opens a restored file, proves all of it, and tells what it holds.
	Check func(ctx context.Context, file string) (Content, error)
	// Own is called with false before Litestream takes the checkpoints of the
	// database over, and with true when the caller has to make them again.
	Own func(bool)

	DrillEvery time.Duration // 0 = only when a generation begins
	MaxLocal   int64         // bytes that may wait for the network, the WAL included; default 256 MiB
	Logger     *slog.Logger

	SyncEvery, ProbeEvery time.Duration // for tests; default 1 s and 10 s
	SharedPath            string        // for tests: the known-bad way, one path for all
}

// Content is what a restored file holds.
type Content struct {
	Index  uint64
	Term   uint64
	Epoch  string
	Digest string
}

func (o *Options) complete() {
	if o.Retention <= 0 {
		o.Retention = 168 * time.Hour
	}
	if o.MaxLocal <= 0 {
		o.MaxLocal = 256 << 20
	}
	if o.SyncEvery <= 0 {
		o.SyncEvery = time.Second
	}
	if o.ProbeEvery <= 0 {
		o.ProbeEvery = 10 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Own == nil {
		o.Own = func(bool) {}
	}
}

// metaPath is where Litestream keeps what waits for the network.
func (o *Options) metaPath() string {
	dir, file := filepath.Split(o.DB)
	return filepath.Join(dir, "."+file+"-litestream")
}

// Clean removes what a backup of the database at path left beside it. No Runner
// may use it.
func Clean(db string) error {
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
	cancel context.CancelFunc
	done   chan struct{}
	final  chan context.Context // what Stop grants the last sync, capacity 1

	mu      sync.Mutex
	st      Status
	inSync  time.Time // when all that was applied had last been copied
	lags    lagRing
	bad     time.Time     // when a generation was given up that was no good; one drill after the other
	drilled chan struct{} // closed and replaced after each drill
	wish    chan struct{} // a drill is wanted now, capacity 1
}

// Status is what a Runner knows of itself.
type Status struct {
	Generation string        // "" while there is none
	Started    time.Time     // of the generation
	Index      uint64        // of the log, that is safely at the place
	Behind     uint64        // entries that are not yet
	Lag        time.Duration // for how long the oldest of them has been waiting
	LagP99     time.Duration // of the last thousand syncs
	LastSync   time.Time     // of the last success
	Local      int64         // bytes that wait on this disk, the WAL included
	Err        error         // what keeps it from copying; nil when all is well
	Drill      *Drill        // the last one
	Verified   *Verified     // the last good one
	Earlier    *Verified     // of an earlier generation of this epoch
	Shared     error         // who else has backups there; nil when nobody has
	Restarts   int           // generations that were given up
}

// Drill is one attempt to restore.
type Drill struct {
	At   time.Time
	Took time.Duration
	Err  error
}

// Start begins to copy. It returns at once: a place that cannot be reached is
// tried again until Stop.
func Start(o Options) *Runner {
	o.complete()
	ctx, cancel := context.WithCancel(context.Background())
	r := &Runner{
		o: o, log: o.Logger, cancel: cancel, done: make(chan struct{}), final: make(chan context.Context, 1),
		drilled: make(chan struct{}), wish: make(chan struct{}, 1), inSync: time.Now(),
	}
	go r.run(ctx)
	return r
}

// Stop ends the copying and returns when the database is free again. Until ctx
// ends it copies what is left; with an ended ctx, as after lost leadership, nothing.
func (r *Runner) Stop(ctx context.Context) {
	select {
	case r.final <- ctx:
	default:
	}
	r.cancel()
	<-r.done
}

// Status tells how far it is.
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
		st.Err = st.Shared
	}
	return st
}

func (r *Runner) update(f func(st *Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.st)
}

// setError keeps what went wrong, and logs it when it is news.
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
		r.log.Warn("the backup is held up; it is tried again, and no write waits for it", "err", err, "hint", conf.HintOf(err))
	}
}

func (r *Runner) clearError() {
	r.mu.Lock()
	was := r.st.Err
	r.st.Err = nil
	r.mu.Unlock()
	if was != nil {
		r.log.Info("the backup goes on", "was", was)
	}
}

// run makes one generation after the other; mostly there is only one.
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
			if time.Since(began) > time.Minute { // not one whole copy after the other
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

// errGiveUp ends a generation that cannot go on.
var errGiveUp = errors.New("the generation is given up")

// runGeneration begins one and keeps it until ctx ends or it has to be given up. It
// tells the number that the next one may have.
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
	g := &activeGeneration{r: r, p: p, id: id, manifest: Mark{
		Format: 1, Epoch: r.o.Epoch, EpochCreated: r.o.EpochCreated, Term: r.o.Term, Restart: restart, Node: r.o.Node,
		StartedAt: time.Now().UTC(), Index: r.o.Applied(), Previous: r.o.Previous,
	}}
	if err := g.open(pctx); err != nil {
		return restart, err
	}
	r.log.Info("the backup begins", "generation", id, "at", r.o.Target.String())
	r.update(func(st *Status) { st.Generation, st.Started, st.Index = id, g.manifest.StartedAt, 0 })
	err = g.run(ctx)
	g.close(ctx)
	r.update(func(st *Status) { st.Generation, st.Local = "", 0 })
	return restart + 1, err
}

// levels are how Litestream gathers small files into larger ones.
func levels() litestream.CompactionLevels {
	return litestream.CompactionLevels{
		{Level: 0},
		{Level: 1, Interval: 30 * time.Second},
		{Level: 2, Interval: 5 * time.Minute},
		{Level: 3, Interval: time.Hour},
	}
}

// activeGeneration is one that runs.
type activeGeneration struct {
	r     *Runner
	p     objectStore
	id    string
	manifest  Mark
	db    *litestream.DB
	store *litestream.Store
	limit int64 // of the bytes that may wait on this disk

	mu     sync.Mutex
	points []point // what was read from the WAL and is not at the place yet, oldest first
}

// point says up to which entry of the log the database was when it was read.
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
	g.limit = o.MaxLocal + 2*(fileSize(o.DB)+fileSize(o.DB+"-wal")) // the first file is all of it
	log := slog.New(quiet{g.r.log.Handler()})
	g.db = litestream.NewDB(o.DB)
	g.db.SetMetaPath(o.metaPath())
	g.db.MonitorInterval = 0 // sync is called by us: its own waits up to five minutes after an error
	g.db.CheckpointInterval = time.Minute
	g.db.MinCheckpointPageN = 6000 // 24 MiB: each checkpoint syncs the disk that the log is written to
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

// snapshotEvery keeps at least a few whole copies within the retention.
func snapshotEvery(retention time.Duration) time.Duration {
	return max(min(24*time.Hour, retention/4), time.Minute)
}

// run copies until ctx ends (nil) or the generation has to be given up.
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

// close gives the database back, whatever fails.
func (g *activeGeneration) close(ctx context.Context) {
	last, cancel := context.WithCancel(context.Background())
	cancel() // given up: nothing more is copied
	if ctx.Err() != nil {
		select {
		case last = <-g.r.final:
		default:
		}
	}
	before := g.r.o.Applied()
	if last.Err() == nil {
		wait := 3 * time.Second
		if end, ok := last.Deadline(); ok { // the rest of the stop takes less than a second
			wait = max(wait, time.Until(end)-time.Second)
		}
		g.store.SetShutdownSyncTimeout(wait)
	}
	err := g.store.Close(last)
	if err == nil && last.Err() == nil {
		g.r.update(func(st *Status) { st.Index, st.LastSync = before, time.Now() })
	} else if last.Err() == nil {
		g.r.log.Warn("the last changes before the stop are not in the backup", "err", err)
	}
	if err := os.RemoveAll(g.r.o.metaPath()); err != nil {
		g.r.log.Warn("what the backup left on the disk could not be removed", "err", err)
	}
	g.r.o.Own(true)
}
