package apply

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/search"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// Entry is one entry of the log.
type Entry struct {
	Index, Term uint64
	Command     command.Command // nil: an entry that changes nothing but the position
}

// StateDigest is the digest of the state when the entry with that index was applied.
type StateDigest struct {
	Index  uint64
	Digest tables.Sum
}

// Applier applies batches of entries. One goroutine uses it.
type Applier struct {
	Writer *tables.Writer
	// Project derives the items of a document, without secrets, in the order of the keys.
	Project   func(service string, schema, config json.RawMessage) ([]conf.Item, error)
	ModelHash tables.ModelHash
	Cache     RecordCache // as of the last batch that was committed; nil: none

	WithSavepoints bool // for each entry, not only for one that needs it

	differ differ
}

// Batch is what applying some entries resulted in.
type Batch struct {
	State   *tables.State
	Results []command.Result
	Records []*conf.Record     // the newest one of every service that the batch touched
	Digests []StateDigest      // after each entry, and before the first
	Stale   []search.StaleItem // items that differ from their document now

	records map[string]*tables.StoredRecord
}

// Apply applies entries to the state old in one transaction and returns a result for
// each. An entry at or below the applied index changes nothing: Duplicate. An
// error means that nothing of the batch is stored.
func (a *Applier) Apply(ctx context.Context, old *tables.State, entries []Entry) (*Batch, error) {
	b, err := a.apply(ctx, old, entries, a.WithSavepoints)
	if errors.Is(err, errNeedsSavepoint) {
		b, err = a.apply(ctx, old, entries, true)
	}
	if err != nil {
		return nil, err
	}
	a.Cache.commit(b.records)
	return b, nil
}

// errNeedsSavepoint: an entry was rejected that had no savepoint and had changed
// something. Its batch is undone, and applied again with savepoints.
var errNeedsSavepoint = errors.New("a rejected entry has to be undone")

// apply runs the transaction. With savepoints every entry has one.
func (a *Applier) apply(ctx context.Context, old *tables.State, entries []Entry, withSavepoints bool) (*Batch, error) {
	t := &tx{
		ctx: ctx, w: a.Writer, dig: a.Writer.Dig, conf: a, st: *old, withSavepoints: withSavepoints,
		touched: map[string]bool{}, records: map[string]*tables.StoredRecord{},
	}
	b := &Batch{
		State: &t.st, Results: make([]command.Result, len(entries)), records: t.records,
		Digests: []StateDigest{{old.Index, old.Digest}}, // after a start or a restore no batch had it
	}
	err := a.Writer.Transact(ctx, func() error {
		for i, e := range entries {
			if e.Index <= t.st.Index {
				b.Results[i] = command.Result{Index: e.Index, Duplicate: true}
				continue
			}
			r, err := t.entry(e)
			if err != nil {
				return err
			}
			b.Results[i] = r
			t.st.Index, t.st.Term = e.Index, e.Term
			b.Digests = append(b.Digests, StateDigest{e.Index, t.st.Digest})
		}
		if t.schemas {
			// Once a batch: it depends on the rows only.
			hash, err := tables.HashSchemas(ctx, t.w, a.ModelHash)
			if err != nil {
				return err
			}
			t.st.ModelHash, t.st.WantHash = hash, hash
			if err := search.MarkAllStale(ctx, t.w); err != nil {
				return err
			}
		}
		if t.apiTokens {
			var err error
			if t.st.APITokens, err = tables.ReadAPITokens(ctx, t.w, t.dig); err != nil {
				return err
			}
		}
		for _, service := range conf.SortedKeys(t.touched) {
			r, err := t.record(service)
			if err != nil {
				return err
			}
			b.Records = append(b.Records, r.Record)
		}
		b.Stale = t.stale
		return t.w.WriteMeta(ctx, &t.st, old)
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}
