package replica

import "github.com/holdfast-config/holdfast/replication/alarm"

// lockWatch finds out that another process holds the database, and says so before a change
// meets the lock: a change that is in the log then has no outcome until that process ends.
type lockWatch struct {
	ticks  int // for how long
	raised bool
}

// tick is called each second. Who holds the database for a moment is no fault.
func (l *lockWatch) tick(r *Replica) {
	err := r.store.HeldByOther()
	if err == nil {
		if l.raised {
			r.sup.alarms.replica.Clear("lock")
			r.onBlocked(nil)
		}
		*l = lockWatch{}
		return
	}
	if l.ticks++; l.ticks == 2 {
		l.raised = true
		r.sup.alarms.replica.Raise(alarm.DatabaseHeld, "lock", err)
		r.onBlocked(err)
	}
}
