package store

import (
	"context"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// lockPatience is how long another process may hold the database before a change is
// refused: tools that look into it do so for a moment.
const lockPatience = time.Second

// HeldByOther is why nothing can be written, nil when no other process holds the database.
func (s *Store) HeldByOther() error {
	if !s.lock.heldByOther(s.file.path) {
		return nil
	}
	return conf.Errorf(conf.CodeReadOnly, "another process holds the database, and nothing was changed").
		WithHint("find the process that holds the database, and stop it: fuser -v %s; reads go on", s.file.path)
}

// AwaitWriteLock returns when no other process holds the database, and an error when one
// has held it for lockPatience: a change that enters the log then has no outcome until that
// process ends.
func AwaitWriteLock(ctx context.Context, s *Store) error {
	for end := time.Now().Add(lockPatience); ; {
		err := s.HeldByOther()
		if err == nil || time.Now().After(end) {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}
