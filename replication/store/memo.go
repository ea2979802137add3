package store

import (
	"slices"
	"sync/atomic"
)

// memo keeps a small table as it was last read. Loops ask each second for tables
// that change once a month.
type memo[T any] struct{ p atomic.Pointer[memoAt[T]] }

type memoAt[T any] struct {
	index  uint64
	digest sum
	rows   []T
}

// get returns a copy of what read gives, or gave since the last entry was applied.
func (m *memo[T]) get(s *Store, read func() ([]T, error)) ([]T, error) {
	st := s.state.Load() // before the read, which may see more
	if p := m.p.Load(); p != nil && p.index == st.index && p.digest == st.digest {
		return slices.Clone(p.rows), nil
	}
	rows, err := read()
	if err != nil {
		return nil, err
	}
	m.p.Store(&memoAt[T]{st.index, st.digest, rows})
	return slices.Clone(rows), nil
}
