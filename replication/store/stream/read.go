package stream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"slices"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// Check copies the stream r to w and checks its trailer; it returns the size without
// that. It copies line by line, holding the newest line back, because
// the last one is the trailer.
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
	want, err := json.Marshal(streamTrailer{hex.EncodeToString(h.Sum(nil))})
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
		WithHint("take it again, from another member of the cluster")
}

// Load replaces the content of all covered tables by the stream, whose bytes were
// checked, in the transaction of w. It returns the state of the content, without what
// is derived of it.
func Load(ctx context.Context, w *tables.Writer, in io.Reader, modelHash tables.ModelHash) (*tables.State, error) {
	r := &restorer{ctx: ctx, w: w, st: &tables.State{}, in: bufio.NewReaderSize(in, 256<<10)}
	return r.st, r.run(modelHash)
}

// restorer reads a stream whose bytes were proved into the tables.
type restorer struct {
	ctx context.Context //nolint:containedctx // lives for one restore only
	w   *tables.Writer
	st  *tables.State
	in  *bufio.Reader
}

func (r *restorer) run(modelHash tables.ModelHash) error {
	var head streamHeader
	if err := r.line(&head); err != nil {
		return err
	}
	if head.Format != streamFormat {
		return badStream("it is not a snapshot of a store")
	}
	if head.Version != streamVersion || head.Tables > len(tables.Covered) {
		return conf.Errorf(conf.CodeUnsupported, "the snapshot has version %d, this build knows %d", head.Version, streamVersion).
			WithHint("a newer holdfast made it: update this node")
	}
	if head.Tables < len(tables.Covered) {
		return badStream("it has %d tables of %d", head.Tables, len(tables.Covered))
	}
	st := r.st
	st.Index, st.Term, st.Epoch, st.Created = head.Index, head.Term, head.Epoch, head.CreatedAt
	st.Version, st.VersionAt = head.Schema, head.SchemaAt

	for _, t := range tables.Covered {
		if err := r.w.Exec(r.ctx, "DELETE FROM "+t.Name); err != nil {
			return err
		}
	}
	// Ids go on from the highest of the snapshot, as they do on its maker.
	if err := r.w.Exec(r.ctx, "DELETE FROM sqlite_sequence"); err != nil {
		return err
	}
	schemas := map[string][]byte{}
	for range head.Tables {
		if err := r.table(schemas); err != nil {
			return err
		}
	}
	if _, err := r.in.ReadByte(); !errors.Is(err, io.EOF) {
		return badStream("there is more after the last table")
	}
	if st.Digest.String() != head.Digest {
		return badStream("its rows have the digest %s, its header says %s", st.Digest, head.Digest)
	}
	if st.Version > 0 {
		st.ModelHash = modelHash(schemas)
		st.WantHash = st.ModelHash
	}
	return nil
}

// line decodes the next line into dst.
func (r *restorer) line(dst any) error {
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

func (r *restorer) table(schemas map[string][]byte) error {
	var head streamTable
	if err := r.line(&head); err != nil {
		return err
	}
	i := slices.IndexFunc(tables.Covered, func(t *tables.Table) bool { return t.Name == head.Table })
	if i < 0 {
		return badStream("it has a table %q", head.Table)
	}
	t := tables.Covered[i]
	want, query := streamColumns(t), t.Insert
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
		r.st.Digest.Add(d)
		args := append(content[:len(content):len(content)], d[:])
		if t.HasID {
			args = append(args, vals[len(vals)-1])
		}
		if err := r.w.Exec(r.ctx, query, args...); err != nil {
			return err
		}
		switch t {
		case tables.Schemas:
			schemas[tables.TextOf(vals[0])] = []byte(tables.TextOf(vals[1]))
		case tables.Configs:
			r.st.ServiceCount++
		case tables.Requests:
			r.st.RequestCount++
		}
	}
	return nil
}
