package edit

import (
	"context"
	"slices"
	"sync"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// locks has a mutex for each service, in memory only while a caller holds or awaits
// it. Waiting ends with the caller's context.
type locks struct {
	mu    sync.Mutex
	slots map[string]*slot
}

type slot struct {
	users int           // holders and waiters, guarded by locks.mu
	token chan struct{} // capacity 1: full while held
}

func newLocks() *locks { return &locks{slots: map[string]*slot{}} }

// lock takes the locks of all services, in the order of their names.
func (l *locks) lock(ctx context.Context, services ...string) (unlock func(), err error) {
	names := slices.Compact(slices.Sorted(slices.Values(services)))
	var held []string
	unlock = func() {
		for _, n := range held {
			l.release(n, true)
		}
	}
	for _, n := range names {
		if err := l.acquire(ctx, n); err != nil {
			unlock()
			return nil, err
		}
		held = append(held, n)
	}
	return unlock, nil
}

// free reports whether no caller holds or awaits the lock of a service.
func (l *locks) free(service string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.slots[service] == nil
}

func (l *locks) acquire(ctx context.Context, name string) error {
	l.mu.Lock()
	s := l.slots[name]
	if s == nil {
		s = &slot{token: make(chan struct{}, 1)}
		l.slots[name] = s
	}
	s.users++
	l.mu.Unlock()
	select {
	case s.token <- struct{}{}:
		return nil
	case <-ctx.Done():
		l.release(name, false)
		return conf.Errorf(conf.CodeNoQuorum, "another write to %s did not finish in time, nothing was changed: %w", name, ctx.Err()).
			WithHint("try again")
	}
}

func (l *locks) release(name string, holds bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.slots[name]
	if holds {
		<-s.token
	}
	if s.users--; s.users == 0 {
		delete(l.slots, name)
	}
}
