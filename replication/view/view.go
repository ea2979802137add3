package view

import (
	"hash/maphash"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Sources of a Snapshot. A View that was never filled has the source "".
const (
	SourceDefault = "default" // defaults of the schemas: no stored state was readable
	SourceLKG     = "lkg"     // the last-known-good file
	SourceReplica = "replica" // this node's copy of the replicated store
)

// View is the current state of all services. The zero value is not usable; call New.
type View[T any] struct {
	render func(*conf.Record) T
	seed   maphash.Seed
	cur    atomic.Pointer[Snapshot[T]]

	mu sync.Mutex // serializes Advance, Reset and Rerender; readers never take it
}

// New returns an empty View. render makes what the readers need (such as the bytes of
// a response) of a record, once per change. It must not block or call the View, and may be
// called on several goroutines at once, for different records.
func New[T any](render func(*conf.Record) T) *View[T] {
	v := &View[T]{render: render, seed: maphash.MakeSeed()}
	v.cur.Store(&Snapshot[T]{
		table: newTable[T](), names: newNames(), changed: make(chan struct{}), seed: v.seed,
	})
	return v
}

// Entry is one service at one version.
type Entry[T any] struct {
	Record *conf.Record
	Doc    T // what render made of Record

	hash    uint64
	changed chan struct{}
}

// Changed is closed when a newer entry of this service has replaced e, or when
// another epoch began without the service. New signatures of the same version are no
// change: the entry keeps the channel.
func (e *Entry[T]) Changed() <-chan struct{} { return e.changed }

// Get returns the newest entry of service: one atomic load and a lookup. The
// entry may be a tombstone; see conf.Record.Exists.
func (v *View[T]) Get(service string) (*Entry[T], bool) { return v.cur.Load().Get(service) }

// Load returns the newest snapshot, never nil.
func (v *View[T]) Load() *Snapshot[T] { return v.cur.Load() }

// Missing returns a channel that is closed once a service without an entry may have
// one: wait for it, then call Get again. It is closed already when service has an
// entry now, so there is no gap between Get and Missing.
func (v *View[T]) Missing(service string) <-chan struct{} {
	s := v.cur.Load()
	if _, ok := s.Get(service); ok {
		return closed
	}
	return s.names.changed
}

// Advance publishes recs, the services that the log entries up to index have
// changed, in the order of the log. A record that would take its service back
// inside its epoch is ignored. A record of another epoch starts that epoch for
// the snapshot; an epoch that begins without any record needs Reset.
func (v *View[T]) Advance(index uint64, recs []*conf.Record) {
	v.mu.Lock()
	defer v.mu.Unlock()
	old := v.cur.Load()
	b := v.builder(old)
	epoch := old.Epoch
	for _, r := range recs {
		if b.put(r) && r.Epoch != "" {
			epoch = r.Epoch
		}
	}
	v.publish(old, b, max(index, old.Index), epoch, old.Source)
}

// Reset replaces everything by recs: at the start, after a restore, when a new
// epoch begins. An entry whose record is equal stays the same entry, and its waiters
// are not woken. Inside one epoch Reset never goes back: a replica that is behind the
// last-known-good file catches up from the log, and readers see no older version.
func (v *View[T]) Reset(source, epoch string, index uint64, recs []*conf.Record) {
	v.mu.Lock()
	defer v.mu.Unlock()
	old := v.cur.Load()
	b := v.builder(old)
	if epoch != "" && epoch == old.Epoch {
		index = max(index, old.Index)
	} else {
		keep := make(map[string]bool, len(recs))
		for _, r := range recs {
			keep[r.Service] = true
		}
		old.table.each(func(e *Entry[T]) {
			if !keep[e.Record.Service] {
				b.remove(e)
			}
		})
	}
	if old.count == 0 { // a start: readers wait for the first document
		b.renderAll(recs)
	}
	for _, r := range recs {
		b.put(r)
	}
	v.publish(old, b, index, epoch, source)
}

// Rerender renders the selected entries again, and wakes their waiters: something that
// render reads besides the record has changed.
func (v *View[T]) Rerender(selected func(*conf.Record) bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	old := v.cur.Load()
	b := v.builder(old)
	old.table.each(func(e *Entry[T]) {
		if !selected(e.Record) {
			return
		}
		bucket := b.writable(e.hash)
		(*bucket)[slices.Index(*bucket, e)] = &Entry[T]{Record: e.Record, Doc: v.render(e.Record), hash: e.hash, changed: make(chan struct{})}
		b.scheduleWake(e)
	})
	if len(b.replaced) > 0 {
		v.publish(old, b, old.Index, old.Epoch, old.Source)
	}
}

// publish makes the new snapshot loadable and only then wakes the waiters.
func (v *View[T]) publish(old *Snapshot[T], b *builder[T], index uint64, epoch, source string) {
	next := &Snapshot[T]{
		Index: index, Epoch: epoch, Source: source,
		table: b.table, names: b.names, count: b.count, changed: make(chan struct{}), seed: v.seed,
	}
	v.cur.Store(next)
	for _, e := range b.replaced {
		close(e.changed)
	}
	if next.names != old.names {
		close(old.names.changed)
	}
	close(old.changed)
}

// builder collects the changes of one Advance or Reset on top of base, the table
// that readers see, and copies what it touches.
type builder[T any] struct {
	view     *View[T]
	base     *table[T]
	table    *table[T] // base until the first change
	names    *names
	count    int
	replaced []*Entry[T] // entries of base that are no longer in table
	rendered map[*conf.Record]T
}

// minAtOnce is the number of records from which on it pays to render on all processors.
const minAtOnce = 64

// renderAll renders records on all processors.
func (b *builder[T]) renderAll(recs []*conf.Record) {
	if len(recs) < minAtOnce {
		return
	}
	docs := make([]T, len(recs))
	var workers sync.WaitGroup
	each := (len(recs)-1)/runtime.GOMAXPROCS(0) + 1
	for from := 0; from < len(recs); from += each {
		workers.Go(func() {
			for i := from; i < min(from+each, len(recs)); i++ {
				docs[i] = b.view.render(recs[i])
			}
		})
	}
	workers.Wait()
	b.rendered = make(map[*conf.Record]T, len(recs))
	for i, r := range recs {
		b.rendered[r] = docs[i]
	}
}

// render is the document of a record.
func (b *builder[T]) render(r *conf.Record) T {
	if doc, ok := b.rendered[r]; ok {
		return doc
	}
	return b.view.render(r)
}

func (v *View[T]) builder(old *Snapshot[T]) *builder[T] {
	return &builder[T]{view: v, base: old.table, table: old.table, names: old.names, count: old.count}
}

// put adds r, unless the table has the same or a newer record.
func (b *builder[T]) put(r *conf.Record) bool {
	h := maphash.String(b.view.seed, r.Service)
	old := b.table.get(h, r.Service)
	if old != nil && (older(r, old.Record) || Equal(r, old.Record)) {
		return false
	}
	e := &Entry[T]{Record: r, Doc: b.render(r), hash: h}
	again := old != nil && reissued(r, old.Record)
	if again {
		e.changed = old.changed
	} else {
		e.changed = make(chan struct{})
	}
	bucket := b.writable(h)
	if old == nil {
		*bucket = append(*bucket, e)
		b.count++
		b.namesChanged()
		return true
	}
	(*bucket)[slices.Index(*bucket, old)] = e
	if !again {
		b.scheduleWake(old)
	}
	return true
}

func (b *builder[T]) remove(e *Entry[T]) {
	bucket := b.writable(e.hash)
	i := slices.Index(*bucket, e)
	*bucket = slices.Delete(*bucket, i, i+1)
	b.count--
	b.namesChanged()
	b.scheduleWake(e)
}

// scheduleWake adds e to the entries to close, unless this change made it.
func (b *builder[T]) scheduleWake(e *Entry[T]) {
	if was := b.base.get(e.hash, e.Record.Service); was != nil && was.changed == e.changed {
		b.replaced = append(b.replaced, e)
	}
}

// namesChanged begins another set of names.
func (b *builder[T]) namesChanged() {
	if b.names == b.view.cur.Load().names {
		b.names = newNames()
	}
}

// writable returns the bucket of hash h in a copy that b alone has.
func (b *builder[T]) writable(h uint64) *[]*Entry[T] {
	if b.table == b.base {
		t := *b.base
		b.table = &t
	}
	i, j := slot(h)
	if b.table[i] == nil {
		b.table[i] = &node[T]{}
	} else if b.table[i] == b.base[i] {
		n := *b.base[i]
		b.table[i] = &n
	}
	// A bucket has a few entries: copying it again for another change of the same
	// batch is cheaper than tracking which ones were copied.
	bucket := &b.table[i][j]
	*bucket = append(make([]*Entry[T], 0, len(*bucket)+1), *bucket...)
	return bucket
}

// older reports whether r comes before have: in one epoch the version decides, and at the same
// version how far its rollout is. The time of issue does not: it goes back when the clock of a
// leader was ahead.
func older(r, have *conf.Record) bool {
	if r.Epoch != have.Epoch || r.Epoch == "" {
		return false
	}
	if r.Version != have.Version || r.Floor() != have.Floor() {
		return r.Version < have.Version || r.Version == have.Version && r.Floor() < have.Floor()
	}
	a, b := rollout(r), rollout(have)
	return a != nil && b != nil && a.Step < b.Step
}

func rollout(r *conf.Record) *conf.Rollout {
	if r.Staged == nil {
		return nil
	}
	return r.Staged.Rollout
}

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()
