package stream

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"io"

	"github.com/holdfast-config/holdfast/replication/store/tables"
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

// streamColumns are the columns of a table in the stream.
func streamColumns(t *tables.Table) []string {
	if t.HasID {
		return append(t.Cols[:len(t.Cols):len(t.Cols)], "id")
	}
	return t.Cols
}

// Write writes the content that q sees, and whose state is st. It verifies every row:
// a database that was damaged after it was opened hands no damage on.
func Write(ctx context.Context, w io.Writer, q tables.Querier, st *tables.State) (int64, error) {
	out := &hashWriter{w: w, h: sha256.New()}
	buf := bufio.NewWriterSize(out, 64<<10)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := writeTables(ctx, enc, q, st); err != nil {
		return out.n, err
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

func writeTables(ctx context.Context, enc *json.Encoder, q tables.Querier, st *tables.State) error {
	head := streamHeader{
		Format: streamFormat, Version: streamVersion, Index: st.Index, Term: st.Term, Epoch: st.Epoch, CreatedAt: st.Created,
		Schema: st.Version, SchemaAt: st.VersionAt, Digest: st.Digest.String(), Tables: len(tables.Covered),
	}
	if err := enc.Encode(head); err != nil {
		return err
	}
	dig := tables.NewDigester()
	var all tables.Sum
	for _, t := range tables.Covered {
		ht := streamTable{Table: t.Name, Columns: streamColumns(t)}
		if err := q.QueryRowContext(ctx, "SELECT count(*) FROM "+t.Name).Scan(&ht.Rows); err != nil {
			return err
		}
		if err := enc.Encode(ht); err != nil {
			return err
		}
		n := int64(0)
		err := tables.Each(ctx, q, dig, t, func(r *tables.Row) error {
			all.Add(r.Digest)
			n++
			return enc.Encode(r.Vals)
		})
		if err != nil {
			return err
		}
		if n != ht.Rows {
			return tables.Corrupt("%s has %d rows, its index has %d", t.Name, n, ht.Rows)
		}
	}
	if all != st.Digest {
		return tables.Corrupt("the rows have the digest %s, meta says %s", all, st.Digest)
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
