package agent

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	auditQueue = 4096                   // rows kept while there is no replica
	auditBatch = 256                    // rows of one log entry
	auditEvery = 200 * time.Millisecond // how long a row may wait for others
)

// auditor gathers rows of the access log and puts them through the log in
// batches, so that a flood of refused requests does not become a flood of log
// entries. Record never blocks: when the queue is full the row goes to the
// process's log, and is counted.
type auditor struct {
	rows    chan conf.Access
	lost    atomic.Uint64
	propose func(context.Context, command.Command) error
	log     *slog.Logger
}

func newAuditor(propose func(context.Context, command.Command) error, log *slog.Logger) *auditor {
	return &auditor{rows: make(chan conf.Access, auditQueue), propose: propose, log: log}
}

// Record is called by request goroutines.
func (a *auditor) Record(row conf.Access) {
	if row.Timestamp == "" {
		row.Timestamp = conf.FormatTime(time.Now())
	}
	select {
	case a.rows <- row:
	default:
		if a.lost.Add(1) == 1 {
			a.log.Error("the access log's queue is full: rows go to this log only")
		}
		a.log.Warn("access", "user", row.UserID, "action", row.Action, "service", row.Service, "success", row.Success, "reason", row.Reason)
	}
}

// run writes rows until ctx ends, and then what is still queued.
func (a *auditor) run(ctx context.Context) {
	for {
		var batch []conf.Access
		select {
		case row := <-a.rows:
			batch = a.gather(ctx, row)
		case <-ctx.Done():
			a.drain()
			return
		}
		a.write(ctx, batch)
	}
}

func (a *auditor) gather(ctx context.Context, first conf.Access) []conf.Access {
	batch := []conf.Access{first}
	t := time.NewTimer(auditEvery)
	defer t.Stop()
	for len(batch) < auditBatch {
		select {
		case row := <-a.rows:
			batch = append(batch, row)
		case <-t.C:
			return batch
		case <-ctx.Done():
			return batch
		}
	}
	return batch
}

// write tries until the rows are in the log or the agent stops. Rows whose
// outcome is unknown are written again: twice in the log is better than never.
func (a *auditor) write(ctx context.Context, batch []conf.Access) {
	for wait := auditEvery; ; wait = min(2*wait, 5*time.Second) {
		err := a.propose(ctx, &command.Audit{Rows: batch})
		if err == nil {
			return
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			if err := a.propose(last, &command.Audit{Rows: batch}); err != nil {
				a.log.Error("access log rows were not stored", "rows", len(batch), "err", err)
			}
			return
		}
	}
}

func (a *auditor) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for len(a.rows) > 0 && ctx.Err() == nil {
		var batch []conf.Access
		for len(a.rows) > 0 && len(batch) < auditBatch {
			batch = append(batch, <-a.rows)
		}
		if err := a.propose(ctx, &command.Audit{Rows: batch}); err != nil {
			a.log.Error("access log rows were not stored", "rows", len(batch), "err", err)
		}
	}
}
