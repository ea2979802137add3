package stream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"slices"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// The stream of a snapshot is lines of JSON: the header; for each covered table
// a line that names it, its columns and its number of rows, then one array a
// row; and a trailer with the SHA-256 of every byte before it. Derived tables are
// not in it: who restores makes them again.
const (
	format  = "holdfast-snapshot"
	version = 1
)

type header struct {
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

type tableHeader struct {
	Table   string   `json:"table"`
	Columns []string `json:"columns"`
	Rows    int64    `json:"rows"`
}

type trailer struct {
	SHA256 string `json:"sha256"`
}

// columns returns the columns of a table in the stream.
func columns(t *tables.Table) []string {
	if t.HasID {
		return append(t.Cols[:len(t.Cols):len(t.Cols)], "id")
	}
	return t.Cols
}

// Write writes the content that q sees, and whose state is st. It verifies every row:
// damage of a database after it was opened is not passed on.
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
	if err := enc.Encode(trailer{hex.EncodeToString(out.h.Sum(nil))}); err != nil {
		return out.n, err
	}
	err := buf.Flush()
	return out.n, err
}

func writeTables(ctx context.Context, enc *json.Encoder, q tables.Querier, st *tables.State) error {
	head := header{
		Format: format, Version: version, Index: st.Index, Term: st.Term, Epoch: st.Epoch, CreatedAt: st.Created,
		Schema: st.Version, SchemaAt: st.VersionAt, Digest: st.Digest.String(),
	}
	var covered []*tables.Table
	for _, t := range tables.Covered {
		// An earlier build reads the snapshot as long as it has no rows that it lacks.
		if t.Later {
			n, err := tables.Column[int64](ctx, q, "SELECT count(*) FROM "+t.Name)
			if err != nil {
				return err
			}
			if n[0] == 0 {
				continue
			}
		}
		covered = append(covered, t)
	}
	head.Tables = len(covered)
	if err := enc.Encode(head); err != nil {
		return err
	}
	dig := tables.NewDigester()
	var all tables.Sum
	for _, t := range covered {
		ht := tableHeader{Table: t.Name, Columns: columns(t)}
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

// Check copies the stream r without its trailer to w, checks that, and returns the
// size. It writes a line when it has read the next one: the last one is the trailer.
func Check(w io.Writer, r io.Reader) (int64, error) {
	in := bufio.NewReaderSize(r, 256<<10)
	out := bufio.NewWriterSize(w, 256<<10)
	h := sha256.New()
	var size int64
	var held []byte
	for {
		line, err := in.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, conf.Errorf(conf.CodeInternal, "read the snapshot: %w", err)
		}
		if len(line) == 0 {
			break
		}
		if line[len(line)-1] != '\n' {
			return 0, badStream("it ends in the middle of a line")
		}
		h.Write(held)
		size += int64(len(held))
		if _, err := out.Write(held); err != nil {
			return 0, err
		}
		held = line
	}
	want, err := json.Marshal(trailer{hex.EncodeToString(h.Sum(nil))})
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(bytes.TrimSuffix(held, []byte("\n")), want) {
		return 0, badStream("its last line is not the SHA-256 of what comes before")
	}
	return size, out.Flush()
}

func badStream(format string, args ...any) error {
	return conf.Errorf(conf.CodeCorrupt, "the snapshot is corrupt: "+format, args...).
		WithHint("create it again, or copy it from another member of the cluster")
}

// Load replaces the content of all covered tables by the stream, whose bytes were
// checked, in the transaction of w. It returns the state that the header and the rows
// have, without what is derived of them.
func Load(ctx context.Context, w *tables.Writer, in io.Reader) (*tables.State, error) {
	r := &loader{ctx: ctx, w: w, in: bufio.NewReaderSize(in, 256<<10)}
	var head header
	if err := r.line(&head); err != nil {
		return nil, err
	}
	required := 0
	for _, t := range tables.Covered {
		if !t.Later {
			required++
		}
	}
	switch n := len(tables.Covered); {
	case head.Format != format:
		return nil, badStream("it is not a snapshot of a store")
	case head.Version != version || head.Tables > n:
		return nil, conf.Errorf(conf.CodeUnsupported, "the snapshot has version %d, this build supports %d", head.Version, version).
			WithHint("a newer holdfast made it: update this node")
	case head.Tables < required:
		return nil, badStream("it has %d tables of %d", head.Tables, required)
	}
	for _, t := range tables.Covered {
		if err := w.Exec(ctx, "DELETE FROM "+t.Name); err != nil {
			return nil, err
		}
	}
	// Ids continue from the highest of the snapshot, as they do on its maker.
	if err := w.Exec(ctx, "DELETE FROM sqlite_sequence"); err != nil {
		return nil, err
	}
	for range head.Tables {
		if err := r.table(); err != nil {
			return nil, err
		}
	}
	if _, err := r.in.ReadByte(); !errors.Is(err, io.EOF) {
		return nil, badStream("it has data after the last table")
	}
	if r.digest.String() != head.Digest {
		return nil, badStream("its rows have the digest %s, its header says %s", r.digest, head.Digest)
	}
	return &tables.State{
		Index: head.Index, Term: head.Term, Epoch: head.Epoch, Created: head.CreatedAt, Version: head.Schema, VersionAt: head.SchemaAt,
		Digest: r.digest,
	}, nil
}

// loader reads a stream into the tables.
type loader struct {
	ctx    context.Context //nolint:containedctx // lives for one restore only
	w      *tables.Writer
	in     *bufio.Reader
	digest tables.Sum // of the rows
}

// line decodes the next line into dst.
func (r *loader) line(dst any) error {
	line, err := r.in.ReadBytes('\n')
	if err != nil {
		return badStream("it ends early")
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.UseNumber()
	if err := dec.Decode(dst); err != nil {
		return badStream("%v", err)
	}
	return nil
}

func (r *loader) table() error {
	var head tableHeader
	if err := r.line(&head); err != nil {
		return err
	}
	i := slices.IndexFunc(tables.Covered, func(t *tables.Table) bool { return t.Name == head.Table })
	if i < 0 {
		return badStream("it has a table %q", head.Table)
	}
	t := tables.Covered[i]
	want, query := columns(t), t.Insert
	if t.HasID {
		query = t.InsertID
	}
	if !slices.Equal(head.Columns, want) {
		return badStream("the columns of %s are %v", t.Name, head.Columns)
	}
	for range head.Rows {
		var vals []any
		if err := r.line(&vals); err != nil {
			return err
		}
		if len(vals) != len(want) {
			return badStream("a row of %s has %d values", t.Name, len(vals))
		}
		for i, v := range vals {
			switch v := v.(type) {
			case nil, string:
			case json.Number:
				n, err := v.Int64()
				if err != nil {
					return badStream("a row of %s has the value %s", t.Name, v)
				}
				vals[i] = n
			default:
				return badStream("a row of %s has a %T", t.Name, v)
			}
		}
		content := vals[:len(t.Cols)]
		d, err := r.w.Dig.Row(t.Name, content)
		if err != nil {
			return err
		}
		r.digest.Add(d)
		args := append(content[:len(content):len(content)], d[:])
		if t.HasID {
			args = append(args, vals[len(vals)-1])
		}
		if err := r.w.Exec(r.ctx, query, args...); err != nil {
			return err
		}
	}
	return nil
}
