package apply

import (
	"context"
	"crypto/sha256"
	"errors"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/search"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// tx applies the entries of one batch.
type tx struct {
	ctx     context.Context //nolint:containedctx // lives for one batch only
	w       *tables.Writer
	dig     *tables.Digester
	conf    *Applier
	st      tables.State
	touched map[string]bool // services that have a new record

	schemas   bool // a schema changed
	apiTokens bool // API tokens changed
	stale     []search.StaleItem

	records map[string]*tables.StoredRecord // services that the batch read or changed; nil: to be read again
	undo    []cacheUndo                     // of records, for the present entry

	withSavepoints bool // every entry has a savepoint
	wrote          bool // the present entry changed a row
}

// rejectsBeforeWrite reports whether the command is rejected, if at all, before its first
// change: then it needs no savepoint, which costs more than a row.
func rejectsBeforeWrite(c command.Command) bool {
	switch c := c.(type) {
	case nil, *command.Audit, *command.Digest:
		return true
	case *command.Edit:
		return len(c.Updates) <= 1 && len(c.Schemas) == 0 && len(c.Secrets) == 0 && len(c.Profiles) == 0 && len(c.ProfileDeletes) == 0
	default:
		return false
	}
}

// rejection is a deterministic result: the command is undone, the batch continues.
type rejection struct{ err *conf.Error }

func (r rejection) Error() string { return r.err.Error() }

func reject(code conf.Code, format string, args ...any) error {
	return rejection{conf.Errorf(code, format, args...)}
}

// entry applies one entry: all of it, or none.
func (t *tx) entry(e Entry) (command.Result, error) {
	before, schemas, stale := t.st, t.schemas, len(t.stale)
	t.undo, t.wrote = t.undo[:0], false
	savepoint := t.withSavepoints || !rejectsBeforeWrite(e.Command)
	if savepoint {
		if err := t.w.Exec(t.ctx, "SAVEPOINT entry"); err != nil {
			return command.Result{}, err
		}
	}
	res, touched, err := t.command(e)
	if no, ok := errors.AsType[rejection](err); ok {
		if savepoint {
			if err := t.w.Exec(t.ctx, "ROLLBACK TO entry"); err != nil {
				return command.Result{}, err
			}
		} else if t.wrote {
			return command.Result{}, errNeedsSavepoint
		}
		t.st, t.schemas, t.stale = before, schemas, t.stale[:stale]
		t.undoRecords()
		res, touched, err = command.Result{Err: no.err}, nil, nil
	}
	if err != nil {
		return command.Result{}, err
	}
	if savepoint {
		if err := t.w.Exec(t.ctx, "RELEASE entry"); err != nil {
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

// command applies the command of e, and names the services that have a new record.
func (t *tx) command(e Entry) (res command.Result, touched []string, err error) {
	switch c := e.Command.(type) {
	case nil:
	case *command.Genesis:
		touched, err = t.genesis(c)
	case *command.Audit:
		err = t.auditBatch(c)
	case *command.Prune:
		err = t.prune(c)
	case *command.Cluster:
		err = (&clusterTx{t, c}).apply()
	case *command.Keyring:
		err = (&keyringTx{tx: t, c: c}).apply()
	case *command.APITokens:
		err = t.changeAPITokens(c)
	case *command.Digest: // the digest check reads it; it changes nothing
	case *command.Reseal:
		touched, err = t.reseal(c)
	case *command.Edit:
		return (&editTx{t, c, e.Index}).apply()
	case *command.Reissue:
		touched, err = t.reissue(c)
	case *command.Rollout:
		return (&rolloutTx{tx: t, c: c, index: e.Index}).apply()
	default:
		// The caller decodes, and stops at an unknown command.
		err = conf.Errorf(conf.CodeInternal, "apply a command of type %T", c)
	}
	return res, touched, err
}

// genesis starts the epoch of an empty store, or the next one of a store that is
// kept. It ends the rollouts that run, and names their services.
func (t *tx) genesis(c *command.Genesis) ([]string, error) {
	switch {
	case c.Epoch == "":
		return nil, reject(conf.CodeInvalid, "an epoch needs a name")
	case c.Epoch == t.st.Epoch:
		return nil, nil
	case t.st.ServiceCount > 0 && !c.Keep:
		return nil, rejection{conf.Errorf(conf.CodeConflict, "the store holds services of the epoch %s", t.st.Epoch).
			WithHint("start the epoch %s on an empty database", c.Epoch)}
	}
	if s := c.Signed; s != nil {
		old, err := t.read(tables.Epochs, s.Epoch)
		if err != nil {
			return nil, err
		}
		if old != nil {
			return nil, reject(conf.CodeConflict, "the epoch %s exists already", s.Epoch)
		}
		if err := t.insert(tables.Epochs, s.Epoch, s.Previous, s.At, s.Signature, s.KeyID); err != nil {
			return nil, err
		}
	}
	t.st.Epoch, t.st.Created = c.Epoch, c.At
	if t.st.Version == 0 {
		t.st.Version, t.st.VersionAt = max(c.SchemaVersion, 1), c.At
		t.schemas = true
	}
	return endAllRollouts(t, c)
}

// read reads the row of a covered table with this key, or nil.
func (t *tx) read(tab *tables.Table, key ...any) (*tables.Row, error) {
	return tables.Read(t.ctx, t.w, t.dig, tab, key...)
}

// insert adds a row to a covered table.
func (t *tx) insert(tab *tables.Table, vals ...any) error {
	_, err := t.put(tab, tab.Insert, vals)
	return err
}

// upsert adds a row or replaces the one with its key, which is old (nil for none).
func (t *tx) upsert(tab *tables.Table, old *tables.Row, vals ...any) error {
	if old != nil {
		t.st.Digest.Sub(old.Digest)
	}
	_, err := t.put(tab, tab.Upsert, vals)
	return err
}

// set changes one column of a row.
func (t *tx) set(tab *tables.Table, old *tables.Row, column int, value any) error {
	vals := append([]any(nil), old.Vals...)
	vals[column] = value
	return t.upsert(tab, old, vals...)
}

// end sets the column with the end of a row, unless it has one.
func (t *tx) end(tab *tables.Table, id string, column int, at string, missing *conf.Error) error {
	old, err := t.read(tab, id)
	switch {
	case err != nil:
		return err
	case old == nil:
		return rejection{missing}
	case old.Vals[column] != nil:
		return nil
	}
	return t.set(tab, old, column, at)
}

// each calls fn for each element of list until one fails.
func each[T any](list []T, fn func(T) error) error {
	for _, v := range list {
		if err := fn(v); err != nil {
			return err
		}
	}
	return nil
}

// put writes a row and returns its digest.
func (t *tx) put(tab *tables.Table, query string, vals []any) (d [sha256.Size]byte, err error) {
	if d, err = t.dig.Row(tab.Name, vals); err != nil {
		return d, err
	}
	t.st.Digest.Add(d)
	t.changes(tab, vals)
	return d, t.w.Exec(t.ctx, query, append(vals, d[:])...)
}

// changes records that the row with these values, or this key, changes.
func (t *tx) changes(tab *tables.Table, vals []any) {
	t.wrote = true
	switch tab {
	case tables.Configs, tables.Schemas, tables.Secrets, tables.Staged, tables.StagedVersions, tables.Rollouts:
		t.setRecord(tables.TextOf(vals[0]), nil)
	}
}

// remove removes the row with this key; nothing happens when there is none.
func (t *tx) remove(tab *tables.Table, key ...any) error {
	old, err := t.read(tab, key...)
	if err != nil || old == nil {
		return err
	}
	t.st.Digest.Sub(old.Digest)
	t.changes(tab, key)
	return t.w.Exec(t.ctx, tab.Delete, key...)
}

// drop removes a row that nobody reads any more, which query finds; nothing happens when
// there is none.
func (t *tx) drop(tab *tables.Table, query string, args ...any) error {
	d, found, err := tables.Drop(t.ctx, t.w, tab, query, args...)
	if err != nil || !found {
		return err
	}
	t.wrote = true
	t.st.Digest.Sub(d)
	return nil
}
