package documents

import (
	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/view"
)

type (
	// View is the view of an agent, with rendered documents of the local API.
	View = view.View[*localapi.Document]
	// Entry is one service in a View.
	Entry = view.Entry[*localapi.Document]
	// Snapshot is a View at one moment. It does not change.
	Snapshot = view.Snapshot[*localapi.Document]
)

// NewView makes an empty view whose documents contain the secrets of s, and what the
// environment of the agent decides.
func NewView(s *Secrets) *View {
	return view.New((&localapi.Renderer{Secrets: s.Values, Overlay: s.Overlay}).Render)
}

// NewStableView makes an empty view without documents: its records are read, not served.
func NewStableView() *View {
	return view.New(func(*conf.Record) *localapi.Document { return nil })
}

// Records reads the records of a view.
type Records struct{ *View }

// Record returns the record of a service, nil when there is none.
func (r Records) Record(service string) *conf.Record {
	if e, ok := r.Get(service); ok {
		return e.Record
	}
	return nil
}

// Services returns all records, tombstones included.
func (r Records) Services() []*conf.Record {
	var out []*conf.Record
	r.Load().Range(func(e *Entry) bool {
		out = append(out, e.Record)
		return true
	})
	return out
}

// Epoch returns the epoch of the current snapshot.
func (r Records) Epoch() string { return r.Load().Epoch }
