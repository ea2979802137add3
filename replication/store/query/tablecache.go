package query

import (
	"slices"
	"sync/atomic"

	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// tableCache keeps a small table as it was last read. Loops ask each second for
// tables that change once a month.
type tableCache[T any] struct {
	p atomic.Pointer[cachedTable[T]]
}

type cachedTable[T any] struct {
	index  uint64
	digest tables.Sum
	rows   []T
}

// get returns a copy of what read returns, or returned since the last entry was
// applied. st is the state before the read, which may see more.
func (c *tableCache[T]) get(st *tables.State, read func() ([]T, error)) ([]T, error) {
	if p := c.p.Load(); p != nil && p.index == st.Index && p.digest == st.Digest {
		return slices.Clone(p.rows), nil
	}
	rows, err := read()
	if err != nil {
		return nil, err
	}
	c.p.Store(&cachedTable[T]{st.Index, st.Digest, rows})
	return slices.Clone(rows), nil
}
