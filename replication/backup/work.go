package backup

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/benbjohnson/litestream"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	drillPattern  = ".drill-*"
	uploadTimeout = 2 * time.Minute  // for one round; files uploaded by then count
	badPause      = 10 * time.Minute // between two generations that are given up after a failed drill
)

// read copies new pages from the WAL, once a tick. It does not need the network.
func (g *activeGeneration) read(ctx context.Context, work chan<- struct{}, giveUp context.CancelCauseFunc) {
	tick := time.NewTicker(g.r.o.SyncEvery)
	defer tick.Stop()
	for {
		index, at := g.r.o.Applied(), time.Now()
		if err := g.db.Sync(ctx); err != nil {
			g.r.setError("read the database for the backup", err)
		} else if pos, err := g.db.Pos(); err != nil {
			g.r.setError("read the database for the backup", err)
		} else {
			g.mu.Lock()
			if n := len(g.points); n > 0 && g.points[n-1].txid == pos.TXID {
				g.points[n-1].index = index // the database is unchanged
			} else {
				g.points = append(g.points, point{pos.TXID, index, at})
			}
			g.mu.Unlock()
			select {
			case work <- struct{}{}:
			default:
			}
		}
		local := sizeOf(g.r.o.metaPath()) + fileSize(g.r.o.DB+"-wal")
		g.r.update(func(st *Status) { st.Local = local })
		if local > g.limit {
			g.r.log.Warn("too much data waits for upload: a new generation starts when the backup target responds", "bytes", local, "limit", g.r.o.MaxLocal)
			giveUp(conf.Errorf(conf.CodeStorageFull, "%d MiB wait for upload to the backup target: %w", local>>20, errGiveUp))
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// upload uploads it to the target. first is closed after the first success.
func (g *activeGeneration) upload(ctx context.Context, work <-chan struct{}, first chan struct{}) {
	wait := g.r.o.SyncEvery
	for {
		select {
		case <-work:
		case <-ctx.Done():
			return
		}
		uctx, cancel := context.WithTimeout(ctx, uploadTimeout)
		err := g.db.Replica.Sync(uctx)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			g.r.setError("copy the database", err)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
			wait = min(2*wait, 10*time.Second)
			continue
		}
		wait = g.r.o.SyncEvery
		g.updateUploaded()
		g.r.clearError()
		if first != nil {
			close(first)
			first = nil
		}
	}
}

// updateUploaded sets what the target has.
func (g *activeGeneration) updateUploaded() {
	txid, now := g.db.Replica.Pos().TXID, time.Now()
	applied := g.r.o.Applied()
	g.mu.Lock()
	var got *point
	for len(g.points) > 0 && g.points[0].txid <= txid {
		p := g.points[0]
		got, g.points = &p, g.points[1:]
	}
	if got != nil && len(g.points) == 0 {
		g.points = []point{*got} // the next read may find nothing newer
	}
	g.mu.Unlock()
	g.r.mu.Lock()
	defer g.r.mu.Unlock()
	g.r.st.LastSync = now
	if got == nil {
		return
	}
	if got.index > g.r.st.Index {
		// The entry that was applied just after the previous read waited longest.
		g.r.lags.add(now.Sub(g.r.inSync))
		g.r.st.Index = got.index
	}
	g.r.inSync = got.at
	if applied <= g.r.st.Index {
		g.r.inSync = now
	}
}

// maintain compacts files, removes old ones, and checks that the target still has what
// was uploaded.
func (g *activeGeneration) maintain(ctx context.Context, first <-chan struct{}, giveUp context.CancelCauseFunc) {
	select {
	case <-first:
	case <-ctx.Done():
		return
	}
	all := append(levels()[1:], g.store.SnapshotLevel())
	last := map[int]time.Time{}
	tick := time.NewTicker(g.r.o.ProbeEvery)
	defer tick.Stop()
	var pruned, swept time.Time
	for {
		if err := g.probe(ctx); errors.Is(err, errGiveUp) {
			g.r.log.Warn("the backup target lost uploaded files: a new generation starts", "generation", g.id)
			giveUp(err)
			return
		} else if err != nil {
			g.r.setError("check the backup", err)
		} else {
			for _, lvl := range all {
				if prev := lvl.PrevCompactionAt(time.Now()); !last[lvl.Level].Before(prev) {
					continue
				}
				err := g.compact(ctx, lvl)
				if err == nil {
					last[lvl.Level] = time.Now()
				}
				g.r.setError("compact files of the backup", err)
			}
			if now := time.Now(); now.Sub(swept) > 30*time.Second {
				swept = now
				g.r.setError("remove old files of the backup", g.within(ctx, g.db.EnforceL0RetentionByTime))
			}
			if now := time.Now(); now.Sub(pruned) > time.Hour {
				if err := g.within(ctx, g.scanTarget); err == nil {
					pruned = now
				} else {
					g.r.setError("remove old backups", err)
				}
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (g *activeGeneration) within(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, uploadTimeout)
	defer cancel()
	return f(ctx)
}

// probe detects an unreachable target while nothing changes, and an emptied one.
func (g *activeGeneration) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, g.r.o.ProbeEvery)
	defer cancel()
	uploaded := g.db.Replica.Pos().TXID
	info, err := g.db.Replica.MaxLTXFileInfo(ctx, 0)
	if err != nil {
		return err
	}
	if g.r.o.SharedPath == "" {
		// The newest file alone may have been uploaded after all others were lost.
		_, err := g.p.read(ctx, g.id+"/"+manifestName)
		if errors.Is(err, fs.ErrNotExist) || (err == nil && info.MaxTXID < uploaded) {
			return errGiveUp
		}
		if err != nil {
			return err
		}
	}
	if g.db.Replica.Pos().TXID == uploaded && uploaded > 0 {
		g.r.clearError()
	}
	return nil
}

func (g *activeGeneration) compact(ctx context.Context, lvl *litestream.CompactionLevel) error {
	return g.within(ctx, func(ctx context.Context) error {
		_, err := g.store.CompactDB(ctx, g.db, lvl)
		if errors.Is(err, litestream.ErrNoCompaction) || errors.Is(err, litestream.ErrCompactionTooEarly) || errors.Is(err, litestream.ErrDBNotReady) {
			err = nil
		}
		if err == nil && lvl.Level == litestream.SnapshotLevel {
			err = g.store.EnforceSnapshotRetention(ctx, g.db)
		}
		return err
	})
}

func (g *activeGeneration) writeManifest(ctx context.Context) error {
	g.manifest.Keys = g.r.o.identity().Keys
	data, err := json.MarshalIndent(g.manifest, "", "  ")
	if err != nil {
		return err
	}
	return g.p.write(ctx, g.id+"/"+manifestName, data)
}

// drills runs a restore drill when a generation starts and then at intervals.
func (g *activeGeneration) drills(ctx context.Context, first <-chan struct{}, giveUp context.CancelCauseFunc) {
	select {
	case <-first:
	case <-ctx.Done():
		return
	}
	var again <-chan time.Time
	if g.r.o.DrillEvery > 0 {
		tick := time.NewTicker(g.r.o.DrillEvery)
		defer tick.Stop()
		again = tick.C
	}
	for {
		if code := conf.CodeOf(g.drill(ctx)); code == conf.CodeCorrupt || code == conf.CodeNotFound {
			// Not a network fault: the uploaded files are bad. Start again, at a limited rate.
			if time.Since(g.r.bad) > badPause {
				g.r.bad = time.Now()
				giveUp(errGiveUp)
				return
			}
		}
		select {
		case <-again:
		case <-g.r.wish:
		case <-ctx.Done():
			return
		}
	}
}

// drill runs one drill, and stores its result.
func (g *activeGeneration) drill(ctx context.Context) error {
	start := time.Now()
	v, err := g.verify(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		alarm.DrillFailed.Report(g.r.log, "generation", g.id, "err", err, "hint", conf.HintOf(err))
	} else {
		g.manifest.Verified = v
		if werr := g.within(ctx, g.writeManifest); werr != nil {
			g.r.setError("write the result of a restore drill", werr)
		}
		alarm.DrillFailed.Over(g.r.log, "generation", g.id, "index", v.Index, "took", time.Since(start))
	}
	g.r.mu.Lock()
	defer g.r.mu.Unlock()
	g.r.st.Drill = &Drill{At: time.Now().UTC(), Took: time.Since(start), Err: err}
	if err == nil {
		g.r.st.Verified = v
	}
	close(g.r.drilled)
	g.r.drilled = make(chan struct{})
	return err
}

// verify restores the newest point and compares it with the state at its index.
func (g *activeGeneration) verify(ctx context.Context) (*Verified, error) {
	dir, err := os.MkdirTemp(filepath.Dir(g.r.o.DB), drillPattern)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	for range 3 {
		got, err := restore(ctx, g.r.o.Target, Generation{ID: g.id}, time.Time{}, filepath.Join(dir, "config.db"), g.r.o.Check, nil)
		if err != nil {
			return nil, err
		}
		want, known := g.r.o.Digest(got.Index)
		switch {
		case got.Epoch != g.r.o.Epoch:
			return nil, conf.Errorf(conf.CodeCorrupt, "the restored backup is of the epoch %s, not of %s", got.Epoch, g.r.o.Epoch)
		case !known: // too many entries since it was read: retry with a newer one
			continue
		case want != got.Digest:
			return nil, conf.Errorf(conf.CodeCorrupt, "the restored backup is not equal to the state at index %d", got.Index).
				WithHint("a new generation starts automatically; older verified ones are kept")
		}
		return &Verified{At: time.Now().UTC(), Index: got.Index, Digest: got.Digest, Bytes: got.Bytes}, nil
	}
	return nil, conf.Errorf(conf.CodeStale, "the digest of the state at the index of the restored backup is not retained").WithHint("the next drill retries it")
}

// Drill runs a restore drill now and returns its result.
func (r *Runner) Drill(ctx context.Context) (*Verified, error) {
	r.mu.Lock()
	drilled := r.drilled
	r.mu.Unlock()
	select {
	case r.wish <- struct{}{}:
	default:
	}
	select {
	case <-drilled:
	case <-r.done:
		return nil, conf.Errorf(conf.CodeReadOnly, "this agent is no longer the leader").WithHint("retry when there is a leader: holdfast cluster status")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	st := r.Status()
	if st.Drill != nil && st.Drill.Err != nil {
		return nil, st.Drill.Err
	}
	return st.Verified, nil
}

func fileSize(path string) int64 {
	if fi, err := os.Stat(path); err == nil {
		return fi.Size()
	}
	return 0
}

func sizeOf(dir string) int64 {
	var n int64
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			if fi, err := e.Info(); err == nil {
				n += fi.Size()
			}
		}
		return nil
	})
	return n
}

// lagRing is a ring buffer of the newest lags.
type lagRing struct {
	all  []time.Duration
	next int
}

func (l *lagRing) add(d time.Duration) {
	if len(l.all) < 1000 {
		l.all = append(l.all, d)
		return
	}
	l.all[l.next] = d
	l.next = (l.next + 1) % len(l.all)
}

func (l *lagRing) p99() time.Duration {
	if len(l.all) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(l.all))
	return s[len(s)*99/100]
}

// quiet is a log handler that lowers all messages of Litestream to debug.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return q.Handler.Enabled(ctx, lower(l))
}

func (q quiet) Handle(ctx context.Context, rec slog.Record) error {
	rec.Level = lower(rec.Level)
	if !q.Handler.Enabled(ctx, rec.Level) {
		return nil
	}
	return q.Handler.Handle(ctx, rec)
}

func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(a)} }
func (q quiet) WithGroup(n string) slog.Handler      { return quiet{q.Handler.WithGroup(n)} }

// lower returns debug at most: the Runner logs what matters.
func lower(l slog.Level) slog.Level { return min(l, slog.LevelDebug) }
