package backup

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Selection selects what to restore. The zero value is the newest.
type Selection struct {
	Generation string          // its id, or its directory within the newest epoch of the cluster
	At         time.Time       // the newest state that was uploaded before it
	Verified   bool            // only verified generations
	Own        ClusterIdentity // those of another cluster are restored by their full id only
}

// Restored is the result of a restore.
type Restored struct {
	Content
	Generation Generation
	Bytes      int64     // size of the file
	Read       int64     // bytes that were downloaded
	At         time.Time // when the last change in it was uploaded
}

// Progress receives the number of downloaded bytes. It is called from several goroutines
// at a time.
type Progress func(done, total int64)

// maxTries is how often one restore point is tried: a file may be compacted into a larger
// one while it is read.
const maxTries = 3

// Restore writes the file out from the backup. It must not exist. After a generation that
// fails the next older one is tried, unless one was named. check verifies the file and
// returns what it contains. After an error the file is removed.
func Restore(ctx context.Context, t Target, sel Selection, out string, check func(context.Context, string) (Content, error), progress Progress) (Restored, error) {
	if _, err := os.Lstat(out); err == nil {
		return Restored{}, conf.Errorf(conf.CodeUsage, "%s exists", out).WithHint("name a file that does not exist: a restore overwrites nothing")
	}
	gens, err := List(ctx, t)
	if err != nil {
		return Restored{}, err
	}
	var errs []error
	if !strings.Contains(sel.Generation, "/") {
		if gens, err = ownGenerations(gens, sel.Own, t.String()); err != nil {
			return Restored{}, err
		}
	}
	for _, g := range gens {
		switch {
		case sel.Generation != "" && !g.named(sel.Generation, gens[0].Epoch):
			continue
		case sel.Verified && g.Verified == nil:
			continue
		case !sel.At.IsZero() && !g.StartedAt.Before(sel.At):
			continue
		}
		got, err := restore(ctx, t, g, sel.At, out, check, progress)
		if err == nil {
			return got, nil
		}
		if ctx.Err() != nil {
			return Restored{}, ctx.Err()
		}
		errs = append(errs, conf.Errorf(conf.CodeOf(err), "generation %s: %w", g.ID, err))
		if len(errs) == 10 {
			break
		}
	}
	if len(errs) > 0 {
		return Restored{}, t.fault("restore", errors.Join(errs...))
	}
	e := conf.Errorf(conf.CodeNotFound, "no backup at %s", t)
	if len(gens) > 0 {
		e = conf.Errorf(conf.CodeNotFound, "none of the %d generations at %s fits", len(gens), t)
	}
	return Restored{}, e.WithHint("see what there is: holdfast backup list")
}

func (g *Generation) named(want, newestEpoch string) bool {
	return g.ID == want || (g.Epoch == newestEpoch && g.ID == newestEpoch+"/"+want)
}

// restore makes out from one generation, in up to three tries.
func restore(ctx context.Context, t Target, g Generation, at time.Time, out string, check func(context.Context, string) (Content, error), progress Progress) (got Restored, err error) {
	for range maxTries {
		got, err = restoreOnce(ctx, t, g, at, out, check, progress)
		if err == nil || ctx.Err() != nil || errors.Is(err, litestream.ErrTxNotAvailable) {
			break
		}
	}
	if errors.Is(err, litestream.ErrTxNotAvailable) {
		err = conf.Errorf(conf.CodeNotFound, "it has no restore point of that time").WithHint("see what there is: holdfast backup list")
	}
	return got, err
}

func restoreOnce(ctx context.Context, t Target, g Generation, at time.Time, out string, check func(context.Context, string) (Content, error), progress Progress) (got Restored, err error) {
	drop := func() {
		for _, suffix := range []string{"", "-wal", "-shm", ".tmp"} {
			_ = os.Remove(out + suffix)
		}
	}
	drop()
	defer func() {
		if err != nil {
			drop()
		}
	}()
	c := t.client(g.ID)
	if err := c.Init(ctx); err != nil {
		return got, err
	}
	plan, err := litestream.CalcRestorePlan(ctx, c, 0, at, slog.New(slog.DiscardHandler))
	if err != nil {
		return got, err
	}
	m := &meter{ReplicaClient: c, progress: progress}
	for _, f := range plan {
		m.total += f.Size
	}
	// Litestream would create this file readable by all. It truncates an existing one.
	if err := os.MkdirAll(filepath.Dir(out), 0o700); err != nil {
		return got, err
	}
	tmp, err := os.OpenFile(out+".tmp", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return got, err
	}
	if err := tmp.Close(); err != nil {
		return got, err
	}
	opt := litestream.NewRestoreOptions()
	opt.OutputPath, opt.TXID = out, plan[len(plan)-1].MaxTXID
	if err := litestream.NewReplicaWithClient(nil, m).Restore(ctx, opt); err != nil {
		return got, err
	}
	if err := os.Chmod(out, 0o600); err != nil {
		return got, err
	}
	got = Restored{Generation: g, Bytes: fileSize(out), Read: m.read()}
	for _, f := range plan {
		if f.CreatedAt.After(got.At) {
			got.At = f.CreatedAt
		}
	}
	got.Content, err = check(ctx, out)
	return got, err
}

// meter counts the bytes that are read through a client.
type meter struct {
	litestream.ReplicaClient
	progress Progress
	total    int64
	count    atomic.Int64
}

func (m *meter) read() int64 { return m.count.Load() }

func (m *meter) OpenLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	rc, err := m.ReplicaClient.OpenLTXFile(ctx, level, minTXID, maxTXID, offset, size)
	if err != nil {
		return nil, err
	}
	return &metered{rc, m}, nil
}

type metered struct {
	io.ReadCloser
	m *meter
}

func (r *metered) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	done := r.m.count.Add(int64(n))
	if r.m.progress != nil && n > 0 {
		r.m.progress(min(done, r.m.total), r.m.total)
	}
	return n, err
}
