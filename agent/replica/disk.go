package replica

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// diskGuard rejects changes before the disk is full: SQLite and Raft need room to
// finish what they have begun, and a log that cannot be written stops this member.
type diskGuard struct {
	dir    string
	minMB  int
	alarms *alarm.Set
	full   atomic.Pointer[error] // nil when there is enough space
	looked atomic.Int64          // when, in nanoseconds of the Unix time
}

// lookEvery is the time between two looks while changes come: a burst fills hundreds of
// megabytes in a second.
const lookEvery = 20 * time.Millisecond

// Err is why there is too little space, nil when there is enough. Each change asks.
func (d *diskGuard) Err() error {
	now, was := time.Now().UnixNano(), d.looked.Load()
	if d.minMB > 0 && now-was > int64(lookEvery) && d.looked.CompareAndSwap(was, now) {
		d.check()
	}
	if err := d.full.Load(); err != nil {
		return *err
	}
	return nil
}

// check reports whether there is too little space.
func (d *diskGuard) check() bool {
	was := d.full.Load() != nil
	var st unix.Statfs_t
	if err := unix.Statfs(d.dir, &st); err != nil {
		return was
	}
	free := uint64(st.Bavail) * uint64(st.Bsize) >> 20 //nolint:gosec,unconvert // the types differ between systems
	if free >= uint64(d.minMB) {                       //nolint:gosec // not negative
		if was {
			d.full.Store(nil)
			d.alarms.Clear("", "free_mb", free)
		}
		return false
	}
	if !was {
		err := error(conf.Errorf(conf.CodeStorageFull, "the disk of this agent is almost full: %d MiB are free, under %d", free, d.minMB).
			WithHint("make room on the disk of the data directory, or set CONFIG_MIN_FREE_MB; reads go on"))
		d.full.Store(&err)
		d.alarms.Raise(alarm.DiskFull, "", err, "min_mb", d.minMB)
	}
	return true
}

// monitorDiskSpace checks the disk each second. A leader without space transfers the
// leadership to a voter that has some.
func (r *Replica) monitorDiskSpace(ctx context.Context) {
	if r.sup.disk.minMB <= 0 {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for i := 0; ; i++ {
		if r.sup.disk.check() && i%5 == 0 && r.IsReadyLeader() {
			r.transferIfFull(ctx)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (r *Replica) transferIfFull(ctx context.Context) {
	c := r.sup.o.Cluster
	for _, server := range r.sup.Servers() {
		node := server.ID
		if !server.Voter || node == c.Self() {
			continue
		}
		report, err := c.Report(ctx, node)
		if err != nil || report.Full {
			continue
		}
		if err := r.node.Transfer(ctx, node); err != nil {
			r.sup.log.Warn("the leadership was not transferred", "to", node, "err", err)
			continue
		}
		return
	}
}
