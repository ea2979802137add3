package query

import (
	"context"

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
}

// NewQueries returns the queries of a database.
func New(read Reader, state func() *tables.State) *Queries { return &Queries{read: read, state: state} }
