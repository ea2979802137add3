package documents

import (
	"sync"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// findings lists what is wrong with the documents that are served, by service. What was
// found of another record than the one that is served now does not count.
type findings[T comparable] struct {
	mu sync.Mutex
	by map[string]findingsOf[T]
}

type findingsOf[T comparable] struct {
	rec  *conf.Record
	list []T
}

// set records what is wrong with the document of a record.
func (f *findings[T]) set(rec *conf.Record, list []T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(list) == 0 {
		delete(f.by, rec.Service)
		return
	}
	if f.by == nil {
		f.by = map[string]findingsOf[T]{}
	}
	f.by[rec.Service] = findingsOf[T]{rec, list}
}

// of says whether something is wrong with the document of this record.
func (f *findings[T]) of(rec *conf.Record) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.by[rec.Service].rec == rec
}

// now lists what is wrong with what a snapshot serves.
func (f *findings[T]) now(snap *Snapshot) (out []T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, service := range conf.SortedKeys(f.by) {
		found := f.by[service]
		if e, ok := snap.Get(service); ok && e.Record == found.rec {
			out = append(out, found.list...)
		}
	}
	return out
}
