package edit

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Reissue signs every service and tombstone anew with the signer of now, in one
// command, and returns how many. Versions and documents stay; issued_at grows. It
// holds up no edit: a service that is edited meanwhile keeps what the edit signs.
func (e *Editor) Reissue(ctx context.Context) (int, error) {
	if err := e.o.Ready(); err != nil {
		return 0, err
	}
	signer, epoch := e.o.Signer(), e.o.Records.Epoch()
	at := e.floors.begin(e.o.Now())
	r := &command.Reissue{Epoch: epoch, At: conf.FormatTime(at), KeyID: signer.KeyID()}
	sign := func(service string) {
		cur := e.o.Records.Record(service)
		if cur == nil || cur.Signature == "" || cur.Epoch != epoch {
			return
		}
		issued := e.floors.over(cur, at)
		m := signer.Sign(service, cur.Config, epoch, issued)
		it := command.ReissueItem{Service: service, Version: cur.Version, Signature: m.Signature}
		if m.IssuedAt != r.At {
			it.IssuedAt = m.IssuedAt
		}
		r.Items = append(r.Items, it)
	}
	// An edit that begins from here on signs later than at. One that is under way
	// may have signed before, so it has to end before its service is looked at.
	var busy []string
	for _, rec := range e.o.Records.Services() {
		if e.locks.free(rec.Service) {
			sign(rec.Service)
		} else {
			busy = append(busy, rec.Service)
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
	}
	for _, service := range busy {
		unlock, err := e.locks.lock(ctx, service)
		if err != nil {
			return 0, err
		}
		sign(service)
		unlock()
	}
	if len(r.Items) == 0 {
		return 0, nil
	}
	res, err := e.o.Proposer.Propose(ctx, r)
	if err == nil && res.Err != nil {
		err = res.Err
	}
	if err != nil {
		return 0, err
	}
	return len(r.Items), nil
}

// floors are the times that were given to signatures which may not be in the
// records yet. Whatever is signed after them must be later: receivers order by
// issued_at, and would drop an edit that is older than the signature before it.
type floors struct {
	mu  sync.Mutex
	all time.Time            // of the last Reissue
	of  map[string]time.Time // of services that it had to date later
}

// begin takes the time of a Reissue.
func (f *floors) begin(now time.Time) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = after(now, f.all)
	for service, t := range f.of {
		if t.Before(f.all) {
			delete(f.of, service)
		}
	}
	return f.all
}

// over is the time for a new signature of cur's version by the Reissue of at. It is
// later only where a leader with a faster clock signed.
func (f *floors) over(cur *conf.Record, at time.Time) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	was, err := conf.ParseTime(cur.IssuedAt)
	if held := f.of[cur.Service]; held.After(was) {
		was = held
	}
	if err != nil || was.Before(at) {
		return at
	}
	if f.of == nil {
		f.of = map[string]time.Time{}
	}
	at = was.Add(time.Microsecond)
	f.of[cur.Service] = at
	return at
}

// next is the time for the version after cur: now, or later than all before it.
func (f *floors) next(cur *conf.Record, now time.Time) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	now = after(now, f.all)
	now = after(now, f.of[cur.Service])
	if was, err := conf.ParseTime(cur.IssuedAt); err == nil {
		now = after(now, was)
	}
	return now
}

// after is now in the log's precision, or the first moment after t.
func after(now, t time.Time) time.Time {
	now = now.Truncate(time.Microsecond)
	if !now.After(t) {
		now = t.Add(time.Microsecond)
	}
	return now
}
