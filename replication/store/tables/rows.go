package tables

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
)

// Row is a row of a covered table, verified by its digest.
type Row struct {
	Vals   []any
	Digest [sha256.Size]byte
}

// Text is the value of column i, "" for NULL.
func (r *Row) Text(i int) string { return TextOf(r.Vals[i]) }

// Read reads the row with this key, or nil.
func Read(ctx context.Context, q Querier, dig *Digester, tab *Table, key ...any) (*Row, error) {
	vals, d, err := readOne(ctx, q, dig, tab, tab.SelectKey, key...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for i := range tab.Key {
		if vals[i] != key[i] {
			return nil, Corrupt("the index of %s has the row of %v under %v", tab.Name, vals[i], key[i])
		}
	}
	return &Row{vals, d}, nil
}

// ReadID is the digest of the row of a log with this id.
func ReadID(ctx context.Context, q Querier, dig *Digester, tab *Table, id int64) ([sha256.Size]byte, error) {
	_, d, err := readOne(ctx, q, dig, tab, tab.SelectID, id)
	return d, err
}

// Drop removes the row that query, a DELETE, finds, and returns its digest as it is stored:
// nobody needs the content any more. found is false when there is none.
func Drop(ctx context.Context, q Querier, tab *Table, query string, args ...any) (d [sha256.Size]byte, found bool, err error) {
	var stored []byte
	switch err := q.QueryRowContext(ctx, query, args...).Scan(&stored); {
	case errors.Is(err, sql.ErrNoRows):
		return d, false, nil
	case err != nil:
		return d, false, err
	case len(stored) != len(d):
		return d, false, Corrupt("a row of %s has a digest of %d bytes", tab.Name, len(stored))
	}
	return [sha256.Size]byte(stored), true, nil
}

func readOne(ctx context.Context, q Querier, dig *Digester, tab *Table, query string, key ...any) (content []any, d [sha256.Size]byte, err error) {
	n := len(tab.Cols)
	vals, dst := ScanBuffer(n + 1)
	if err := q.QueryRowContext(ctx, query, key...).Scan(dst...); err != nil {
		return nil, d, err
	}
	if d, err = dig.Row(tab.Name, vals[:n]); err != nil {
		return nil, d, err
	}
	if !sameDigest(d, vals[n]) {
		return nil, d, Corrupt("the row %v of %s does not have its digest", key, tab.Name)
	}
	return vals[:n:n], d, nil
}

// Each reads all of tab in the order of the rows and verifies each by its digest.
// The row is valid during the call only. Its values have the id behind the content
// when the table has one.
func Each(ctx context.Context, q Querier, dig *Digester, tab *Table, fn func(r *Row) error) error {
	return each(ctx, q, dig, tab, tab.HasID, fn, tab.SelectAll)
}

// EachOf is Each for a query of the content and the digest of tab.
func EachOf(ctx context.Context, q Querier, dig *Digester, tab *Table, fn func(r *Row) error, query string, args ...any) error {
	return each(ctx, q, dig, tab, false, fn, query, args...)
}

// each is Each for a query of the content and the digest, and then the id if withID.
func each(ctx context.Context, q Querier, dig *Digester, tab *Table, withID bool, fn func(r *Row) error, query string, args ...any) error {
	n := len(tab.Cols)
	vals, dst := ScanBuffer(n + 2)
	if !withID {
		dst = dst[:n+1]
	}
	r := &Row{}
	return Select(ctx, q, func(rows *sql.Rows) (err error) {
		if err := rows.Scan(dst...); err != nil {
			return err
		}
		if r.Digest, err = dig.Row(tab.Name, vals[:n]); err != nil {
			return err
		}
		if !sameDigest(r.Digest, vals[n]) {
			return Corrupt("a row of %s does not have its digest", tab.Name)
		}
		r.Vals = vals[:n]
		if withID {
			r.Vals = append(vals[:n:n], vals[n+1])
		}
		return fn(r)
	}, query, args...)
}

// Select calls fn for each row of a query.
func Select(ctx context.Context, q Querier, fn func(rows *sql.Rows) error, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Column reads one column of all rows.
func Column[T any](ctx context.Context, q Querier, query string, args ...any) (out []T, err error) {
	err = Select(ctx, q, func(rows *sql.Rows) error {
		var v T
		err := rows.Scan(&v)
		out = append(out, v)
		return err
	}, query, args...)
	return out, err
}

// ScanBuffer returns n values and the pointers to them, for Scan.
func ScanBuffer(n int) (vals, dst []any) {
	vals, dst = make([]any, n), make([]any, n)
	for i := range vals {
		dst[i] = &vals[i]
	}
	return vals, dst
}

// TextOf is a value of a text column, "" for NULL.
func TextOf(v any) string {
	s, _ := v.(string)
	return s
}

// IntOf is a value of an integer column, 0 for NULL.
func IntOf(v any) int64 {
	n, _ := v.(int64)
	return n
}

// UintOf is a value of an integer column that was written from a uint64.
func UintOf(v any) uint64 { return uint64(IntOf(v)) } //nolint:gosec // written from an uint64

// Null is "" as NULL, for the seed's nullable columns.
func Null(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// Bit is a bool as a value of an integer column.
func Bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
