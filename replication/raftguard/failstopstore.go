// Guard: a storage fault stops the node, not the process.
//
// Upstream: hashicorp/raft#614 and its panics. Raft panics on its main goroutine,
// where nothing can recover, when a committed entry cannot be read or the term cannot
// be written. That would end the process and its readers. A leader that cannot append
// steps down and is elected again and again.
//
// Tests: TestHaltEndsTheCaller; TestFaultsOfTheLogAtRunTime (replication). Known-bad
// build: the former calls the store without the guard too, and the error returns to
// the caller, which in raft panics.

package raftguard

import (
	"errors"
	"runtime"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// FailStopStore is the ChecksumStore that raft uses. A failure trips the Fault and ends
// the calling goroutine: its deferred functions run, pending futures return, Shutdown
// works, and for the other members this node is down.
type FailStopStore struct {
	*ChecksumStore
	fault *Fault
	disk  *DiskMonitor
}

// NewFailStopStore returns s with failures that trip fault. Appends are measured by disk.
func NewFailStopStore(s *ChecksumStore, fault *Fault, disk *DiskMonitor) *FailStopStore {
	return &FailStopStore{s, fault, disk}
}

// check returns nil if err is nil, and does not return otherwise.
func (s *FailStopStore) check(err error) error {
	if err != nil {
		s.fault.Trip(err)
		runtime.Goexit()
	}
	return nil
}

func (s *FailStopStore) checkRead(err error) error {
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return err
	}
	return s.check(err)
}

// GetLog implements raft.LogStore.
func (s *FailStopStore) GetLog(index uint64, out *raft.Log) error {
	err := s.ChecksumStore.GetLog(index, out)
	if errors.Is(err, raft.ErrLogNotFound) && !s.within(index) {
		return err // compacted, or not here yet: raft handles it
	}
	return s.check(err)
}

// within reports whether index lies inside of the log, where every entry must exist.
func (s *FailStopStore) within(index uint64) bool {
	first, err := s.FirstIndex()
	if err != nil || first == 0 || index < first {
		return false
	}
	last, err := s.LastIndex()
	return err == nil && index <= last
}

// StoreLogs implements raft.LogStore. Raft steps down when it fails, so the caller may
// continue. The first failure is final, or raft would be elected again.
func (s *FailStopStore) StoreLogs(logs []*raft.Log) error {
	err := s.fault.Err()
	if err == nil {
		done := s.disk.appends.begin()
		err = s.ChecksumStore.StoreLogs(logs)
		done()
		if err != nil {
			s.fault.Trip(err)
		}
	}
	return err
}

func (s *FailStopStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

func (s *FailStopStore) DeleteRange(first, last uint64) error {
	err := s.ChecksumStore.DeleteRange(first, last)
	if err != nil {
		s.fault.Trip(err)
	}
	return err
}

func (s *FailStopStore) Set(key, value []byte) error {
	return s.check(s.ChecksumStore.Set(key, value))
}

func (s *FailStopStore) SetUint64(key []byte, v uint64) error {
	return s.check(s.ChecksumStore.SetUint64(key, v))
}

func (s *FailStopStore) Get(key []byte) ([]byte, error) {
	v, err := s.ChecksumStore.Get(key)
	return v, s.checkRead(err)
}

func (s *FailStopStore) GetUint64(key []byte) (uint64, error) {
	v, err := s.ChecksumStore.GetUint64(key)
	return v, s.checkRead(err)
}
