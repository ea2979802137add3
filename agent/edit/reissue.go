package edit

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// signsVersions reports whether updates get the signature of their version too. Once the
// store has one, all voters can apply it.
func signsVersions(e *Editor) bool {
	if e.versions.Load() {
		return true
	}
	signed := e.o.CanSignVersions != nil && e.o.CanSignVersions()
	for _, rec := range e.o.Records.Services() {
		if signed = signed || rec.VersionSignature != ""; signed {
			break
		}
	}
	if signed {
		e.versions.Store(true)
	}
	return signed
}

// sign makes the signed update of a service.
func (e *Editor) sign(cur *conf.Record, values, config []byte, deleted bool, now time.Time) command.Update {
	s := e.o.Signer()
	// Receivers that see no signed version order updates by issued_at. It grows even when
	// this leader's clock is a little behind that of the previous leader.
	signed := signsVersions(e)
	now = e.floor.next(cur, now, signed)
	m := s.Sign(cur.Service, config, e.o.Records.Epoch(), now)
	version := ""
	if signed {
		version = s.SignVersion(cur.Service, m.Epoch, cur.Floor()+1, m.Checksum)
	}
	return command.Update{
		VersionSignature: version,
		Service:          cur.Service, Prev: cur.Version, Version: cur.Floor() + 1, Values: values, Config: config,
		Checksum: m.Checksum, IssuedAt: m.IssuedAt, Signature: m.Signature, KeyID: s.KeyID(), Deleted: deleted,
	}
}

// reissuedAtOnce is how many services one command has: who applies it has all of their
// records twice in memory.
const reissuedAtOnce = 2000

// Reissue renews the signatures of all services and tombstones, and of what their rollouts
// have signed, with the current signer, in few commands, and returns their number. Versions and documents stay;
// issued_at grows, unless it is ahead of the clock by more than conf.MaxLead. It blocks no edit:
// the signature of a concurrent edit wins.
func (e *Editor) Reissue(ctx context.Context) (int, error) {
	n, err := e.reissue(ctx, true)
	if conf.CodeOf(err) == conf.CodeUnsupported { // by a voter of an older build
		n, err = e.reissue(ctx, false)
	}
	return n, err
}

// reissue is Reissue, with the signatures of versions that are missing or not.
func (e *Editor) reissue(ctx context.Context, versions bool) (int, error) {
	if err := e.o.Ready(); err != nil {
		return 0, err
	}
	signer, epoch := e.o.Signer(), e.o.Records.Epoch()
	at := e.floor.begin(e.o.Now(), versions)
	n, r := 0, &command.Reissue{Epoch: epoch, At: conf.FormatTime(at), KeyID: signer.KeyID()}
	flush := func(over int) error {
		if len(r.Items) <= over {
			return nil
		}
		err := propose(ctx, e, r)
		if err == nil {
			n += len(r.Items)
		}
		r = &command.Reissue{Epoch: epoch, At: r.At, KeyID: r.KeyID}
		return err
	}
	sign := func(service string) {
		cur := e.o.Records.Record(service)
		if cur == nil || cur.Signature == "" || cur.Epoch != epoch {
			return
		}
		r.Items = append(r.Items, signAgain(e, signer, r, cur, at, versions))
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
		if err := cmp.Or(ctx.Err(), flush(reissuedAtOnce-1)); err != nil {
			return n, err
		}
	}
	for _, service := range busy {
		unlock, err := e.locks.lock(ctx, service)
		if err != nil {
			return n, err
		}
		sign(service)
		unlock()
	}
	err := flush(0)
	return n, err
}

// signAgain returns new signatures of all versions of cur. The higher one is the later one:
// receivers that see no signed version go on to it.
func signAgain(e *Editor, signer *seal.Signer, r *command.Reissue, cur *conf.Record, at time.Time, versions bool) command.ReissueItem {
	service, epoch := cur.Service, cur.Epoch
	all := []*conf.SignedVersion{{
		Version: cur.Version, Config: cur.Config, IssuedAt: cur.IssuedAt, KeyID: cur.KeyID, VersionSignature: cur.VersionSignature,
	}}
	stable := all[0]
	all = slices.AppendSeq(all, cur.Staged.Signed())
	slices.SortFunc(all, func(a, b *conf.SignedVersion) int { return cmp.Compare(a.Version, b.Version) })
	issued, back := e.floor.renewed(cur, at, versions, len(all))
	it := command.ReissueItem{Service: service, Version: cur.Version}
	for _, v := range all {
		m := signer.Sign(service, v.Config, epoch, issued)
		issued = issued.Add(time.Microsecond)
		s := command.StagedItem{Version: v.Version, IssuedAt: m.IssuedAt, Signature: m.Signature}
		if back && v.IssuedAt >= m.IssuedAt {
			s.Replaces = v.IssuedAt
		}
		if versions && (v.VersionSignature == "" || v.KeyID != r.KeyID) {
			s.VersionSignature = signer.SignVersion(service, epoch, v.Version, m.Checksum)
		}
		if v != stable {
			it.Staged = append(it.Staged, s)
			continue
		}
		it.Signature, it.VersionSignature, it.Replaces = s.Signature, s.VersionSignature, s.Replaces
		if s.IssuedAt != r.At {
			it.IssuedAt = s.IssuedAt
		}
	}
	return it
}

// latest is when the last signature of a version of cur was made.
func latest(cur *conf.Record) string {
	at := cur.IssuedAt
	for v := range cur.Staged.Signed() {
		at = max(at, v.IssuedAt)
	}
	return at
}

// issuedAtFloor keeps the times of signatures that may not be in the records yet.
// Every later signature gets a later time, because receivers that see no signed version
// order by it. Only a time that is ahead of the clock by more than conf.MaxLead ends, where
// versions are signed.
type issuedAtFloor struct {
	mu       sync.Mutex
	all      time.Time            // of the last Reissue
	services map[string]time.Time // later times, of services whose last signature was ahead
}

// begin returns the time of a Reissue.
func (f *issuedAtFloor) begin(now time.Time, back bool) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = after(now, f.all, back)
	for service, t := range f.services {
		if t.Before(f.all) || ahead(t, now, back) {
			delete(f.services, service)
		}
	}
	return f.all
}

// renewed returns the time for new signatures of the n versions of cur by the Reissue of
// at, the first of n that are a microsecond apart. It is later than at only where a leader
// with a faster clock signed; back reports that it is before the time of cur.
func (f *issuedAtFloor) renewed(cur *conf.Record, at time.Time, may bool, n int) (first time.Time, back bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() {
		if n > 1 {
			f.hold(cur.Service, first.Add(time.Duration(n-1)*time.Microsecond))
		}
	}()
	was, err := conf.ParseTime(latest(cur))
	if held := f.services[cur.Service]; held.After(was) {
		was = held
	}
	if err != nil || was.Before(at) {
		return at, false
	}
	if ahead(was, at, may) {
		delete(f.services, cur.Service)
		return at, true
	}
	at = was.Add(time.Microsecond)
	f.hold(cur.Service, at)
	return at, false
}

// hold keeps the time of a signature that is later than f.all. The caller holds mu.
func (f *issuedAtFloor) hold(service string, at time.Time) {
	if f.services == nil {
		f.services = map[string]time.Time{}
	}
	f.services[service] = at
}

// next returns the time for the version after cur: now, or just after the last one.
func (f *issuedAtFloor) next(cur *conf.Record, now time.Time, back bool) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	clock := now
	for _, t := range []time.Time{f.all, f.services[cur.Service]} {
		if !ahead(t, clock, back) {
			now = after(now, t, back)
		}
	}
	if was, err := conf.ParseTime(latest(cur)); err == nil && !ahead(was, clock, back) {
		now = after(now, was, back)
	}
	return now.Truncate(time.Microsecond)
}

// ahead reports whether t is of a clock that was ahead of now, and may end.
func ahead(t, now time.Time, may bool) bool { return may && t.Sub(now) > conf.MaxLead }

// after returns now in microseconds, but at least one microsecond after t, unless t is
// ahead.
func after(now, t time.Time, back bool) time.Time {
	now = now.Truncate(time.Microsecond)
	if !now.After(t) && !ahead(t, now, back) {
		now = t.Add(time.Microsecond)
	}
	return now
}
