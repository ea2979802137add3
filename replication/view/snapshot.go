package view

import (
	"hash/maphash"
	"slices"
	"sync"
)

// Snapshot is the state of all services at one log index. It never changes.
type Snapshot[T any] struct {
	Index  uint64 // log index that it includes
	Epoch  string // config epoch
	Source string // SourceDefault, SourceLKG, SourceReplica; "" while empty

	table   *table[T]
	names   *names
	count   int
	changed chan struct{}
	seed    maphash.Seed
}

// Get returns the entry of service in this snapshot.
func (s *Snapshot[T]) Get(service string) (*Entry[T], bool) {
	e := s.table.get(maphash.String(s.seed, service), service)
	return e, e != nil
}

// Len counts the entries, tombstones included.
func (s *Snapshot[T]) Len() int { return s.count }

// Changed is closed when a newer snapshot can be loaded.
func (s *Snapshot[T]) Changed() <-chan struct{} { return s.changed }

// Range calls fn for every entry, tombstones included, in the order of the
// services' names, until fn returns false.
func (s *Snapshot[T]) Range(fn func(*Entry[T]) bool) {
	s.names.once.Do(func() {
		list := make([]string, 0, s.count)
		s.table.each(func(e *Entry[T]) { list = append(list, e.Record.Service) })
		slices.Sort(list)
		s.names.sorted = list
	})
	for _, name := range s.names.sorted {
		if e, ok := s.Get(name); ok && !fn(e) {
			return
		}
	}
}

// Since calls fn for every entry that prev does not have as it is, in no order,
// until fn returns false. It costs what changed, not what there is. Entries that
// only prev has are omitted; nil, or a snapshot of another View, has none.
func (s *Snapshot[T]) Since(prev *Snapshot[T], fn func(*Entry[T]) bool) {
	was := newTable[T]()
	if prev != nil && prev.seed == s.seed {
		was = prev.table
	}
	if s.table == was {
		return
	}
	for i, n := range s.table {
		if n == nil || n == was[i] {
			continue
		}
		for j, bucket := range n {
			var old []*Entry[T]
			if was[i] != nil {
				old = was[i][j]
			}
			if len(bucket) == 0 || len(bucket) == len(old) && &bucket[0] == &old[0] {
				continue
			}
			for _, e := range bucket {
				if !slices.Contains(old, e) && !fn(e) {
					return
				}
			}
		}
	}
}

// names is the set of services. All snapshots with the same set share it, so that it
// is sorted once and not at every change of a value.
type names struct {
	changed chan struct{} // closed when a snapshot with another set can be loaded
	once    sync.Once
	sorted  []string
}

func newNames() *names { return &names{changed: make(chan struct{})} }

// table is a hash table in two levels of fanout slots, whose slots hold the few
// entries that share 12 bits of hash. To change one entry is to copy the top (512
// bytes), one node (1.5 KB) and one slot, however many services there are.
type table[T any] [fanout]*node[T]

type node[T any] [fanout][]*Entry[T]

const (
	fanBits = 6
	fanout  = 1 << fanBits
)

func newTable[T any]() *table[T] { return &table[T]{} }

func slot(h uint64) (i, j uint64) { return h % fanout, h >> fanBits % fanout }

func (t *table[T]) get(h uint64, service string) *Entry[T] {
	i, j := slot(h)
	n := t[i]
	if n == nil {
		return nil
	}
	for _, e := range n[j] {
		if e.hash == h && e.Record.Service == service {
			return e
		}
	}
	return nil
}

func (t *table[T]) each(fn func(*Entry[T])) {
	for _, n := range t {
		if n == nil {
			continue
		}
		for _, bucket := range n {
			for _, e := range bucket {
				fn(e)
			}
		}
	}
}
