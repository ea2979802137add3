package replication

import (
	"errors"
	"sync"
	"syscall"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// fault holds the first thing that went wrong for good.
type fault struct {
	once    sync.Once
	tripped chan struct{} // closed after err is set
	out     chan error    // the error once, then closed
	err     error
}

func newFault() *fault { return &fault{tripped: make(chan struct{}), out: make(chan error, 1)} }

func (f *fault) trip(err error) {
	f.once.Do(func() {
		f.err = err
		close(f.tripped)
		f.out <- err
		close(f.out)
	})
}

// Err is nil until the fault has happened.
func (f *fault) Err() error {
	select {
	case <-f.tripped:
		return f.err
	default:
		return nil
	}
}

// storageError gives an error of the log's file its code.
func storageError(err error, format string, args ...any) error {
	if _, ok := errors.AsType[*conf.Error](err); ok {
		return err
	}
	code := conf.CodeInternal
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		code = conf.CodeStorageFull
	}
	e := conf.Errorf(code, format, args...)
	e.Err = err
	return e
}
