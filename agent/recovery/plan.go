package recovery

import (
	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/view"
)

// Plan is a rebuild: its source, its reason and the records to import.
type Plan struct {
	Reason string

	source   string // memory, lkg, defaults, backup
	oldEpoch string
	recs     []*conf.Record
	result   chan error // capacity 1
}

// NewPlan returns a request for a rebuild.
func NewPlan(reason string) *Plan { return &Plan{Reason: reason, result: make(chan error, 1)} }

// Source is what the rebuild reads: memory, lkg, defaults or backup.
func (p *Plan) Source() string { return p.source }

// Finish sends the outcome to the requester, once.
func (p *Plan) Finish(err error) {
	select {
	case p.result <- err:
	default:
	}
}

// Result receives what Finish sends.
func (p *Plan) Result() <-chan error { return p.result }

// collect reads the view, which has verified records only, of a replica or a
// last-known-good file. If it is empty, the services start from the defaults of the
// schema directory. No replica runs, so the new store misses no write.
//
// stable is what a new epoch begins with: of a service of which this agent serves the candidate
// of a rollout, or the revert of one, that is not what it serves, nor always what the view has.
func (p *Plan) collect(v *documents.View, stable func() []*conf.Record) {
	snap := v.Load()
	p.oldEpoch, p.recs = snap.Epoch, nil
	switch snap.Source {
	case view.SourceReplica:
		p.source = sourceMemory
	case view.SourceLKG:
		p.source = sourceLKG
	default:
		p.source = sourceDefaults
		return
	}
	p.recs = stable()
}
