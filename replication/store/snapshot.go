package store

import (
	"context"
	"database/sql"
	"io"
	"os"
	"path/filepath"

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

// WriteTo writes the stream. It verifies every row on the way out: damage of a
// store after it was opened is not passed on.
func (sn *Snapshot) WriteTo(w io.Writer) (int64, error) {
	if sn.done == nil {
		return 0, conf.Errorf(conf.CodeInternal, "the snapshot is closed")
	}
	n, err := stream.Write(context.Background(), w, sn.tx, sn.st)
	return n, sn.file.wrap("write a snapshot", err)
}

// Restore replaces everything in the store by the stream of a Snapshot. All that
// can be wrong with the stream is found before anything changes, and the result is
// verified before it is committed: on any error the store is as it was.
func (s *Store) Restore(ctx context.Context, r io.Reader) error {
	f, size, err := s.file.spool(r)
	if err != nil {
		return err
	}
	defer f.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable("restore"); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	var st *tables.State
	err = s.w.Transact(ctx, func() error {
		st, err = s.load(ctx, io.LimitReader(f, size))
		return err
	})
	if err != nil {
		return s.file.wrap("restore", err)
	}
	s.state.Store(st)
	clear(s.applier.Cache)
	s.index.ClearStale()
	return nil
}

// load makes the content that of the stream, and reads back what it wrote.
func (s *Store) load(ctx context.Context, in io.Reader) (*tables.State, error) {
	st, err := stream.Load(ctx, s.w, in)
	if err != nil {
		return nil, err
	}
	if st.Version > 0 {
		if st.ModelHash, err = tables.HashSchemas(ctx, s.w, s.modelHash); err != nil {
			return nil, err
		}
	}
	if err := s.index.Derive(ctx, st); err != nil {
		return nil, err
	}
	if err := s.w.WriteMeta(ctx, st, &tables.State{}); err != nil {
		return nil, err
	}
	got, err := tables.VerifyRows(ctx, s.w, s.modelHash)
	if err != nil {
		return nil, err
	}
	if got.Digest != st.Digest || got.ModelHash != got.WantHash {
		return nil, tables.Corrupt("the restored content differs when it is read back")
	}
	got.APITokens, err = tables.ReadAPITokens(ctx, s.w, s.w.Dig)
	return got, err
}

// spool copies the stream into an unlinked file beside the database and checks
// its trailer. It returns the file, at its start, and its size without the trailer.
func (f *file) spool(r io.Reader) (*os.File, int64, error) {
	tmp, err := os.CreateTemp(filepath.Dir(f.path), ".restore-*")
	if err != nil {
		return nil, 0, f.err(err)
	}
	if err := os.Remove(tmp.Name()); err != nil {
		_ = tmp.Close()
		return nil, 0, f.err(err)
	}
	size, err := stream.Check(tmp, r)
	if err == nil {
		_, err = tmp.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = tmp.Close()
		if isFull(err) {
			return nil, 0, f.full("restore", err)
		}
		return nil, 0, err
	}
	return tmp, size, nil
}
