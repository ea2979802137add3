package raftguard

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"
)

// failing is a log store with faults.
type failing struct {
	LogFile
	get, store, set atomic.Pointer[error]
	panics          atomic.Bool
}

func (f *failing) GetLog(i uint64, l *raft.Log) error {
	if f.panics.Load() {
		panic("page 17 is no page")
	}
	if err := f.get.Load(); err != nil {
		return *err
	}
	return f.LogFile.GetLog(i, l)
}

func (f *failing) StoreLogs(l []*raft.Log) error {
	if err := f.store.Load(); err != nil {
		return *err
	}
	return f.LogFile.StoreLogs(l)
}

func (f *failing) Set(k, v []byte) error {
	if err := f.set.Load(); err != nil {
		return *err
	}
	return f.LogFile.Set(k, v)
}

// guarded is what raft calls, with and without the guard.
type guarded interface {
	GetLog(index uint64, out *raft.Log) error
	SetUint64(key []byte, v uint64) error
}

func TestHaltEndsTheCaller(t *testing.T) {
	checked, inner := openLogs(t)
	for i := uint64(1); i <= 3; i++ {
		if err := checked.StoreLog(&raft.Log{Index: i, Term: 1}); err != nil {
			t.Fatal(err)
		}
	}
	bad := errors.New("does not decode")
	for name, c := range map[string]struct {
		arm  func(*failing)
		call func(guarded) error
	}{
		"read":         {func(f *failing) { f.get.Store(&bad) }, func(s guarded) error { return s.GetLog(2, &raft.Log{}) }},
		"panic":        {func(f *failing) { f.panics.Store(true) }, func(s guarded) error { return s.GetLog(2, &raft.Log{}) }},
		"missing":      {func(f *failing) { e := raft.ErrLogNotFound; f.get.Store(&e) }, func(s guarded) error { return s.GetLog(2, &raft.Log{}) }},
		"stable write": {func(f *failing) { f.set.Store(&bad) }, func(s guarded) error { return s.SetUint64([]byte("CurrentTerm"), 5) }},
	} {
		t.Run(name, func(t *testing.T) {
			f := &failing{LogFile: inner}
			c.arm(f)
			if c.call(NewChecksumStore(f)) == nil {
				t.Fatal("without the guard nothing happened: the test proves nothing")
			}
			s := NewFailStopStore(NewChecksumStore(f), NewFault(), &DiskMonitor{})
			done := make(chan bool, 1)
			go func() {
				returned := false
				defer func() { done <- returned }()
				_ = c.call(s)
				returned = true
			}()
			if <-done {
				t.Fatal("the call returned to raft, which would panic")
			}
			if s.fault.Err() == nil {
				t.Fatal("no fault")
			}
		})
	}
	s := NewFailStopStore(checked, NewFault(), &DiskMonitor{})
	if err := s.GetLog(9, &raft.Log{}); !errors.Is(err, raft.ErrLogNotFound) || s.fault.Err() != nil {
		t.Fatalf("an entry after the end: %v, fault %v", err, s.fault.Err())
	}
}
