package edit

import (
	"context"
	"sync"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// locks is a mutex for each service, kept only while somebody holds or waits
// for it. Waiting ends with the caller's context.
type locks struct {
	mu   sync.Mutex
	held map[string]*slot
}

type slot struct {
	users int           // holders and waiters, guarded by locks.mu
	token chan struct{} // capacity 1: full while held
}

func newLocks() *locks { return &locks{held: map[string]*slot{}} }

// lock takes the locks of all services, in the order of their names.
func (l *locks) lock(ctx context.Context, services ...string) (unlock func(), err error) {
	names := sortedUnique(services)
	var taken []string
	unlock = func() {
		for _, n := range taken {
			l.release(n, true)
		}
	}
	for _, n := range names {
		if err := l.take(ctx, n); err != nil {
			unlock()
			return nil, err
		}
		taken = append(taken, n)
	}
	return unlock, nil
}

// free says that nobody holds the lock of a service or waits for it.
func (l *locks) free(service string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held[service] == nil
}

func (l *locks) take(ctx context.Context, name string) error {
	l.mu.Lock()
	s := l.held[name]
	if s == nil {
		s = &slot{token: make(chan struct{}, 1)}
		l.held[name] = s
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
	s := l.held[name]
	if holds {
		<-s.token
	}
	if s.users--; s.users == 0 {
		delete(l.held, name)
	}
}
