package agent

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/localapi/admin"
)

// stopTimeout bounds a graceful shutdown.
const stopTimeout = 10 * time.Second

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

// Run serves until ctx ends, then stops the servers, the brokers and the access log, writes
// the last-known-good file, and stops the replica and the cluster port. It returns nil after
// a graceful shutdown.
func (a *Agent) Run(ctx context.Context) error {
	defer a.closeFiles()
	all, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	failed := make(chan error, 5)
	state := startTask(all, a.documents.Run)
	servers := a.startServers(failed)
	a.cluster.Port.Start()
	replicas := startTask(all, a.replicas.Run)
	writer := startTask(all, a.lkg.Run)
	brokers := startTask(all, a.brokerTasks(failed)...)
	auditLog := startTask(all, a.audit.Run)

	var err error
	select {
	case <-ctx.Done():
		a.log.Info("stopping")
	case err = <-failed:
		a.log.Error("a server failed: stopping", "err", err)
	}
	graceful, done := context.WithTimeout(all, stopTimeout)
	defer done()
	_ = a.admin.Shutdown(graceful)
	_ = a.local.Stop(graceful)
	servers.Wait()
	brokers.stop()
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
	serve(func() error { return a.local.Serve(a.listeners.local) })
	if a.listeners.socket != nil {
		serve(func() error { return a.local.Serve(a.listeners.socket) })
	}
	serve(func() error { return a.admin.Serve(admin.LimitConns(a.listeners.admin, a.share)) })
	return &servers
}

func (a *Agent) brokerTasks(failed chan<- error) (run []func(context.Context)) {
	if a.broker != nil {
		run = append(run, func(ctx context.Context) {
			if err := a.broker.Run(ctx); err != nil {
				failed <- err
			}
		})
	}
	if a.publisher != nil {
		run = append(run, a.publisher.Run)
	}
	return run
}

// closeFiles closes what New opened. What Run has stopped already is left alone.
func (a *Agent) closeFiles() {
	for _, l := range []net.Listener{a.listeners.local, a.listeners.admin, a.listeners.socket, a.listeners.cluster} {
		if l != nil {
			_ = l.Close()
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if a.broker != nil {
		_ = a.broker.Stop(ctx) // New may fail after it has opened the broker
	}
	if a.cluster != nil {
		_ = a.cluster.Port.Stop(ctx)
	}
	if a.lock != nil {
		_ = a.lock.Close()
	}
}
