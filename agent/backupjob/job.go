package backupjob

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/agent/recovery"
	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/replication/backup"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"golang.org/x/sys/unix"
)

const (
	settleTime = time.Second     // a leader that is deposed at once makes no full copy
	stopGrace  = 4 * time.Second // for the last changes, at a graceful shutdown

	routeBackup = "/backup"
)

// Options set up a Manager.
type Options struct {
	Options *options.Options
	Cluster *peers.Cluster
	View    *documents.View
	Schemas *schema.Cache
	KeyIDs  func() []string // of the signing keys that verify
	Logger  *slog.Logger
}

// Manager runs the backup of this agent and has the status of the cluster's backup.
type Manager struct {
	o      Options
	log    *slog.Logger
	sup    *replica.Supervisor
	runner atomic.Pointer[backup.Runner]     // while this agent leads and copies
	seen   atomic.Pointer[conf.BackupStatus] // what the leader last reported
}

// New makes a Manager. Attach comes before everything else.
func New(o Options) *Manager { return &Manager{o: o, log: o.Logger} }

// Attach sets the replicas of the Manager, and registers its route.
func (m *Manager) Attach(s *replica.Supervisor) {
	m.sup = s
	m.o.Cluster.HandleGet(routeBackup, func(*http.Request) (any, error) { return m.own(), nil })
}

// RunBackup is a leader job: it copies the database until ctx ends.
func (m *Manager) RunBackup(ctx context.Context, rep *replica.Replica) {
	o := m.o.Options
	if !o.Backup.Enabled() || !awaitStable(ctx, rep) {
		return
	}
	epoch, created := rep.Store().Genesis()
	r := backup.Start(backup.Options{
		Previous: m.sup.EarlierEpochs(epoch), Keys: m.o.KeyIDs,
		Target: o.Backup, DB: o.DBPath, Retention: time.Duration(o.BackupHours) * time.Hour,
		Epoch: epoch, EpochCreated: created, Node: m.o.Cluster.Self(), Term: rep.Node().Term(),
		Applied: func() uint64 { i, _ := rep.Store().Applied(); return i },
		Digest:  rep.Store().DigestAt, Check: m.check, Own: rep.Store().SetCheckpointOwner,
		DrillEvery: o.BackupDrill, MaxLocal: maxLocalBytes(o.DataDir), Logger: m.log,
	})
	m.runner.Store(r)
	defer m.runner.CompareAndSwap(r, nil)
	<-ctx.Done()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	if !rep.Node().IsLeader() {
		cancel() // another leader now makes the backup
	}
	r.Stop(last)
}

// maxLocalBytes is the maximum of local bytes that wait for the backup target. It leaves
// free space on a small disk.
func maxLocalBytes(dir string) int64 {
	const most, least = 256 << 20, 16 << 20
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return least
	}
	free := int64(fs.Bavail) * int64(fs.Bsize) //nolint:gosec,unconvert // of another type on other systems
	return min(most, max(least, free/4))
}

// awaitStable waits until this replica serves and has been the leader for settleTime.
func awaitStable(ctx context.Context, rep *replica.Replica) bool {
	began := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
			if time.Since(began) >= settleTime && rep.IsCurrent() && rep.Store().Epoch() != "" {
				return true
			}
		}
	}
}

func (m *Manager) check(ctx context.Context, file string) (backup.Content, error) {
	return recovery.CheckFile(ctx, file, m.o.Schemas, m.log)
}
