package documents

import (
	"slices"
	"sync"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// unopenedSecrets lists the stored secrets that are missing from the documents that
// are served, because this agent cannot open them.
type unopenedSecrets struct {
	mu sync.Mutex
	by map[string]unopenedOf
}

type unopenedOf struct {
	rec  *conf.Record
	list []UnopenedSecret
}

// UnopenedSecret is a stored secret that this agent cannot open.
type UnopenedSecret struct {
	Service, Key, KeyID string
	NoKey               bool // this agent lacks the master key; else the secret is damaged
}

// set records what is missing from the document of a record. It reports whether that
// changed.
func (u *unopenedSecrets) set(rec *conf.Record, list []UnopenedSecret) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	was := u.by[rec.Service].list
	if len(list) == 0 {
		delete(u.by, rec.Service)
		return false
	}
	if u.by == nil {
		u.by = map[string]unopenedOf{}
	}
	u.by[rec.Service] = unopenedOf{rec, list}
	return !slices.Equal(was, list)
}

// of says whether something is missing from the document of this record.
func (u *unopenedSecrets) of(rec *conf.Record) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.by[rec.Service].rec == rec
}

// now lists what is missing from what is served now.
func (u *unopenedSecrets) now(snap *Snapshot) (out []UnopenedSecret) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, service := range conf.SortedKeys(u.by) {
		un := u.by[service]
		if e, ok := snap.Get(service); ok && e.Record == un.rec {
			out = append(out, un.list...)
		}
	}
	return out
}

// Unopened lists the secrets that are missing from the documents of a snapshot.
func (s *Secrets) Unopened(snap *Snapshot) []UnopenedSecret { return s.unopened.now(snap) }

// IsIncomplete reports whether a secret is missing from the document of this record.
func (s *Secrets) IsIncomplete(rec *conf.Record) bool { return s.unopened.of(rec) }
