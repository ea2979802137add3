package backend

import (
	"iter"

	"github.com/holdfast-config/holdfast/agent/broker"
	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// BrokerProvider provides the signed updates of one of the two views to a broker. Only what a leader
// signed is published: the schemas' defaults have no signature. It implements broker.Source.
type BrokerProvider struct {
	*Backend
	View *documents.View
}

// Load returns the current state. Its Cursor is the snapshot: records that are in both are the
// same pointers.
func (p BrokerProvider) Load(prev any) broker.State {
	snap := p.View.Load()
	old, _ := prev.(*documents.Snapshot)
	st := broker.State{Epoch: snap.Epoch, Cursor: snap, Changed: snap.Changed(), Records: p.updates(snap, old)}
	st.Changes = p.sup.EpochChanges()
	return st
}

func (p BrokerProvider) updates(snap, old *documents.Snapshot) iter.Seq[*conf.Record] {
	return func(yield func(*conf.Record) bool) {
		snap.Since(old, func(e *documents.Entry) bool { return e.Record.Signature == "" || yield(e.Record) })
	}
}

// Health returns the health and a channel that is closed at its next transition.
func (p BrokerProvider) Health() (conf.Health, <-chan struct{}) {
	changed := p.o.Status.Get().Changed
	return p.Backend.Health(), changed
}
