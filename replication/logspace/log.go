package logspace

import (
	"sync"

	"github.com/hashicorp/raft"
)

const (
	// CacheBytes bounds the entries that a Log keeps in memory for followers.
	CacheBytes = 16 << 20
	// overhead is what an entry takes beside its data, in memory and on the disk, about.
	overhead = 128
)

// Store is what a Log counts for.
type Store interface {
	raft.LogStore
	raft.MonotonicLogStore
}

// Log is a Store that counts the bytes of its entries, and has the newest of them in
// memory: a leader reads them for each follower.
type Log struct {
	Store

	mu     sync.Mutex
	first  uint64 // index of sizes[0]
	sizes  []int64
	total  int64
	cached map[uint64]*raft.Log
	oldest uint64 // index from which on the cache has entries
	memory int64
}

// NewLog counts for inner from now on.
func NewLog(inner Store) *Log { return &Log{Store: inner, cached: map[uint64]*raft.Log{}} }

func size(l *raft.Log) int64 { return int64(len(l.Data)+len(l.Extensions)) + overhead }

// Measure counts the entries that were there before. It reads them, and may run beside
// everything else.
func (l *Log) Measure(stopping <-chan struct{}) error {
	first, err := l.FirstIndex()
	if err != nil || first == 0 {
		return err
	}
	last, err := l.LastIndex()
	if err != nil {
		return err
	}
	var sizes []int64
	for index := first; index <= last; index++ {
		select {
		case <-stopping:
			return nil
		default:
		}
		var entry raft.Log
		if err := l.Store.GetLog(index, &entry); err != nil {
			return nil //nolint:nilerr // deleted meanwhile; a fault is found by the reader of the entry
		}
		sizes = append(sizes, size(&entry))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.sizes) > 0 { // stored meanwhile: those are counted already
		if first >= l.first {
			return nil
		}
		sizes = sizes[:min(uint64(len(sizes)), l.first-first)]
		if first+uint64(len(sizes)) != l.first {
			return nil
		}
	}
	for _, n := range sizes {
		l.total += n
	}
	l.first, l.sizes = first, append(sizes, l.sizes...)
	return nil
}

// GetLog implements raft.LogStore.
func (l *Log) GetLog(index uint64, out *raft.Log) error {
	l.mu.Lock()
	entry := l.cached[index]
	l.mu.Unlock()
	if entry != nil {
		*out = *entry
		return nil
	}
	return l.Store.GetLog(index, out)
}

// StoreLog implements raft.LogStore.
func (l *Log) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements raft.LogStore.
func (l *Log) StoreLogs(entries []*raft.Log) error {
	if err := l.Store.StoreLogs(entries); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range entries {
		if next := l.first + uint64(len(l.sizes)); len(l.sizes) == 0 || e.Index > next || e.Index < l.first {
			l.forget() // the log begins again
			l.first = e.Index
		} else if e.Index < next {
			l.cutBehind(e.Index)
		}
		l.sizes = append(l.sizes, size(e))
		l.total += size(e)
		l.cache(e)
	}
	return nil
}

// DeleteRange implements raft.LogStore. Raft deletes from one end.
func (l *Log) DeleteRange(first, last uint64) error {
	if err := l.Store.DeleteRange(first, last); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	end := l.first + uint64(len(l.sizes))
	switch {
	case len(l.sizes) == 0 || last < l.first || first >= end:
	case first <= l.first && last+1 >= end:
		l.forget()
	case first <= l.first:
		n := last + 1 - l.first
		for i, bytes := range l.sizes[:n] {
			l.total -= bytes
			l.uncache(l.first + uint64(i))
		}
		l.first, l.sizes = last+1, append([]int64(nil), l.sizes[n:]...)
	default:
		l.cutBehind(first)
	}
	return nil
}

// cutBehind drops the entries from index on. The caller holds mu.
func (l *Log) cutBehind(index uint64) {
	for i, bytes := range l.sizes[index-l.first:] {
		l.total -= bytes
		l.uncache(index + uint64(i))
	}
	l.sizes = l.sizes[:index-l.first]
}

func (l *Log) forget() {
	l.first, l.sizes, l.total, l.oldest, l.memory = 0, nil, 0, 0, 0
	clear(l.cached)
}

// cache keeps an entry, and lets the oldest go. The caller holds mu.
func (l *Log) cache(e *raft.Log) {
	if len(l.cached) == 0 {
		l.oldest = e.Index
	}
	l.cached[e.Index] = e
	l.memory += size(e)
	for l.memory > CacheBytes && l.oldest <= e.Index {
		l.uncache(l.oldest)
		l.oldest++
	}
}

func (l *Log) uncache(index uint64) {
	if e := l.cached[index]; e != nil {
		delete(l.cached, index)
		l.memory -= size(e)
	}
}

// Bytes is the size of the entries.
func (l *Log) Bytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// Newest is how many of the newest entries take at most so many bytes.
func (l *Log) Newest(bytes int64) (entries uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.sizes) - 1; i >= 0; i-- {
		if bytes -= l.sizes[i]; bytes < 0 {
			break
		}
		entries++
	}
	return entries
}
