package rotation

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/view"
	"github.com/prometheus/client_golang/prometheus"
)

// Reissuing is the leader job that signs everything again, so that the age of a message
// tells its freshness.
type Reissuing struct {
	every  time.Duration
	editor Reissuer
	view   *documents.View
	ready  func() error
	now    func() time.Time
	log    *slog.Logger

	reissued, failures atomic.Uint64 // signatures reissued by this agent, and attempts that failed
}

// NewReissuing reissues when the oldest signature is as old as every, 0 for never, and when
// one is ahead of the wall clock now. ready is nil while this agent accepts changes.
func NewReissuing(every time.Duration, editor Reissuer, v *documents.View, ready func() error, now func() time.Time, log *slog.Logger) *Reissuing {
	return &Reissuing{every: every, editor: editor, view: v, ready: ready, now: now, log: log}
}

// lookAgain is how soon it is seen that the wall clock was set.
const lookAgain = 5 * time.Second

// Run is the leader job. The signatures themselves tell when they are due, so it makes no
// difference which member signed them: a new leader continues where the old one was.
func (s *Reissuing) Run(ctx context.Context, _ *replica.Replica) {
	every := s.every
	if every <= 0 {
		every = math.MaxInt64
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
		if s.ready() != nil || s.view.Load().Source != view.SourceReplica {
			timer.Reset(min(every, time.Second))
			continue
		}
		if wait := reissueIn(s.view.Load(), every, s.now()); wait > 0 {
			timer.Reset(min(wait, lookAgain))
			continue
		}
		// Not sooner than that again, whatever the outcome.
		timer.Reset(retry)
		rctx, cancel := context.WithTimeout(ctx, time.Minute)
		start := time.Now()
		n, err := s.editor.Reissue(rctx)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.failures.Add(1)
			level := slog.LevelWarn
			if failing { // logged once: without a quorum, or beside a member of an older build, it may last
				level = slog.LevelDebug
			}
			failing = true
			s.log.Log(ctx, level, "the signatures were not renewed; it is tried again", "every", retry, "err", err)
		default:
			failing = false
			s.reissued.Add(uint64(n))
			s.log.Debug("signatures renewed", "services", n, "took", time.Since(start))
		}
	}
}

// reissueIn is how long the oldest signature is still young enough: every at most, however
// far ahead the clock of an earlier leader was; or 0 if the leader can take back a time
// that is ahead.
func reissueIn(snap *documents.Snapshot, every time.Duration, now time.Time) time.Duration {
	oldest, newest := "", ""
	snap.Range(func(e *documents.Entry) bool {
		r := e.Record
		if r.Signature == "" || r.Epoch != snap.Epoch {
			return true
		}
		for v := range r.Staged.Signed() {
			oldest = min(cmp.Or(oldest, v.IssuedAt), v.IssuedAt)
			if v.VersionSignature != "" {
				newest = max(newest, v.IssuedAt)
			}
		}
		if oldest == "" || r.IssuedAt < oldest {
			oldest = r.IssuedAt
		}
		if r.VersionSignature != "" {
			newest = max(newest, r.IssuedAt)
		}
		return true
	})
	if at, err := conf.ParseTime(newest); err == nil && at.Sub(now) > conf.MaxLead {
		return 0
	}
	at, err := conf.ParseTime(oldest)
	if err != nil || every == math.MaxInt64 { // nothing is signed yet, or it is not renewed for its age
		return every
	}
	return min(at.Add(every).Sub(now), every)
}

var (
	reissuedDesc = prometheus.NewDesc("holdfast_reissued_total", "Signatures that this agent renewed while it led.", nil, nil)
	failuresDesc = prometheus.NewDesc("holdfast_reissue_failures_total", "Attempts to renew all signatures that failed.", nil, nil)
)

// Describe implements prometheus.Collector.
func (s *Reissuing) Describe(ch chan<- *prometheus.Desc) { ch <- reissuedDesc; ch <- failuresDesc }

// Collect implements prometheus.Collector.
func (s *Reissuing) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(reissuedDesc, prometheus.CounterValue, float64(s.reissued.Load()))
	ch <- prometheus.MustNewConstMetric(failuresDesc, prometheus.CounterValue, float64(s.failures.Load()))
}
