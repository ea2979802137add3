package audit

import (
	"context"
	"log/slog"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// The leader checks for old rows every pruneInterval. One log entry deletes at most
// pruneRows of each log, so that no write waits long for it.
const (
	pruneInterval = 3 * time.Second
	pruneRows     = 500
	prunePause    = 100 * time.Millisecond
)

// Pruner is the replica whose old rows are deleted.
type Pruner interface {
	// Prunable reports whether the access log or the history has rows from before
	// these times; "" skips one.
	Prunable(ctx context.Context, access, history string) (bool, error)
	Propose(ctx context.Context, c command.Command) error
}

// Prune deletes rows that are older than their retention, by this machine's clock,
// until ctx ends; 0 keeps them. It is a job of the leader.
func Prune(ctx context.Context, p Pruner, accessRetention, historyRetention time.Duration, log *slog.Logger) {
	if accessRetention <= 0 && historyRetention <= 0 {
		return
	}
	before := func(now time.Time, keep time.Duration) string {
		if keep <= 0 {
			return ""
		}
		return conf.FormatTime(now.Add(-keep))
	}
	wait := time.Duration(0)
	for {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		wait = pruneInterval
		now := time.Now()
		c := &command.Prune{
			At: conf.FormatTime(now), Access: before(now, accessRetention), History: before(now, historyRetention), Limit: pruneRows,
		}
		some, err := p.Prunable(ctx, c.Access, c.History)
		if err == nil && some {
			wait = prunePause
			err = p.Propose(ctx, c)
		}
		if err != nil && ctx.Err() == nil {
			wait = pruneInterval
			log.Warn("pruning the access log and the history failed, retrying", "err", err)
		}
	}
}
