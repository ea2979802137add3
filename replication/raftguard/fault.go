package raftguard

import (
	"errors"
	"sync"
	"syscall"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Fault is the first final error of a node. After it the node applies nothing
// more (fail-stop). All methods may be called from any goroutine.
type Fault struct {
	once    sync.Once
	tripped chan struct{} // closed after err is set
	out     chan error    // the error once, then closed
	err     error
}

// NewFault returns a Fault that has not happened.
func NewFault() *Fault { return &Fault{tripped: make(chan struct{}), out: make(chan error, 1)} }

// Trip records err, unless an error was recorded before.
func (f *Fault) Trip(err error) {
	f.once.Do(func() {
		f.err = err
		close(f.tripped)
		f.out <- err
		close(f.out)
	})
}

// Err returns the error, nil while there is none.
func (f *Fault) Err() error {
	select {
	case <-f.tripped:
		return f.err
	default:
		return nil
	}
}

// Tripped is closed when the fault has happened.
func (f *Fault) Tripped() <-chan struct{} { return f.tripped }

// C receives the error once and is then closed. It has one reader.
func (f *Fault) C() <-chan error { return f.out }

// StorageError returns err with a message and a code: storage_full for a full
// disk or quota, else internal. An error that has a code is returned unchanged.
func StorageError(err error, format string, args ...any) error {
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

// Corrupt returns an error with conf.CodeCorrupt and the hint to set the log aside.
func Corrupt(format string, args ...any) error {
	return conf.Errorf(conf.CodeCorrupt, format, args...).
		WithHint("set the raft directory aside; the node rebuilds it from its store or from the cluster")
}
