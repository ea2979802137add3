package edit

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Reissue renews the signatures of all services and tombstones with the current
// signer, in one command, and returns their number. Versions and documents stay;
// issued_at grows. It blocks no edit: the signature of a concurrent edit wins.
func (e *Editor) Reissue(ctx context.Context) (int, error) {
	if err := e.o.Ready(); err != nil {
		return 0, err
	}
	signer, epoch := e.o.Signer(), e.o.Records.Epoch()
	at := e.floor.begin(e.o.Now())
	r := &command.Reissue{Epoch: epoch, At: conf.FormatTime(at), KeyID: signer.KeyID()}
	sign := func(service string) {
		cur := e.o.Records.Record(service)
		if cur == nil || cur.Signature == "" || cur.Epoch != epoch {
			return
		}
		issued := e.floor.renewed(cur, at)
		m := signer.Sign(service, cur.Config, epoch, issued)
		it := command.ReissueItem{Service: service, Version: cur.Version, Signature: m.Signature}
		if m.IssuedAt != r.At {
			it.IssuedAt = m.IssuedAt
		}
		r.Items = append(r.Items, it)
	}
	// An edit that starts after floor.begin signs later than at. An edit in progress
	// may have signed before, so it must end before its record is read.
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
	if err := e.propose(ctx, r); err != nil {
		return 0, err
	}
	return len(r.Items), nil
}

// issuedAtFloor keeps the times of signatures that may not be in the records yet.
// Every later signature gets a later time: receivers order by issued_at, and drop
// an update that is older than the one before.
type issuedAtFloor struct {
	mu       sync.Mutex
	all      time.Time            // of the last Reissue
	services map[string]time.Time // later times, of services whose last signature was ahead
}

// begin returns the time of a Reissue.
func (f *issuedAtFloor) begin(now time.Time) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = after(now, f.all)
	for service, t := range f.services {
		if t.Before(f.all) {
			delete(f.services, service)
		}
	}
	return f.all
}

// renewed returns the time for a new signature of cur's version by the Reissue of
// at. It is later than at only where a leader with a faster clock signed.
func (f *issuedAtFloor) renewed(cur *conf.Record, at time.Time) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	was, err := conf.ParseTime(cur.IssuedAt)
	if held := f.services[cur.Service]; held.After(was) {
		was = held
	}
	if err != nil || was.Before(at) {
		return at
	}
	if f.services == nil {
		f.services = map[string]time.Time{}
	}
	at = was.Add(time.Microsecond)
	f.services[cur.Service] = at
	return at
}

// next returns the time for the version after cur: now, or just after the last one.
func (f *issuedAtFloor) next(cur *conf.Record, now time.Time) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	now = after(after(now, f.all), f.services[cur.Service])
	if was, err := conf.ParseTime(cur.IssuedAt); err == nil {
		now = after(now, was)
	}
	return now
}

// after returns now in microseconds, but at least one microsecond after t.
func after(now, t time.Time) time.Time {
	now = now.Truncate(time.Microsecond)
	if !now.After(t) {
		now = t.Add(time.Microsecond)
	}
	return now
}
