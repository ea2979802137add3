package agent

import (
	"context"
	"log/slog"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/view"
)

// reissueOften signs everything anew whenever the oldest signature is as old as
// the setting says. The signatures themselves tell when that is, so it makes no
// difference who signed them: a new leader goes on where the old one was.
func (ss *session) reissueOften(ctx context.Context) {
	every := ss.s.o.MQTTReissue
	if every <= 0 {
		return
	}
	retry := min(every, 10*time.Second)
	failing := false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if ss.s.writable() != nil || ss.s.view.Load().Source != view.SourceReplica {
			timer.Reset(min(every, time.Second))
			continue
		}
		if wait := ss.s.reissueIn(every, time.Now()); wait > 0 {
			timer.Reset(wait)
			continue
		}
		// Not sooner than that again, whatever came of it.
		timer.Reset(retry)
		rctx, cancel := context.WithTimeout(ctx, time.Minute)
		start := time.Now()
		n, err := ss.s.editor.Reissue(rctx)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			ss.s.reissueFailures.Add(1)
			level := slog.LevelWarn
			if failing { // said once: without a quorum, or beside a member of an older build, it goes on for a while
				level = slog.LevelDebug
			}
			failing = true
			ss.s.log.Log(ctx, level, "the signatures were not renewed; it is tried again", "every", retry, "err", err)
		default:
			failing = false
			ss.s.reissued.Add(uint64(n))
			ss.s.log.Debug("signatures renewed", "services", n, "took", time.Since(start))
		}
	}
}

// reissueIn tells for how long the oldest signature is still young enough: not
// longer than every, however far ahead the clock of an earlier leader was.
func (s *supervisor) reissueIn(every time.Duration, now time.Time) time.Duration {
	snap := s.view.Load()
	oldest := ""
	snap.Range(func(e *entry) bool {
		if r := e.Record; r.Signature != "" && r.Epoch == snap.Epoch && (oldest == "" || r.IssuedAt < oldest) {
			oldest = r.IssuedAt
		}
		return true
	})
	at, err := conf.ParseTime(oldest)
	if err != nil { // nothing is signed yet
		return every
	}
	return min(at.Add(every).Sub(now), every)
}
