package replication

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"runtime"
	"runtime/debug"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"github.com/holdfast-config/holdfast/replication/conf"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const crcSize = 4

// bolt is what the checked store needs of raftboltdb.BoltStore.
type bolt interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

// checkedStore is the log and the stable values with a CRC32C on each, because
// bbolt has none on its data. The sum of a log entry stands at the end of its
// Extensions and is taken off again on the way out, so raft and the other nodes
// never see it. A panic in bbolt, which trusts its file, comes back as an error.
type checkedStore struct{ inner bolt }

// guard runs fn, which may meet pages that point outside of the mapped file.
func guard(what string, fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = conf.Errorf(conf.CodeCorrupt, "the log's file is damaged: %s: %v", what, p)
		}
	}()
	return fn()
}

func logSum(l *raft.Log, extensions []byte) uint32 {
	var head [25]byte
	binary.BigEndian.PutUint64(head[0:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	binary.BigEndian.PutUint64(head[17:], uint64(len(l.Data)))
	sum := crc32.Update(0, castagnoli, head[:])
	sum = crc32.Update(sum, castagnoli, l.Data)
	return crc32.Update(sum, castagnoli, extensions)
}

// sealLog returns a copy of l with its sum; l itself is shared with raft.
func sealLog(l *raft.Log) *raft.Log {
	c := *l
	c.Extensions = make([]byte, 0, len(l.Extensions)+crcSize)
	c.Extensions = append(c.Extensions, l.Extensions...)
	c.Extensions = binary.BigEndian.AppendUint32(c.Extensions, logSum(l, l.Extensions))
	return &c
}

// openLog verifies the sum of the entry that was stored at index and takes it off.
func openLog(index uint64, l *raft.Log) error {
	n := len(l.Extensions) - crcSize
	if n < 0 || l.Index != index || binary.BigEndian.Uint32(l.Extensions[n:]) != logSum(l, l.Extensions[:n]) {
		return corruptEntry(index, errors.New("checksum mismatch"))
	}
	l.Extensions = l.Extensions[:n:n]
	if n == 0 {
		l.Extensions = nil
	}
	return nil
}

func corruptEntry(index uint64, cause error) error {
	return conf.Errorf(conf.CodeCorrupt, "log entry %d is not what was written: %w", index, cause).
		WithHint("set the raft directory aside; the node rebuilds it from its store or from the cluster")
}

func (s *checkedStore) GetLog(index uint64, out *raft.Log) error {
	err := guard(fmt.Sprintf("read entry %d", index), func() error { return s.inner.GetLog(index, out) })
	switch {
	case err == nil:
		return openLog(index, out)
	case errors.Is(err, raft.ErrLogNotFound), conf.CodeOf(err) == conf.CodeCorrupt:
		return err
	default: // it does not decode
		return corruptEntry(index, err)
	}
}

func (s *checkedStore) StoreLogs(logs []*raft.Log) error {
	sealed := make([]*raft.Log, len(logs))
	for i, l := range logs {
		sealed[i] = sealLog(l)
	}
	err := guard("append", func() error { return s.inner.StoreLogs(sealed) })
	if err != nil {
		return storageError(err, "cannot append to the log")
	}
	return nil
}

func (s *checkedStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

func (s *checkedStore) FirstIndex() (i uint64, err error) {
	err = guard("first index", func() (err error) { i, err = s.inner.FirstIndex(); return err })
	return i, err
}

func (s *checkedStore) LastIndex() (i uint64, err error) {
	err = guard("last index", func() (err error) { i, err = s.inner.LastIndex(); return err })
	return i, err
}

func (s *checkedStore) DeleteRange(first, last uint64) error {
	err := guard("truncate", func() error { return s.inner.DeleteRange(first, last) })
	if err != nil {
		return storageError(err, "cannot truncate the log")
	}
	return nil
}

func stableSum(key, value []byte) uint32 {
	sum := crc32.Update(0, castagnoli, key)
	return crc32.Update(crc32.Update(sum, castagnoli, []byte{0}), castagnoli, value)
}

func (s *checkedStore) Set(key, value []byte) error {
	sealed := binary.BigEndian.AppendUint32(append([]byte{}, value...), stableSum(key, value))
	err := guard("write "+string(key), func() error { return s.inner.Set(key, sealed) })
	if err != nil {
		return storageError(err, "cannot write %s", key)
	}
	return nil
}

// Get returns raftboltdb.ErrKeyNotFound itself for a key that is not there: raft
// compares its text.
func (s *checkedStore) Get(key []byte) ([]byte, error) {
	var v []byte
	err := guard("read "+string(key), func() (err error) { v, err = s.inner.Get(key); return err })
	if err != nil {
		return nil, err
	}
	n := len(v) - crcSize
	if n < 0 || binary.BigEndian.Uint32(v[n:]) != stableSum(key, v[:n]) {
		return nil, conf.Errorf(conf.CodeCorrupt, "stored %s is not what was written", key)
	}
	return v[:n:n], nil
}

func (s *checkedStore) SetUint64(key []byte, v uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, v))
}

func (s *checkedStore) GetUint64(key []byte) (uint64, error) {
	v, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, conf.Errorf(conf.CodeCorrupt, "stored %s has %d bytes", key, len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}

// IsMonotonic makes raft drop its whole log when it installs a snapshot, so that
// the log never has a hole and a hole always means damage.
func (s *checkedStore) IsMonotonic() bool { return true }

// haltingStore is the checked store as raft gets it. Raft panics on its main
// goroutine, where nobody can recover, when a committed entry cannot be read or
// the term cannot be written; that would end the process and take its readers
// along. Here the fault is recorded instead and the calling goroutine ends
// itself: its deferred functions run, pending futures are answered, Shutdown
// works, and to the other nodes this one is dead, as it should be.
type haltingStore struct {
	*checkedStore
	fault *fault
	pace  *pace
}

func (s *haltingStore) halt(err error) {
	s.fault.trip(err)
	runtime.Goexit()
}

func (s *haltingStore) GetLog(index uint64, out *raft.Log) error {
	err := s.checkedStore.GetLog(index, out)
	if errors.Is(err, raft.ErrLogNotFound) && !s.within(index) {
		return err // compacted, or not here yet: raft knows what to do
	}
	if err != nil {
		s.halt(err)
	}
	return nil
}

// within says whether index lies inside of the log, where every entry must be.
func (s *haltingStore) within(index uint64) bool {
	first, err := s.FirstIndex()
	if err != nil || first == 0 || index < first {
		return false
	}
	last, err := s.LastIndex()
	return err == nil && index <= last
}

// StoreLogs needs no halt: raft steps down when it fails. It would be elected
// again and again, though, so the first failure is final.
func (s *haltingStore) StoreLogs(logs []*raft.Log) error {
	err := s.fault.Err()
	if err == nil {
		done := s.pace.begin()
		err = s.checkedStore.StoreLogs(logs)
		done()
		if err != nil {
			s.fault.trip(err)
		}
	}
	return err
}

func (s *haltingStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

func (s *haltingStore) DeleteRange(first, last uint64) error {
	err := s.checkedStore.DeleteRange(first, last)
	if err != nil {
		s.fault.trip(err)
	}
	return err
}

func (s *haltingStore) Set(key, value []byte) error {
	if err := s.checkedStore.Set(key, value); err != nil {
		s.halt(err)
	}
	return nil
}

func (s *haltingStore) SetUint64(key []byte, v uint64) error {
	if err := s.checkedStore.SetUint64(key, v); err != nil {
		s.halt(err)
	}
	return nil
}

func (s *haltingStore) Get(key []byte) ([]byte, error) {
	v, err := s.checkedStore.Get(key)
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		s.halt(err)
	}
	return v, err
}

func (s *haltingStore) GetUint64(key []byte) (uint64, error) {
	v, err := s.checkedStore.GetUint64(key)
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		s.halt(err)
	}
	return v, err
}
