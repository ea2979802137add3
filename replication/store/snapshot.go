package store

import (
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"hash"
	"io"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// The stream of a snapshot is lines of JSON: the header; for each covered table
// a line that names it, its columns and its number of rows, then one array a
// row; and a trailer with the SHA-256 of every byte before it. Derived tables are
// not in it: who restores makes them again.
const (
	streamFormat  = "holdfast-snapshot"
	streamVersion = 1
)

type streamHeader struct {
	Format    string `json:"format"`
	Version   int    `json:"version"`
	Index     uint64 `json:"index"`
	Term      uint64 `json:"term"`
	Epoch     string `json:"config_epoch"`
	CreatedAt string `json:"created_at"`
	Schema    int    `json:"schema_version"`
	SchemaAt  string `json:"schema_updated_at"`
	Digest    string `json:"state_digest"`
	Tables    int    `json:"tables"`
}

type streamTable struct {
	Table   string   `json:"table"`
	Columns []string `json:"columns"`
	Rows    int64    `json:"rows"`
}

type streamTrailer struct {
	SHA256 string `json:"sha256"`
}

// Snapshot is the content of the store at one moment, pinned by a read
// transaction until Close. Writes go on meanwhile; a checkpoint cannot pass it.
type Snapshot struct {
	s    *Store
	tx   *sql.Tx
	done func()
	st   *state
}

// Snapshot pins the content as it is now. The caller is the goroutine that calls
// Apply, so Index is what Applied says at this moment.
func (s *Store) Snapshot(ctx context.Context) (*Snapshot, error) {
	// The pin outlives the call, so it must not end with the caller's context.
	conn, err := s.reads.Conn(ctx)
	if err != nil {
		return nil, s.fault("snapshot", err)
	}
	tx, err := pin(context.WithoutCancel(ctx), conn)
	if err != nil {
		_ = conn.Close()
		return nil, s.fault("snapshot", err)
	}
	done := func() {
		_ = tx.Rollback()
		_ = conn.Close()
	}
	st, err := readMeta(ctx, tx, newDigester())
	if err != nil {
		done()
		return nil, s.fault("snapshot", err)
	}
	return &Snapshot{s: s, tx: tx, done: done, st: st}, nil
}

// Index is the log index that the snapshot contains.
func (sn *Snapshot) Index() uint64 { return sn.st.index }

// Term is the term of the entry at Index.
func (sn *Snapshot) Term() uint64 { return sn.st.term }

// Epoch is the epoch of the content.
func (sn *Snapshot) Epoch() string { return sn.st.epoch }

// Digest is the state digest of the content.
func (sn *Snapshot) Digest() string { return sn.st.digest.String() }

// Close releases the pin. It can be called more than once.
func (sn *Snapshot) Close() error {
	if sn.done != nil {
		sn.done()
		sn.done = nil
	}
	return nil
}

// WriteTo writes the stream. It proves every row on the way out: a store that
// was damaged after it was opened hands its damage to nobody.
func (sn *Snapshot) WriteTo(w io.Writer) (int64, error) {
	out := &hashWriter{w: w, h: sha256.New()}
	buf := bufio.NewWriterSize(out, 64<<10)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := sn.write(enc); err != nil {
		return out.n, sn.s.fault("write a snapshot", err)
	}
	if err := buf.Flush(); err != nil {
		return out.n, err
	}
	if err := enc.Encode(streamTrailer{hex.EncodeToString(out.h.Sum(nil))}); err != nil {
		return out.n, err
	}
	err := buf.Flush()
	return out.n, err
}

func (sn *Snapshot) write(enc *json.Encoder) error {
	ctx, st := context.Background(), sn.st
	if sn.done == nil {
		return conf.Errorf(conf.CodeInternal, "the snapshot is closed")
	}
	head := streamHeader{
		Format: streamFormat, Version: streamVersion, Index: st.index, Term: st.term, Epoch: st.epoch, CreatedAt: st.created,
		Schema: st.version, SchemaAt: st.versionAt, Digest: st.digest.String(), Tables: len(covered),
	}
	if err := enc.Encode(head); err != nil {
		return err
	}
	dig := newDigester()
	var all sum
	for _, t := range covered {
		ht := streamTable{Table: t.name, Columns: t.cols}
		if t.id {
			ht.Columns = append(t.cols[:len(t.cols):len(t.cols)], "id")
		}
		if err := sn.tx.QueryRowContext(ctx, "SELECT count(*) FROM "+t.name).Scan(&ht.Rows); err != nil {
			return err
		}
		if err := enc.Encode(ht); err != nil {
			return err
		}
		n := int64(0)
		err := eachRow(ctx, sn.tx, t, dig, func(vals []any, d [sha256.Size]byte) error {
			all.add(d)
			n++
			return enc.Encode(vals)
		})
		if err != nil {
			return err
		}
		if n != ht.Rows {
			return corrupt("%s has %d rows, its index has %d", t.name, n, ht.Rows)
		}
	}
	if all != st.digest {
		return corrupt("the rows have the digest %s, meta says %s", all, st.digest)
	}
	return nil
}

type hashWriter struct {
	w io.Writer
	h hash.Hash
	n int64
}

func (w *hashWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.h.Write(p[:n])
	w.n += int64(n)
	return n, err
}
