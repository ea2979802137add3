package replica

import (
	"context"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/view"
)

// show serves what a database that was just opened, and so verified, has applied: it was
// committed, and no leader is needed to know that. The last-known-good file may be behind
// it. A database that is older than that file is not served: the log, the leader or a
// person has to tell why. The view follows the log from here; publish does the rest.
func (r *Replica) show(ctx context.Context) {
	s := r.sup
	epoch := r.store.Epoch()
	if epoch == "" || s.o.Recovery.IsPending() {
		return
	}
	changes, err := r.store.Queries.Epochs(ctx)
	if err != nil || !continues(s, epoch, changes) || r.checkNotOlderThanServed(ctx) != nil {
		return
	}
	if err := s.o.Keys.LoadKeyring(ctx, r.store); err != nil {
		return
	}
	index, _ := r.store.Applied()
	recs, err := r.verifiedRecords(ctx, s.o.Keys.PublicKeys())
	if err != nil { // publish meets it again, and reports it
		s.log.Warn("the database is not served yet", "err", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.epochs.Store(&changes)
	s.o.Served.Reset(view.SourceReplica, epoch, index, recs, false)
	r.shown = true
}

// continues reports whether an epoch is the one that is served, or a later one.
func continues(s *Supervisor, epoch string, changes []conf.EpochChange) bool {
	served := s.o.View.Load().Epoch
	if served == "" || served == epoch {
		return true
	}
	for _, c := range changes {
		if c.Previous == served {
			return true
		}
	}
	return false
}
