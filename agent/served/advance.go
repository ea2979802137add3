package served

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/view"
)

// saveTimeout is how long the disk may delay a candidate. It delays the log too.
const saveTimeout = 2 * time.Second

// Advance shows what the log entries up to index have changed: first to the last-known-good
// file, then in the served view, then in the stable one.
func (s *Served) Advance(index uint64, recs []*conf.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(index, recs)
}

func (s *Served) advance(index uint64, recs []*conf.Record) {
	was := s.o.Views.Served.Load()
	p := s.plan(recs)
	appended := s.journal != nil && s.journal.AppendStaged(was.Epoch, was.Index, index, p.out, p.file)
	s.secure(p, was.Epoch, index, appended)
	s.show(p, func() {
		s.o.Views.Served.Advance(index, p.out)
		s.o.Views.Stable.Advance(index, p.stable)
	})
	if epoch := s.o.Views.Stable.Load().Epoch; s.caughtUp && s.joined.Epoch != epoch {
		s.settle(epoch, index)
	}
}

// Reset shows all records of a store that was opened, or defaults. caughtUp says that they
// are no older than what the leader had when the store was opened: an agent without data
// joins there.
func (s *Served) Reset(source, epoch string, index uint64, recs []*conf.Record, caughtUp bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	served, stable := s.o.Views.Served, s.o.Views.Stable
	if source != view.SourceReplica { // nothing that the log decided
		served.Reset(source, epoch, index, recs)
		stable.Reset(source, epoch, index, recs)
		return
	}
	if caughtUp {
		s.caughtUp = true
		s.settle(epoch, index)
	}
	was := served.Load()
	p := s.planAll(epoch, recs)
	appended := false
	if was.Epoch == epoch {
		changed := p.changed(was)
		// Those that the file does not have go to its journal; a file is written when they
		// are most of them.
		if len(changed) <= len(recs)/4 || p.urgent() {
			appended = s.journal != nil && s.journal.AppendStaged(epoch, was.Index, index, changed, p.file)
		}
	}
	s.secure(p, epoch, index, appended)
	s.show(p, func() {
		served.Reset(source, epoch, index, p.out)
		stable.Reset(source, epoch, index, p.stable)
	})
}

// plan is what an advance or a reset is about to show.
type plan struct {
	stable []*conf.Record          // of the log, the newest of each service
	out    []*conf.Record          // to serve, in the same order
	have   map[string]*staged      // of the services that changed; nil: nothing is kept
	file   map[string]*lkg.Staged  // in the last-known-good file
	fresh  map[string]*conf.Record // candidates that are new here, by service: the stable record
	wrong  []string                // services whose candidate does not verify
	drop   []*Mark                 // marks that have ended
}

// urgent reports whether something must be on the disk before it is shown, or before a mark
// is removed.
func (p *plan) urgent() bool { return len(p.fresh) > 0 || len(p.drop) > 0 }

// changed are the records that a snapshot does not have.
func (p *plan) changed(was *documents.Snapshot) (changed []*conf.Record) {
	for _, rec := range p.out {
		if e, ok := was.Get(rec.Service); !ok || !view.Equal(e.Record, rec) || p.fresh[rec.Service] != nil {
			changed = append(changed, rec)
		}
	}
	return changed
}

// plan chooses for the newest of each service.
func (s *Served) plan(recs []*conf.Record) *plan {
	p := &plan{have: map[string]*staged{}, file: map[string]*lkg.Staged{}, fresh: map[string]*conf.Record{}}
	last := make(map[string]int, len(recs)) // a batch may have several of one service
	for i, rec := range recs {
		last[rec.Service] = i
	}
	for i, rec := range recs {
		if i != last[rec.Service] {
			continue
		}
		if now := recordIn(s.o.Views.Stable, rec.Service); now != nil && now.Epoch == rec.Epoch && rec.Version < now.Version {
			continue // the store is behind the last-known-good file
		}
		s.choose(p, rec)
	}
	return p
}

// planAll chooses for all records of a store.
func (s *Served) planAll(epoch string, recs []*conf.Record) *plan {
	p := s.plan(recs)
	if s.o.Views.Stable.Load().Epoch == epoch {
		return p
	}
	there := map[string]bool{}
	for _, rec := range recs {
		there[rec.Service] = true
	}
	for service, have := range s.by { // services that the new epoch does not have
		if !there[service] {
			p.have[service] = nil
			if have.mark != nil {
				p.drop = append(p.drop, have.mark)
			}
		}
	}
	return p
}

// choose adds what to serve of one service to p.
func (s *Served) choose(p *plan, rec *conf.Record) {
	service := rec.Service
	cur, have := recordIn(s.o.Views.Served, service), s.by[service]
	targeted := func(ro *conf.Rollout) bool {
		return Chosen(ro, s.o.Instance(), s.o.Labels, s.joined.in(rec.Epoch, service))
	}
	c := choose(cur, have, rec, targeted)
	if c.have != nil && c.have.candidate && (cur == nil || cur.Epoch != rec.Epoch || cur.Version != c.rec.Version) {
		if err := s.verify(rec, c); err != nil {
			p.wrong = append(p.wrong, service)
			s.alarms.Raise(alarm.CandidateWrong, service, err, "service", service)
			c = choose(cur, have, rec, nobody)
		} else {
			p.fresh[service] = rec
		}
	}
	if have != nil && have.mark != nil && (c.have == nil || c.have.mark == nil) {
		p.drop = append(p.drop, have.mark)
	}
	p.add(rec, c)
}

func nobody(*conf.Rollout) bool { return false }

func (p *plan) add(stable *conf.Record, c choice) {
	service := stable.Service
	p.stable, p.out = append(p.stable, stable), append(p.out, c.rec)
	p.have[service] = c.have
	if st := inFile(c.rec, stable, c.have); st != nil {
		p.file[service] = st
	}
}

// verify checks the signatures of a candidate and of its revert.
func (s *Served) verify(stable *conf.Record, c choice) error {
	if s.o.Verify == nil {
		return nil
	}
	return errors.Join(s.o.Verify(c.rec), s.o.Verify(c.have.revert.record(stable)))
}

// secure brings what is urgent to the disk. A candidate that cannot be written is not served
// (rule 8); Run tries again.
func (s *Served) secure(p *plan, epoch string, index uint64, appended bool) {
	if !p.urgent() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	err := errors.New("there is no last-known-good file yet")
	if appended {
		err = s.journal.Sync(ctx)
	}
	if err != nil && s.journal != nil {
		err = s.journal.Rewrite(ctx, s.content(p, epoch, index))
	}
	if err == nil {
		return
	}
	p.drop = nil // the marks stay on the disk, and count for less than the file
	for i, stable := range p.stable {
		service := stable.Service
		if p.fresh[service] == nil {
			continue
		}
		s.waiting[service] = err
		s.alarms.Raise(alarm.CandidateWaits, service, err, "service", service)
		c := choose(recordIn(s.o.Views.Served, service), s.by[service], stable, nobody)
		p.out[i], p.have[service] = c.rec, c.have
	}
}

// content is the whole content of the last-known-good file with what p shows.
func (s *Served) content(p *plan, epoch string, index uint64) *lkg.Content {
	c := &lkg.Content{Epoch: epoch, Index: index, GeneratedAt: time.Now(), Staged: map[string]*lkg.Staged{}, PastEpochs: s.past(epoch)}
	planned := map[string]bool{}
	for _, rec := range p.out {
		planned[rec.Service] = true
		c.Records = append(c.Records, rec)
		if st := p.file[rec.Service]; st != nil {
			c.Staged[rec.Service] = st
		}
	}
	snap := s.o.Views.Served.Load()
	if snap.Epoch != epoch {
		return c
	}
	snap.Range(func(e *documents.Entry) bool {
		service := e.Record.Service
		if planned[service] {
			return true
		}
		c.Records = append(c.Records, e.Record)
		if st := inFile(e.Record, recordIn(s.o.Views.Stable, service), s.by[service]); st != nil {
			c.Staged[service] = st
		}
		return true
	})
	return c
}

// show advances the views, and then removes the marks that have ended.
func (s *Served) show(p *plan, views func()) {
	s.state.Lock()
	views()
	for service, have := range p.have {
		if have == nil {
			delete(s.by, service)
		} else {
			s.by[service] = have
		}
		if s.waiting[service] == nil && !slices.Contains(p.wrong, service) {
			s.alarms.Clear(service)
		}
	}
	s.wake()
	s.state.Unlock()
	for _, m := range p.drop {
		if err := s.marks.remove(m.Service); err != nil {
			s.log.Warn("the mark of a refused version was not removed: it has no effect any more", "path", s.marks.path(m.Service), "err", err)
		}
		s.log.Info("this agent is not held back any more", "service", m.Service, "refused", m.Refused)
	}
}

// settle keeps since when this agent is an instance: for what is not known yet, since index.
func (s *Served) settle(epoch string, index uint64) {
	next, news := s.joined.since(epoch, index, s.o.Services)
	if !news {
		return
	}
	if err := s.marks.writeJoined(next); err != nil {
		s.log.Warn("this agent is no target of rollouts: since when it is an instance cannot be written", "path", s.marks.path(joinedName), "err", err)
		return
	}
	s.setJoined(next)
}

// Refuse takes the service's word that it cannot run a version that is served here. When
// it returns nil, the refusal is on the disk and the revert is served. To refuse the same
// again changes nothing. The error is CodeConflict when that version is not served here
// or has no revert: a version that was stable when this agent got it has none.
func (s *Served) Refuse(ctx context.Context, service, epoch string, version uint64, v Verdict) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	cur, have := recordIn(s.o.Views.Served, service), s.by[service]
	if have != nil && have.mark != nil && have.mark.Epoch == epoch && have.mark.Refused == version {
		return nil
	}
	if cur == nil {
		return conf.Errorf(conf.CodeNotFound, "no configuration of %q is served here", service)
	}
	if cur.Epoch != epoch || cur.Version != version {
		e := conf.Errorf(conf.CodeConflict, "version %d of %s is not what is served here", version, service).
			WithHint("acknowledge what X-Config-Version and X-Config-Epoch of the response say")
		e.Current = cur.Version
		return e
	}
	if have == nil || have.revert == nil {
		e := conf.Errorf(conf.CodeConflict, "version %d of %s is stable here: there is nothing to go back to", version, service).
			WithHint("change it for all: holdfast rollback %s", service)
		e.Current = cur.Version
		return e
	}
	if v.At == "" {
		v.At = conf.FormatTime(time.Now())
	}
	back := have.revert
	m := &Mark{
		Service: service, Epoch: epoch, Rollout: back.rollout, Refused: version, Content: contentDigest(cur),
		Revert: *back.version, At: back.at, By: back.by, Verdict: v,
	}
	if err := s.marks.write(m); err != nil {
		s.alarms.Raise(alarm.MarkUnwritten, "mark "+service, err, "service", service)
		return err
	}
	s.alarms.Clear("mark " + service)
	s.log.Warn("a version was refused: this agent goes on to the revert", "service", service, "refused", version, "version", back.version.Version,
		"reason", v.Reason, "cause", v.Cause, "rollout", back.rollout)
	stable := recordIn(s.o.Views.Stable, service)
	if stable == nil {
		stable = cur
	}
	p := &plan{have: map[string]*staged{}, file: map[string]*lkg.Staged{}}
	p.add(stable, choice{back.record(stable), &staged{mark: m}})
	snap := s.o.Views.Served.Load()
	if s.journal != nil { // the mark is enough to find it after a restart
		s.journal.AppendStaged(snap.Epoch, snap.Index, snap.Index, p.out, p.file)
	}
	s.show(p, func() { s.o.Views.Served.Advance(snap.Index, p.out) })
	return nil
}

// Restore shows what the last-known-good file and the marks say, before there is a replica.
func (s *Served) Restore(c *lkg.Content) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var served, stable []*conf.Record
	p := &plan{have: map[string]*staged{}}
	for _, rec := range c.Records {
		var m *Mark
		if have := s.by[rec.Service]; have != nil {
			m = have.mark
		}
		of, ch := fromFile(rec, c.Staged[rec.Service], m)
		served, stable = append(served, ch.rec), append(stable, of)
		if ch.have != nil {
			p.have[rec.Service] = ch.have
		}
	}
	s.secureFile(c, p)
	s.show(p, func() {
		s.o.Views.Served.Reset(view.SourceLKG, c.Epoch, c.Index, served)
		s.o.Views.Stable.Reset(view.SourceLKG, c.Epoch, c.Index, stable)
	})
	if s.upgraded { // it has had its services since before there were rollouts
		s.settle(c.Epoch, c.Index)
	}
}

// secureFile syncs a file that says that a candidate is served: the process that wrote that
// may have been killed before it was on the disk, and then nobody has read it.
func (s *Served) secureFile(c *lkg.Content, p *plan) {
	for service, have := range p.have {
		if !have.candidate || c.Journal == nil {
			continue
		}
		if err := c.Journal.Sync(); err != nil {
			s.log.Warn("the last-known-good journal is not synced: a loss of power may take back the candidate of a rollout", "service", service, "err", err)
		}
		return
	}
}

// fromFile is what an agent serves of a service by its last-known-good file and its mark,
// the highest of both (rule 10), and what is stable.
func fromFile(rec *conf.Record, st *lkg.Staged, m *Mark) (stable *conf.Record, c choice) {
	stable, c = rec, choice{rec: rec}
	if m != nil {
		c.have = &staged{mark: m} // of another epoch, or older: it is dropped with the replica
	}
	if st != nil {
		if st.Stable != nil {
			stable = st.Stable
		}
		if c.have == nil {
			c.have = &staged{}
		}
		if st.Revert != nil {
			c.have.revert, c.have.candidate = &revert{st.Revert, st.Rollout, st.At, st.By}, st.Candidate
		}
		if st.Candidate && st.Revert != nil {
			rec.Staged = &conf.Staged{Floor: st.Revert.Version, Rollout: &conf.Rollout{
				ID: st.Rollout, Candidate: conf.SignedVersion{Version: rec.Version}, Revert: *st.Revert, StartedAt: st.At, StartedBy: st.By,
			}}
		}
	}
	if m != nil && m.Epoch == rec.Epoch && m.Revert.Version >= rec.Version {
		back := &revert{&m.Revert, m.Rollout, m.At, m.By}
		c = choice{back.record(stable), &staged{mark: m}}
	}
	return stable, c
}

// FromFile returns what an agent that cannot start serves.
func FromFile(c *lkg.Content, marks Marks) (recs []*conf.Record) {
	for _, rec := range c.Records {
		_, ch := fromFile(rec, c.Staged[rec.Service], marks[rec.Service])
		recs = append(recs, ch.rec)
	}
	return recs
}
