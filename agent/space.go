package agent

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// guardSpace refuses changes before the disk is full: SQLite and Raft need room
// to finish what they have begun, and a log that cannot be written stops this
// member. A leader without space hands over to a voter that has some.
func (ss *session) guardSpace(ctx context.Context) {
	if ss.s.o.MinFreeMB <= 0 {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for i := 0; ; i++ {
		if ss.s.checkSpace() && i%5 == 0 && ss.leads() {
			ss.yieldFull(ctx)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// checkSpace says whether there is too little.
func (s *supervisor) checkSpace() bool {
	var st unix.Statfs_t
	if err := unix.Statfs(s.o.DataDir, &st); err != nil {
		return s.full.Load() != nil
	}
	free := uint64(st.Bavail) * uint64(st.Bsize) >> 20 //nolint:gosec,unconvert // the types differ between systems
	was := s.full.Load() != nil
	if free >= uint64(s.o.MinFreeMB) { //nolint:gosec // not negative
		if was {
			s.full.Store(nil)
			s.log.Info("there is space again", "free_mb", free)
		}
		return false
	}
	if !was {
		err := error(conf.Errorf(conf.CodeStorageFull, "the disk of this agent is almost full: %d MiB are free, under %d", free, s.o.MinFreeMB).
			WithHint("make room on the disk of the data directory, or set CONFIG_MIN_FREE_MB; reads go on"))
		s.full.Store(&err)
		s.log.Error("the disk is almost full: changes are refused here", "free_mb", free, "min_mb", s.o.MinFreeMB)
	}
	return true
}

// yieldFull hands the leadership to a voter that has space.
func (ss *session) yieldFull(ctx context.Context) {
	for _, m := range ss.s.cluster.servers() {
		if !m.Voter || m.ID == ss.s.cluster.self() {
			continue
		}
		cctx, cancel := context.WithTimeout(ctx, statusTimeout)
		var r nodeReport
		err := ss.s.cluster.call(cctx, m.ID, "/status", nil, &r)
		cancel()
		if err != nil || r.Full {
			continue
		}
		if err := ss.member.Transfer(ctx, m.ID); err != nil {
			ss.s.log.Warn("the leadership was not handed over", "to", m.ID, "err", err)
			continue
		}
		return
	}
}
