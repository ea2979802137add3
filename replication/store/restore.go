package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Restore replaces everything in the store by the stream of a Snapshot. All that
// can be wrong with the stream is found before anything changes, and what is
// stored in the end is proved before it is committed: on any error the store is
// as it was.
func (s *Store) Restore(ctx context.Context, r io.Reader) error {
	f, size, err := s.spool(r)
	if err != nil {
		return err
	}
	defer f.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	if s.w == nil {
		return conf.Errorf(conf.CodeInternal, "restore: the store is closed")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	bg := context.WithoutCancel(ctx)
	rs := &restorer{ctx: bg, s: s, st: &state{}}
	err = s.w.transact(bg, func() error { return rs.run(bufio.NewReaderSize(io.LimitReader(f, size), 256<<10)) })
	if err != nil {
		return s.fault("restore", err)
	}
	s.state.Store(rs.st)
	clear(s.heads)
	clear(s.behind)
	return nil
}

// spool copies the stream into an unlinked file beside the database and checks
// its trailer. It gives the file, at its start, and its size without the trailer.
func (s *Store) spool(r io.Reader) (*os.File, int64, error) {
	f, err := os.CreateTemp(filepath.Dir(s.opts.Path), ".restore-*")
	if err != nil {
		return nil, 0, s.fileFault(err)
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, 0, s.fileFault(err)
	}
	size, err := checkStream(f, r)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = f.Close()
		if isFull(err) {
			return nil, 0, s.full("restore", err)
		}
		return nil, 0, err
	}
	return f, size, nil
}

// checkStream copies r to w line by line, holding the newest line back, because
// the last one is the trailer.
func checkStream(w io.Writer, r io.Reader) (int64, error) {
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

// restorer reads a stream whose bytes were proved into the tables.
type restorer struct {
	ctx context.Context //nolint:containedctx // lives for one restore only
	s   *Store
	st  *state
	in  *bufio.Reader
}

func (r *restorer) run(in *bufio.Reader) error {
	r.in = in
	var head streamHeader
	if err := r.line(&head); err != nil {
		return err
	}
	if head.Format != streamFormat {
		return badStream("it is not a snapshot of a store")
	}
	if head.Version != streamVersion || head.Tables > len(covered) {
		return conf.Errorf(conf.CodeUnsupported, "the snapshot has version %d, this build knows %d", head.Version, streamVersion).
			WithHint("a newer holdfast made it: update this node")
	}
	if head.Tables < len(covered) {
		return badStream("it has %d tables of %d", head.Tables, len(covered))
	}
	st := r.st
	st.index, st.term, st.epoch, st.created = head.Index, head.Term, head.Epoch, head.CreatedAt
	st.version, st.versionAt = head.Schema, head.SchemaAt

	w := r.s.w
	for _, t := range covered {
		if err := w.exec(r.ctx, "DELETE FROM "+t.name); err != nil {
			return err
		}
	}
	// Ids go on from the highest of the snapshot, as they do on its maker.
	if err := w.exec(r.ctx, "DELETE FROM sqlite_sequence"); err != nil {
		return err
	}
	schemas := map[string][]byte{}
	for range head.Tables {
		if err := r.table(schemas); err != nil {
			return err
		}
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		return badStream("there is more after the last table")
	}
	if st.digest.String() != head.Digest {
		return badStream("its rows have the digest %s, its header says %s", st.digest, head.Digest)
	}
	if st.version > 0 {
		st.modelHash = r.s.opts.ModelHash(schemas)
		st.wantHash = st.modelHash
	}
	if err := r.s.deriveItems(r.ctx, st); err != nil {
		return err
	}
	var err error
	if st.apiTokens, err = readAPITokens(r.ctx, w, r.s.dig); err != nil {
		return err
	}
	if err := w.writeMeta(r.ctx, r.s.dig, st, &state{}); err != nil {
		return err
	}
	return r.prove()
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
	i := slices.IndexFunc(covered, func(t *table) bool { return t.name == head.Table })
	if i < 0 {
		return badStream("it has a table %q", head.Table)
	}
	t := covered[i]
	want, query := t.cols, t.insert
	if t.id {
		want, query = append(t.cols[:len(t.cols):len(t.cols)], "id"), t.insertID
	}
	if !slices.Equal(head.Columns, want) {
		return badStream("the columns of %s are %v", t.name, head.Columns)
	}
	for range head.Rows {
		var vals []any
		if err := r.line(&vals); err != nil {
			return err
		}
		if len(vals) != len(want) {
			return badStream("a row of %s has %d values", t.name, len(vals))
		}
		for i, v := range vals {
			switch v := v.(type) {
			case nil, string:
			case json.Number:
				n, err := v.Int64()
				if err != nil {
					return badStream("a row of %s has the value %s", t.name, v)
				}
				vals[i] = n
			default:
				return badStream("a row of %s has a %T", t.name, v)
			}
		}
		content := vals[:len(t.cols)]
		d, err := r.s.dig.row(t.name, content)
		if err != nil {
			return err
		}
		r.st.digest.add(d)
		args := append(content[:len(content):len(content)], d[:])
		if t.id {
			args = append(args, vals[len(vals)-1])
		}
		if err := r.s.w.exec(r.ctx, query, args...); err != nil {
			return err
		}
		switch t {
		case tableSchemas:
			schemas[textOf(vals[0])] = []byte(textOf(vals[1]))
		case tableConfigs:
			r.st.services++
		case tableRequests:
			r.st.requests++
		}
	}
	return nil
}

// prove reads back what was written, before it is committed.
func (r *restorer) prove() error {
	st, err := r.s.verifyRows(r.ctx, r.s.w)
	if err != nil {
		return err
	}
	if st.digest != r.st.digest || st.modelHash != r.st.modelHash || st.services != r.st.services || st.requests != r.st.requests {
		return corrupt("what was restored reads back in another way")
	}
	return nil
}
