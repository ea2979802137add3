package query

import (
	"context"
	"database/sql"
	"slices"
	"sync/atomic"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// Reader runs f on a read transaction, so that all of its queries see one moment.
// what, as in "read the members", begins the message of an error.
type Reader func(ctx context.Context, what string, f func(q tables.Querier) error) error

// Queries reads the content of the database.
type Queries struct {
	read    Reader
	state   func() *tables.State // as of the last batch that was applied
	members tableCache[conf.Member]
	keys    tableCache[conf.Key]
	admits  tableCache[conf.MemberKey]
}

// New returns the queries of a database.
func New(read Reader, state func() *tables.State) *Queries { return &Queries{read: read, state: state} }

// get runs one query.
func get[T any](ctx context.Context, s *Queries, what string, f func(q tables.Querier) (T, error)) (out T, err error) {
	err = s.read(ctx, what, func(q tables.Querier) error {
		out, err = f(q)
		return err
	})
	return out, err
}

// row reads the row with this key, or nil.
func row(ctx context.Context, q tables.Querier, tab *tables.Table, key ...any) (*tables.Row, error) {
	return tables.Read(ctx, q, tables.NewDigester(), tab, key...)
}

// list reads all rows of a table, in the order of compare.
func list[T any](ctx context.Context, s *Queries, what string, tab *tables.Table, of func(r *tables.Row) (T, error), compare func(a, b T) int) ([]T, error) {
	return get(ctx, s, what, func(q tables.Querier) ([]T, error) {
		out := []T{}
		err := tables.Each(ctx, q, tables.NewDigester(), tab, func(r *tables.Row) error {
			v, err := of(r)
			out = append(out, v)
			return err
		})
		slices.SortStableFunc(out, compare)
		return out, err
	})
}

// scan calls one for each row of a query, and collects what it returns.
func scan[T any](ctx context.Context, q tables.Querier, one func(rows *sql.Rows, v *T) error, query string, args ...any) ([]T, error) {
	out := []T{}
	err := tables.Select(ctx, q, func(rows *sql.Rows) error {
		var v T
		err := one(rows, &v)
		out = append(out, v)
		return err
	}, query, args...)
	return out, err
}

// tableCache has a small table as it was last read. Loops ask each second for
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
