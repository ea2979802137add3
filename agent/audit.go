package agent

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	auditQueue = 4096                   // rows between the requests and the disk
	auditBatch = 256                    // rows of one log entry
	auditEvery = 200 * time.Millisecond // how long a row may wait for others
	auditKeep  = 20 * time.Millisecond  // how long a request waits until its row is kept
	auditField = conf.MaxReason         // bytes that are kept of one field
	auditAhead = 5 * time.Minute        // how far a row of another member may be ahead of the leader's clock
)

// auditor gathers rows of the access log and puts them through the log in
// batches, so that a flood of refused requests does not become a flood of log
// entries. Each row is in the spool before its request is answered, so that it
// survives when the process is killed then; what the cluster does not take waits
// there, and is delivered later, once. When the queue is full the row goes to the
// process's log, and is counted.
type auditor struct {
	rows    chan queued
	stalled atomic.Bool // the disk did not take a row in time: nobody waits for it
	lost    atomic.Uint64
	spool   *spool
	more    chan struct{} // capacity 1: the spool has rows
	send    func(context.Context, *command.Audit) error
	log     *slog.Logger
}

// queued is a row on its way to the spool.
type queued struct {
	row  conf.Access
	kept chan<- struct{} // closed when it is there
}

func newAuditor(path string, send func(context.Context, *command.Audit) error, log *slog.Logger) *auditor {
	return &auditor{
		rows: make(chan queued, auditQueue), spool: openSpool(path, log), more: make(chan struct{}, 1), send: send, log: log,
	}
}

// Record is called by request goroutines. It returns when the row is in the spool,
// which takes microseconds; a disk that hangs holds up a request for a moment, and
// those after it not at all.
func (a *auditor) Record(row conf.Access) {
	if row.Timestamp == "" {
		row.Timestamp = conf.FormatTime(time.Now())
	}
	for _, p := range []*string{&row.UserID, &row.Action, &row.Service, &row.Key, &row.Reason, &row.Timestamp} {
		if len(*p) > auditField {
			*p = (*p)[:auditField]
		}
		*p = strings.ToValidUTF8(*p, "\uFFFD") // the log takes nothing else
	}
	kept := make(chan struct{})
	select {
	case a.rows <- queued{row, kept}:
	default:
		a.lose("the access log's queue is full: rows go to this log only", row)
		return
	}
	if a.stalled.Load() {
		return
	}
	t := time.NewTimer(auditKeep)
	defer t.Stop()
	select {
	case <-kept:
	case <-t.C:
		a.stalled.Store(true)
	}
}

// lose keeps rows in the process's log at least.
func (a *auditor) lose(why string, rows ...conf.Access) {
	if a.lost.Add(uint64(len(rows))) == uint64(len(rows)) {
		a.log.Error(why)
	}
	for _, row := range rows {
		a.log.Warn("access", "user", row.UserID, "action", row.Action, "service", row.Service, "success", row.Success, "reason", row.Reason)
	}
}

// run writes rows until ctx ends, and then what is still queued. What the cluster
// does not take by then is delivered by the next process.
func (a *auditor) run(ctx context.Context) {
	var keeping sync.WaitGroup
	keeping.Go(func() {
		for {
			select {
			case q := <-a.rows:
				a.keep(q)
			case <-ctx.Done():
				for len(a.rows) > 0 {
					a.keep(<-a.rows)
				}
				return
			}
		}
	})
	a.deliver(ctx)
	keeping.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	for last.Err() == nil && a.next(last) {
	}
	a.spool.close()
}

// keep puts a row and those that are queued behind it into the spool.
func (a *auditor) keep(first queued) {
	all := []queued{first}
	for len(all) < auditBatch && len(a.rows) > 0 {
		all = append(all, <-a.rows)
	}
	rows := make([]conf.Access, len(all))
	for i, q := range all {
		rows[i] = q.row
	}
	err := a.spool.add(rows)
	a.stalled.Store(false)
	for _, q := range all {
		close(q.kept)
	}
	if err != nil {
		a.lose("the queue of the access log cannot take more: "+err.Error(), rows...)
		return
	}
	signal(a.more)
}

// deliver sends what waits, in order, until ctx ends.
func (a *auditor) deliver(ctx context.Context) {
	for wait := auditEvery; ctx.Err() == nil; {
		switch {
		case a.spool.pending() == 0:
			select {
			case <-a.more:
			case <-ctx.Done():
			}
			continue
		case a.gather(ctx) != nil:
			return
		case a.next(ctx):
			wait = auditEvery
			continue
		case a.spool.pending() == 0:
			continue
		}
		a.spool.sync() // the cluster does not take it
		again := time.After(wait)
		wait = min(2*wait, 5*time.Second)
		for pause := true; pause; {
			select {
			case <-again:
				pause = false
			case <-time.After(auditEvery):
				a.spool.sync()
			case <-ctx.Done():
				pause = false
			}
		}
	}
}

// gather waits a moment for more rows, so that they become one entry of the log.
func (a *auditor) gather(ctx context.Context) error {
	t := time.NewTimer(auditEvery)
	defer t.Stop()
	for !a.spool.full() {
		select {
		case <-a.more:
		case <-t.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// next sends one batch, and says whether it is out of the way. One whose outcome
// is unknown is sent again: its number makes it count once.
func (a *auditor) next(ctx context.Context) bool {
	b, ok := a.spool.first()
	if !ok {
		return false
	}
	err := a.send(ctx, b)
	switch conf.CodeOf(err) {
	case conf.CodeInvalid, conf.CodeMalformed, conf.CodeTooLarge:
		a.log.Error("a batch of the access log is refused for good", "err", err)
		a.lose("rows of the access log go to this log only", b.Rows...)
		err = nil
	}
	if err != nil {
		return false
	}
	a.spool.delivered(b)
	return true
}

// queueOf names the queue of a member in the database. A server that came back under
// a later id of its line goes on with what it had queued under the earlier one.
// Whoever is no server keeps its id: it must not be able to speak for another queue.
func queueOf(node string, server bool, source string) string {
	if server {
		node, _ = lineage(node)
		node = node[:min(len(node), maxNodeID-len("-r999999999"))] // what a later id of a long one begins with, too
	}
	return node + "/" + source
}

// notAhead takes the clock of a member that is wrong out of its rows: one that is
// dated years ahead would be the newest one, and kept, for years.
func notAhead(rows []conf.Access, now time.Time) {
	for i := range rows {
		row := &rows[i]
		if t, err := conf.ParseTime(row.Timestamp); err != nil || !t.After(now.Add(auditAhead)) {
			continue
		}
		note := " (its agent's clock said " + row.Timestamp + ")"
		row.Reason = strings.ToValidUTF8(row.Reason[:min(len(row.Reason), auditField-len(note))], "") + note
		row.Timestamp = conf.FormatTime(now)
	}
}

// auditActions are those of the seed.
var auditActions = map[string]bool{"read": true, "write": true, "reveal_secret": true, "unauthorized": true}

// checkReported refuses rows of another member that no agent writes.
func checkReported(b *command.Audit) error {
	if b.Source == "" || b.Seq == 0 || len(b.Source) > conf.MaxName || len(b.Rows) > auditBatch {
		return conf.Errorf(conf.CodeMalformed, "a batch of the access log needs a queue and a number, and has at most %d rows", auditBatch)
	}
	for _, row := range b.Rows {
		if !auditActions[row.Action] {
			return conf.Errorf(conf.CodeMalformed, "a row of the access log has the action %q", row.Action)
		}
		if t, err := conf.ParseTime(row.Timestamp); err != nil || conf.FormatTime(t) != row.Timestamp {
			return conf.Errorf(conf.CodeMalformed, "a row of the access log has the time %q", row.Timestamp)
		}
	}
	return nil
}

// pruneEvery is how often the leader looks for rows that are too old; pruneRows
// is how many of each log one entry takes away, so that no change waits long.
const (
	pruneEvery = 3 * time.Second
	pruneRows  = 500
	prunePause = 100 * time.Millisecond
)

// pruneOften is a duty of the leader: its clock says what is too old.
func (ss *session) pruneOften(ctx context.Context) {
	o := ss.s.o
	if o.AuditRetention <= 0 && o.HistoryRetention <= 0 {
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
		wait = pruneEvery
		now := time.Now()
		c := &command.Prune{
			At: conf.FormatTime(now), Access: before(now, o.AuditRetention), History: before(now, o.HistoryRetention), Limit: pruneRows,
		}
		some, err := ss.store.Prunable(ctx, c.Access, c.History)
		if err == nil && some {
			wait = prunePause
			err = settled(ss.member.Propose(ctx, c))
		}
		if err != nil && ctx.Err() == nil {
			wait = pruneEvery
			ss.s.log.Warn("old rows of the access log and the history were not taken away: it is tried again", "err", err)
		}
	}
}
