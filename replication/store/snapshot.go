package store

import (
	"context"
	"database/sql"
	"io"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/stream"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// Snapshot is the content of the store at one moment, pinned by a read
// transaction until Close. Writes continue meanwhile; a checkpoint cannot pass it.
type Snapshot struct {
	file *file
	tx   *sql.Tx
	done func()
	st   *tables.State
}

// Snapshot pins the content as it is now. The caller is the goroutine that calls
// Apply, so Index is what Applied returns at this moment.
func (s *Store) Snapshot(ctx context.Context) (*Snapshot, error) {
	// The pin outlives the call, so it must not end with the caller's context.
	conn, err := s.reads.Conn(ctx)
	if err != nil {
		return nil, s.file.wrap("snapshot", err)
	}
	tx, err := pin(context.WithoutCancel(ctx), conn)
	if err != nil {
		_ = conn.Close()
		return nil, s.file.wrap("snapshot", err)
	}
	done := func() {
		_ = tx.Rollback()
		_ = conn.Close()
	}
	st, err := tables.ReadMeta(ctx, tx, tables.NewDigester())
	if err != nil {
		done()
		return nil, s.file.wrap("snapshot", err)
	}
	return &Snapshot{file: s.file, tx: tx, done: done, st: st}, nil
}

// Index is the log index that the snapshot contains.
func (sn *Snapshot) Index() uint64 { return sn.st.Index }

// Term is the term of the entry at Index.
func (sn *Snapshot) Term() uint64 { return sn.st.Term }

// Close releases the pin. It can be called more than once.
func (sn *Snapshot) Close() error {
	if sn.done != nil {
		sn.done()
		sn.done = nil
	}
	return nil
}

// WriteTo writes the stream. It verifies every row on the way out: a store that
// was damaged after it was opened hands no damage on.
func (sn *Snapshot) WriteTo(w io.Writer) (int64, error) {
	if sn.done == nil {
		return 0, conf.Errorf(conf.CodeInternal, "the snapshot is closed")
	}
	n, err := stream.Write(context.Background(), w, sn.tx, sn.st)
	return n, sn.file.wrap("write a snapshot", err)
}
