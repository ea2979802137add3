//go:build unix

package raftguard

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"
)

// lockFile takes the lock that bbolt takes on the same open file later.
func lockFile(ctx context.Context, f *os.File, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errLocked(f.Name())
		}
	}
}
