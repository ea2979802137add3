package agent

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/connlimit"
	"github.com/holdfast-config/holdfast/replication/view"
)

// A graceful shutdown takes stopTimeout at most; requests in progress may take
// serverGrace of it, after which their connections are closed.
const (
	stopTimeout = 5 * time.Second
	serverGrace = 1500 * time.Millisecond
)

// task is one part that runs until it is stopped.
type task struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// startTask runs each function on a goroutine of its own.
func startTask(ctx context.Context, run ...func(context.Context)) *task {
	t := &task{}
	ctx, t.cancel = context.WithCancel(ctx)
	for _, f := range run {
		t.done.Go(func() { f(ctx) })
	}
	return t
}

func (t *task) stop() {
	t.cancel()
	t.done.Wait()
}

// Run serves until ctx ends, then writes the last-known-good file and stops the servers and
// the brokers, all at once, and after them the access log, the replica and the cluster port.
// No client can delay that for longer than serverGrace. It returns nil after a graceful
// shutdown.
func (a *Agent) Run(ctx context.Context) error {
	defer a.closeFiles()
	all, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	failed := make(chan error, 5)
	state := startTask(all, a.documents.Run)
	files := startTask(all, a.rooms.files.Run, a.rooms.instances.reporter.Run, a.rooms.instances.mirror.Run)
	servers := a.startServers(failed)
	a.cluster.Port.Start()
	replicas := startTask(all, a.replicas.Run, a.rooms.served.Run)
	writer := startTask(all, a.lkg.Run)
	brokers := startTask(all, a.brokerTasks(failed)...)
	auditLog := startTask(all, a.audit.Run)
	metrics := startTask(all, a.rooms.scrape.Run)

	var err error
	select {
	case <-ctx.Done():
		a.log.Info("stopping")
	case err = <-failed:
		alarm.ServerFailed.Report(a.log, "err", err)
	}
	graceful, done := context.WithTimeout(all, stopTimeout)
	defer done()
	var first sync.WaitGroup
	first.Go(func() { _ = a.lkg.Flush(graceful) }) // a kill in a moment must not lose it; the flush below reports
	first.Go(func() { a.stopAdmin(graceful) })
	first.Go(func() {
		serving, done := context.WithTimeout(graceful, serverGrace)
		defer done()
		_ = a.local.Stop(serving)
	})
	first.Go(brokers.stop)
	first.Go(files.stop)
	first.Go(metrics.stop)
	first.Wait()
	servers.Wait()
	auditLog.stop()
	writer.stop()
	if ferr := a.lkg.Flush(graceful); ferr != nil {
		a.log.Warn("the last-known-good file was not written at the stop", "err", ferr)
	}
	replicas.stop()
	_ = a.cluster.Port.Stop(graceful)
	state.stop()
	return err
}

// databaseGrace is how long the first answers of the local API wait for the database, and
// maxAwaited the size of one that can be opened, and so verified, meanwhile.
const (
	databaseGrace = 250 * time.Millisecond
	maxAwaited    = 32 << 20
)

// awaitDatabase returns when the database is served, or after a moment: it may be newer
// than the last-known-good file, and opening it takes milliseconds. Callers wait meanwhile.
func (a *Agent) awaitDatabase() {
	if !isAwaited(a.o.DBPath) {
		return
	}
	end := time.NewTimer(databaseGrace)
	defer end.Stop()
	for {
		snap, state := a.rooms.served.Views().Served.Load(), a.status.Get()
		if snap.Source != view.SourceLKG || state.Err != nil {
			return
		}
		select {
		case <-snap.Changed():
		case <-state.Changed:
		case <-end.C:
			return
		}
	}
}

// isAwaited reports whether the database at path may be open in a moment.
func isAwaited(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() <= maxAwaited
}

// stopAdmin lets the requests of the admin API in progress end, and then closes their
// connections: one that a client has sent half of never ends by itself.
func (a *Agent) stopAdmin(ctx context.Context) {
	ctx, done := context.WithTimeout(ctx, serverGrace)
	defer done()
	if a.admin.Shutdown(ctx) != nil {
		_ = a.admin.Close()
	}
}

// startServers serves the two APIs. A server that fails is sent to failed.
func (a *Agent) startServers(failed chan<- error) *sync.WaitGroup {
	var servers sync.WaitGroup
	serve := func(f func() error) {
		servers.Go(func() {
			if err := f(); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				failed <- err
			}
		})
	}
	serve(func() error {
		a.awaitDatabase()
		return a.local.Serve(a.held.Local)
	})
	if a.held.Socket != nil {
		serve(func() error {
			a.awaitDatabase()
			return a.local.Serve(a.held.Socket)
		})
	}
	serveAdmin := func(l net.Listener, port connlimit.Port) {
		serve(func() error {
			l := admin.LimitConns(l, a.limits.admin, a.limits.ports, port)
			return process.ServeAdmin(a.admin, l, a.o.AdminScheme() == "https://")
		})
	}
	serveAdmin(a.held.Admin, connlimit.Admin)
	if l := a.page.listener; l != nil {
		serveAdmin(l, connlimit.Page)
	}
	return &servers
}

func (a *Agent) brokerTasks(failed chan<- error) (run []func(context.Context)) {
	for _, b := range a.mqtt.embedded() {
		run = append(run, func(ctx context.Context) {
			if err := b.Run(ctx); err != nil {
				failed <- err
			}
		})
	}
	if a.mqtt.publisher != nil {
		run = append(run, a.mqtt.publisher.Run)
	}
	return run
}

// closeFiles closes what New opened. What Run has stopped already is left alone.
func (a *Agent) closeFiles() {
	if a.clusterL != nil {
		_ = a.clusterL.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, b := range a.mqtt.embedded() {
		_ = b.Stop(ctx) // New may fail after it has opened the broker
	}
	if a.cluster != nil {
		_ = a.cluster.Port.Stop(ctx)
	}
	a.page.close()
	if a.rooms != nil {
		a.rooms.scrape.Close()
	}
	if a.held != nil {
		a.held.Close()
	}
}
