package audit

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	maxQueued     = 4096                   // rows between the requests and the disk
	maxBatch      = 256                    // rows of one log entry
	batchDelay    = 200 * time.Millisecond // how long a row may wait for others
	recordTimeout = 20 * time.Millisecond  // how long a request waits until its row is in the spool
	maxField      = conf.MaxReason         // bytes that are kept of one field
)

// Log batches rows of the access log, so that a flood of rejected requests does not
// become a flood of log entries. Make it with New, then call Run once.
type Log struct {
	rows         chan queued
	spoolStalled atomic.Bool // the disk did not take a row in time: no request waits for it
	lost         atomic.Uint64
	spool        *spool
	wake         chan struct{} // capacity 1: the spool has rows
	send         func(context.Context, *command.Audit) error
	log          *slog.Logger
	alarms       *alarm.Set
}

// The causes of rows that are not in the access log.
var (
	errQueueFull = errors.New("its queue is full: the disk is slower than the requests")
	errSpoolFull = errors.New("as many rows as may wait for a leader are waiting")
)

// queued is a row on its way to the spool.
type queued struct {
	row     conf.Access
	spooled chan<- struct{} // closed when it is there
}

// New opens the spool at path, with the rows that an earlier process left. send
// delivers a batch to the leader.
func New(path string, send func(context.Context, *command.Audit) error, log *slog.Logger) *Log {
	return &Log{
		rows: make(chan queued, maxQueued), spool: openSpool(path, log), wake: make(chan struct{}, 1), send: send, log: log, alarms: alarm.NewSet(log),
	}
}

// Record is called by request goroutines. It returns when the row is in the spool,
// which takes microseconds. A disk that hangs delays one request by recordTimeout,
// and those after it not at all.
func (l *Log) Record(row conf.Access) {
	if row.Timestamp == "" {
		row.Timestamp = conf.FormatTime(time.Now())
	}
	for _, p := range []*string{&row.UserID, &row.Action, &row.Service, &row.Key, &row.Reason, &row.Timestamp} {
		if len(*p) > maxField {
			*p = (*p)[:maxField]
		}
		*p = strings.ToValidUTF8(*p, "\uFFFD") // the Raft log accepts nothing else
	}
	spooled := make(chan struct{})
	select {
	case l.rows <- queued{row, spooled}:
	default:
		l.alarms.Raise(alarm.AccessLost, "", errQueueFull)
		l.dropToAgentLog(row)
		return
	}
	if l.spoolStalled.Load() {
		return
	}
	t := time.NewTimer(recordTimeout)
	defer t.Stop()
	select {
	case <-spooled:
	case <-t.C:
		l.spoolStalled.Store(true)
	}
}

// dropToAgentLog writes rows that cannot be delivered to the agent's log.
func (l *Log) dropToAgentLog(rows ...conf.Access) {
	l.lost.Add(uint64(len(rows)))
	for _, row := range rows {
		l.log.Warn("access", "user", row.UserID, "action", row.Action, "service", row.Service, "success", row.Success, "reason", row.Reason)
	}
}

// Run spools and delivers rows until ctx ends, and then what is still queued. What
// the cluster does not accept by then is delivered by the next process.
func (l *Log) Run(ctx context.Context) {
	var spooling sync.WaitGroup
	spooling.Go(func() {
		for {
			select {
			case q := <-l.rows:
				l.spoolRows(q)
			case <-ctx.Done():
				for len(l.rows) > 0 {
					l.spoolRows(<-l.rows)
				}
				return
			}
		}
	})
	l.deliver(ctx)
	spooling.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	for last.Err() == nil && l.sendBatch(last) {
	}
	l.spool.close()
}

// spoolRows spools a row and those that are queued behind it.
func (l *Log) spoolRows(first queued) {
	all := []queued{first}
	for len(all) < maxBatch && len(l.rows) > 0 {
		all = append(all, <-l.rows)
	}
	rows := make([]conf.Access, len(all))
	for i, q := range all {
		rows[i] = q.row
	}
	err := l.spool.add(rows)
	l.spoolStalled.Store(false)
	for _, q := range all {
		close(q.spooled)
	}
	if err != nil {
		l.alarms.Raise(alarm.AccessLost, "", errSpoolFull)
		l.dropToAgentLog(rows...)
		return
	}
	if len(l.rows) == 0 && l.spool.pending() < l.spool.limit/2 {
		l.alarms.Clear("")
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// deliver sends what is in the spool, in order, until ctx ends.
func (l *Log) deliver(ctx context.Context) {
	for wait := batchDelay; ctx.Err() == nil; {
		switch {
		case l.spool.pending() == 0:
			select {
			case <-l.wake:
			case <-ctx.Done():
			}
			continue
		case l.awaitBatch(ctx) != nil:
			return
		case l.sendBatch(ctx):
			wait = batchDelay
			continue
		case l.spool.pending() == 0:
			continue
		}
		l.spool.sync() // the cluster does not accept it
		again := time.After(wait)
		wait = min(2*wait, 5*time.Second)
		for pause := true; pause; {
			select {
			case <-again:
				pause = false
			case <-time.After(batchDelay):
				l.spool.sync()
			case <-ctx.Done():
				pause = false
			}
		}
	}
}

// awaitBatch waits until a batch is full or batchDelay is over, so that several rows
// become one log entry.
func (l *Log) awaitBatch(ctx context.Context) error {
	t := time.NewTimer(batchDelay)
	defer t.Stop()
	for !l.spool.full() {
		select {
		case <-l.wake:
		case <-t.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// sendBatch sends one batch, and reports whether it is done with. One whose outcome
// is unknown is sent again: by its number it counts once.
func (l *Log) sendBatch(ctx context.Context) bool {
	b, ok := l.spool.first()
	if !ok {
		return false
	}
	err := l.send(ctx, b)
	switch conf.CodeOf(err) {
	case conf.CodeInvalid, conf.CodeMalformed, conf.CodeTooLarge:
		alarm.AccessRejected.Report(l.log, "err", err, "rows", len(b.Rows))
		l.dropToAgentLog(b.Rows...)
		err = nil
	}
	if err != nil {
		return false
	}
	l.spool.delivered(b)
	return true
}

var (
	lostDesc    = prometheus.NewDesc("holdfast_access_log_lost_total", "Rows of the access log that went to the process log only.", nil, nil)
	waitingDesc = prometheus.NewDesc("holdfast_access_log_waiting_bytes", "Bytes of the access log that wait in the data directory for a leader.", nil, nil)
)

// Describe implements prometheus.Collector.
func (l *Log) Describe(ch chan<- *prometheus.Desc) {
	ch <- lostDesc
	ch <- waitingDesc
}

// Collect implements prometheus.Collector. Calls may overlap.
func (l *Log) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(lostDesc, prometheus.CounterValue, float64(l.lost.Load()))
	ch <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(l.spool.pending()))
}
