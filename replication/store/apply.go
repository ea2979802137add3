package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Entry is one entry of the log.
type Entry struct {
	Index, Term uint64
	Command     command.Command // nil: an entry that changes nothing but the position
}

// Apply stores a batch in one transaction and returns a result for each entry,
// and the newest record of every service that the batch touched. An entry at or
// below the applied index changes nothing and gives Duplicate.
//
// An error means that nothing of the batch is stored. After CodeLocked or
// CodeStorageFull the same batch can be tried again; after any other the caller
// must stop applying.
func (s *Store) Apply(ctx context.Context, entries []Entry) ([]command.Result, []*conf.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return nil, nil, s.broken
	}
	if s.w == nil {
		return nil, nil, conf.Errorf(conf.CodeInternal, "apply: the store is closed")
	}
	ctx = context.WithoutCancel(ctx) // a batch is short; half of one helps nobody
	b, err := s.applyBatch(ctx, entries, false)
	if errors.Is(err, errHalf) {
		b, err = s.applyBatch(ctx, entries, true)
	}
	if err != nil {
		err = s.fault("apply", err)
		if conf.CodeOf(err) == conf.CodeCorrupt {
			s.broken = err
		}
		return nil, nil, err
	}
	s.state.Store(&b.tx.st)
	s.past.keep(b.passed)
	s.written.Add(int64(8 + 4*len(entries)))
	s.keepHeads(b.tx.heads)
	s.mark(b.tx.marks)
	return b.results, b.recs, nil
}

// batch is what applying some entries gave.
type batch struct {
	tx      *tx
	results []command.Result
	recs    []*conf.Record
	passed  []stateAt
}

// applyBatch runs the transaction. With careful every entry has a savepoint.
func (s *Store) applyBatch(ctx context.Context, entries []Entry, careful bool) (*batch, error) {
	old := s.state.Load()
	tx := &tx{ctx: ctx, s: s, w: s.w, dig: s.dig, st: *old, careful: careful, touched: map[string]bool{}, heads: map[string]*head{}}
	results := make([]command.Result, len(entries))
	var recs []*conf.Record
	passed := []stateAt{{old.index, old.digest}} // after a start or a restore nobody else noted it
	err := s.w.transact(ctx, func() error {
		for i, e := range entries {
			if e.Index <= tx.st.index {
				results[i] = command.Result{Index: e.Index, Duplicate: true}
				continue
			}
			r, err := tx.entry(e)
			if err != nil {
				return err
			}
			results[i] = r
			tx.st.index, tx.st.term = e.Index, e.Term
			passed = append(passed, stateAt{e.Index, tx.st.digest})
		}
		if tx.schemas {
			if err := tx.modelHash(); err != nil {
				return err
			}
			if err := s.w.exec(ctx, sqlItemsBehind); err != nil {
				return err
			}
		}
		if tx.tokens {
			tokens, err := readAPITokens(ctx, s.w, s.dig)
			if err != nil {
				return err
			}
			tx.st.apiTokens = tokens
		}
		for _, service := range conf.SortedKeys(tx.touched) {
			h, err := tx.head(service)
			if err != nil {
				return err
			}
			recs = append(recs, h.rec)
		}
		return s.w.writeMeta(ctx, s.dig, &tx.st, old)
	})
	if err != nil {
		return nil, err
	}
	return &batch{tx, results, recs, passed}, nil
}

// tx applies the entries of one batch.
type tx struct {
	ctx     context.Context //nolint:containedctx // lives for one batch only
	s       *Store
	w       *writer
	dig     *digester
	st      state
	touched map[string]bool
	schemas bool // a schema changed
	tokens  bool // API tokens changed

	heads map[string]*head // services that the batch read or changed; nil: to be read again
	undo  []undoHead       // of heads, for the present entry
	marks []mark           // items that changed

	careful bool // every entry has a savepoint
	wrote   bool // the present entry changed a row
}

// errHalf: an entry was refused that had no savepoint and had changed something.
// Its batch is undone, and done again with care.
var errHalf = errors.New("a refused entry has to be undone")

// decidesFirst says whether the command is refused, if at all, before its first
// change: then it needs no savepoint, which costs more than a row.
func decidesFirst(c command.Command) bool {
	switch c := c.(type) {
	case nil, *command.Audit, *command.Digest:
		return true
	case *command.Edit:
		return len(c.Updates) <= 1 && len(c.Schemas) == 0 && len(c.Secrets) == 0 && len(c.Profiles) == 0 && len(c.ProfileDeletes) == 0
	default:
		return false
	}
}

// refusal is a deterministic no: the command is undone, the batch goes on.
type refusal struct{ err *conf.Error }

func (r refusal) Error() string { return r.err.Error() }

func refuse(code conf.Code, format string, args ...any) error {
	return refusal{conf.Errorf(code, format, args...)}
}

// entry applies one entry: all of it, or none.
func (t *tx) entry(e Entry) (command.Result, error) {
	before, schemas, marks := t.st, t.schemas, len(t.marks)
	t.undo, t.wrote = t.undo[:0], false
	savepoint := t.careful || !decidesFirst(e.Command)
	if savepoint {
		if err := t.w.exec(t.ctx, "SAVEPOINT entry"); err != nil {
			return command.Result{}, err
		}
	}
	var (
		res     command.Result
		touched []string
		err     error
	)
	switch c := e.Command.(type) {
	case nil:
	case *command.Genesis:
		err = t.genesis(c)
	case *command.Audit:
		err = t.batch(c)
	case *command.Prune:
		err = t.prune(c)
	case *command.Cluster:
		err = t.cluster(c)
	case *command.Keyring:
		err = t.keyring(c)
	case *command.APITokens:
		err = t.apiTokens(c)
	case *command.Digest: // for whoever compares; it changes nothing
	case *command.Reseal:
		touched, err = t.reseal(c)
	case *command.Edit:
		res, touched, err = t.edit(e.Index, c)
	case *command.Reissue:
		touched, err = t.reissue(c)
	default:
		// The caller decodes, and stops at what it does not know.
		err = conf.Errorf(conf.CodeInternal, "apply a command of type %T", c)
	}
	if no, ok := errors.AsType[refusal](err); ok {
		if savepoint {
			if err := t.w.exec(t.ctx, "ROLLBACK TO entry"); err != nil {
				return command.Result{}, err
			}
		} else if t.wrote {
			return command.Result{}, errHalf
		}
		t.st, t.schemas, t.marks = before, schemas, t.marks[:marks]
		t.undoHeads()
		res, touched, err = command.Result{Err: no.err}, nil, nil
	}
	if err != nil {
		return command.Result{}, err
	}
	if savepoint {
		if err := t.w.exec(t.ctx, "RELEASE entry"); err != nil {
			return command.Result{}, err
		}
	}
	for _, service := range touched {
		t.touched[service] = true
	}
	if res.Index == 0 {
		res.Index = e.Index
	}
	return res, nil
}

// genesis starts the epoch of an empty store, or the next one of a store that is
// kept.
func (t *tx) genesis(c *command.Genesis) error {
	switch {
	case c.Epoch == "":
		return refuse(conf.CodeInvalid, "an epoch needs a name")
	case c.Epoch == t.st.epoch:
		return nil
	case t.st.services > 0 && !c.Keep:
		return refusal{conf.Errorf(conf.CodeConflict, "the store holds services of the epoch %s", t.st.epoch).
			WithHint("start the epoch %s on an empty database", c.Epoch)}
	}
	if s := c.Signed; s != nil {
		old, err := readRow(t.ctx, t.w, t.dig, tableEpochs, s.Epoch)
		if err != nil {
			return err
		}
		if old != nil {
			return refuse(conf.CodeConflict, "the epoch %s was there before", s.Epoch)
		}
		if err := t.insert(tableEpochs, s.Epoch, s.Previous, s.At, s.Signature, s.KeyID); err != nil {
			return err
		}
	}
	t.st.epoch, t.st.created = c.Epoch, c.At
	if t.st.version == 0 {
		t.st.version, t.st.versionAt = max(c.SchemaVersion, 1), c.At
		t.schemas = true
	}
	return nil
}

// audit adds rows to the access log.
func (t *tx) audit(rows []conf.Access) error {
	for _, r := range rows {
		success := int64(0)
		if r.Success {
			success = 1
		}
		if err := t.insert(tableAccess, null(r.UserID), r.Action, null(r.Service), null(r.Key), success, null(r.Reason), r.Timestamp); err != nil {
			return err
		}
	}
	return nil
}

// modelHash computes the hash of all schemas once a batch. It depends on the
// rows only; the version was counted by each edit, wherever its batch ended.
func (t *tx) modelHash() error {
	rows, err := t.w.QueryContext(t.ctx, "SELECT service, schema_json FROM schemas")
	if err != nil {
		return err
	}
	defer rows.Close()
	all := map[string][]byte{}
	for rows.Next() {
		var service string
		var text []byte
		if err := rows.Scan(&service, &text); err != nil {
			return err
		}
		all[service] = text
	}
	if err := rows.Err(); err != nil {
		return err
	}
	t.st.modelHash = t.s.opts.ModelHash(all)
	t.st.wantHash = t.st.modelHash
	return nil
}

// insert adds a row to a covered table.
func (t *tx) insert(tab *table, vals ...any) error { return t.put(tab, tab.insert, vals) }

// upsert adds a row or replaces the one with its key, whose digest is old (nil
// for none).
func (t *tx) upsert(tab *table, old *row, vals ...any) error {
	if old != nil {
		t.st.digest.sub(old.digest)
	}
	return t.put(tab, tab.upsert, vals)
}

func (t *tx) put(tab *table, query string, vals []any) error {
	d, err := t.dig.row(tab.name, vals)
	if err != nil {
		return err
	}
	t.st.digest.add(d)
	t.changes(tab, vals)
	return t.w.exec(t.ctx, query, append(vals, d[:])...)
}

// changes notes that the row with these values, or this key, changes.
func (t *tx) changes(tab *table, vals []any) {
	t.wrote = true
	if ofService(tab) {
		t.setHead(textOf(vals[0]), nil)
	}
}

// remove takes away the row with this key; nothing happens when there is none.
func (t *tx) remove(tab *table, key ...any) error {
	old, err := readRow(t.ctx, t.w, t.dig, tab, key...)
	if err != nil || old == nil {
		return err
	}
	t.st.digest.sub(old.digest)
	t.changes(tab, key)
	return t.w.exec(t.ctx, tab.remove, key...)
}

// row is a row of a covered table, proved by its digest.
type row struct {
	vals   []any
	digest [sha256.Size]byte
}

func (r *row) text(i int) string { return textOf(r.vals[i]) }

// readRow reads the row with this key, or nil.
func readRow(ctx context.Context, q querier, dig *digester, tab *table, key ...any) (*row, error) {
	vals := make([]any, len(tab.cols)+1)
	dst := make([]any, len(vals))
	for i := range vals {
		dst[i] = &vals[i]
	}
	err := q.QueryRowContext(ctx, tab.selectKey, key...).Scan(dst...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	n := len(tab.cols)
	d, err := dig.row(tab.name, vals[:n])
	if err != nil {
		return nil, err
	}
	if !sameDigest(d, vals[n]) {
		return nil, corrupt("the row %v of %s does not have its digest", key, tab.name)
	}
	for i := range tab.key {
		if vals[i] != key[i] {
			return nil, corrupt("the index of %s leads from %v to the row of %v", tab.name, key[i], vals[i])
		}
	}
	return &row{vals[:n:n], d}, nil
}
