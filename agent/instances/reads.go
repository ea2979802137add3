package instances

import (
	"slices"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// maxKeys is how many keys are remembered of one instance.
const maxKeys = 1024

// note remembers when keys were read, to the hour.
func (e *entry) note(reads []conf.KeyRead, now time.Time) {
	for _, r := range reads {
		at, err := conf.ParseTime(r.At)
		if err != nil {
			continue
		}
		if at.After(now) {
			at = now
		}
		at = at.Truncate(time.Hour)
		if e.read == nil {
			e.read = map[string]time.Time{}
		}
		if was, known := e.read[r.Key]; !known && len(e.read) >= maxKeys || known && !at.After(was) {
			continue
		}
		e.read[r.Key] = at
	}
}

// KeyUse returns who reads which key of a service, in the order of their names; the empty
// key is the whole document.
func (t *Table) KeyUse(name string) []conf.KeyUse {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.services[name]
	if s == nil {
		return nil
	}
	last := map[string]time.Time{}
	readers := map[string]int{}
	for _, e := range s.entries {
		for key, at := range e.read {
			readers[key]++
			if at.After(last[key]) {
				last[key] = at
			}
		}
	}
	out := make([]conf.KeyUse, 0, len(last))
	for key, at := range last {
		out = append(out, conf.KeyUse{Key: key, Readers: readers[key], LastRead: conf.FormatTime(at)})
	}
	slices.SortFunc(out, func(a, b conf.KeyUse) int { return strings.Compare(a.Key, b.Key) })
	return out
}
