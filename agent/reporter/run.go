package reporter

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	lookEvery  = 200 * time.Millisecond // which is how long changes are gathered too
	aliveEvery = 30 * time.Second
	jitter     = 2 * time.Second // of the reports to a new leader
	sendLimit  = 2 * time.Second // for a leader to answer
	firstRetry = 500 * time.Millisecond
	lastRetry  = 10 * time.Second
	maxReads   = 256 // in one report
)

// Run reports until ctx ends.
func (r *Reporter) Run(ctx context.Context) {
	var parts sync.WaitGroup
	parts.Go(func() { r.runHealth(ctx) })
	defer parts.Wait()
	defer r.flush()
	d := delivery{r: r}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		d.step(ctx, time.Now())
		r.flush()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// delivery is what the goroutine of the reports remembers.
type delivery struct {
	r     *Reporter
	hint  uint64    // Options.Term when it was looked at last
	term  uint64    // of the leader that was told
	whole time.Time // when all is told again
	retry time.Time // not before, after a failure
	pause time.Duration
}

// step looks at what is served and read, and tells the leader what has changed.
func (d *delivery) step(ctx context.Context, now time.Time) {
	if hint := d.r.o.Term(); hint != d.hint {
		d.enter(hint, now)
		d.hint = hint
	}
	if d.r.o.Send == nil || now.Before(d.retry) {
		d.r.lookAtAll()
		return
	}
	all := !now.Before(d.whole)
	reports := d.r.collect(all, d.term)
	if all {
		d.whole = now.Add(d.r.alive)
	}
	if len(reports) == 0 {
		return
	}
	limited, cancel := context.WithTimeout(ctx, sendLimit)
	term, err := d.r.o.Send(limited, reports)
	cancel()
	switch {
	case ctx.Err() != nil:
	case err != nil:
		d.pause = min(max(2*d.pause, firstRetry), lastRetry)
		d.retry, d.whole = now.Add(d.pause), now // all that is known then
		d.r.o.Logger.Debug("the leader was not told of this instance", "err", err, "retry_in", d.pause)
	case term != d.term:
		d.enter(term, now)
	default:
		d.pause = 0
		d.r.told(reports)
	}
}

// enter begins another term: its leader knows nothing.
func (d *delivery) enter(term uint64, now time.Time) {
	wait := rand.N(jitter)
	if d.term == 0 {
		wait = 0 // it has just started
	}
	d.term, d.whole, d.pause, d.retry = term, now.Add(wait), 0, time.Time{}
	d.r.mu.Lock()
	for _, t := range d.r.services {
		clear(t.told)
	}
	d.r.mu.Unlock()
}

// lookAtAll notes what is served and read, for when there is a leader.
func (r *Reporter) lookAtAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.services {
		r.look(t)
	}
}

// collect returns the reports of what has changed, or of all services.
func (r *Reporter) collect(all bool, term uint64) (out []conf.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range r.names() {
		t := r.services[name]
		r.look(t)
		if t.epoch == "" || !t.dirty && !all {
			continue
		}
		if all && t.doc != nil {
			t.noteReads(r.o.Now())
		}
		report := r.report(t)
		report.Term, report.Reads = term, t.newReads(maxReads)
		t.dirty = false
		out = append(out, report)
	}
	return out
}

// told remembers what the leader knows.
func (r *Reporter) told(reports []conf.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range reports {
		t := r.services[reports[i].Service]
		for _, k := range reports[i].Reads {
			t.told[k.Key], _ = conf.ParseTime(k.At)
		}
	}
}
