package served

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Journal is the writer of the last-known-good file.
type Journal interface {
	AppendStaged(epoch string, prev, index uint64, recs []*conf.Record, staged map[string]*lkg.Staged) bool
	Sync(ctx context.Context) error
	Rewrite(ctx context.Context, c *lkg.Content) error
}

// Options set up a Served. Dir, Keys, Views and Logger are required.
type Options struct {
	Instance func() string     // name of this agent as an instance
	Labels   map[string]string // of the instance
	Services []string          // that this agent is an instance of by its settings
	Dir      string            // of the marks
	Keys     func() [][]byte   // HMAC keys of the last-known-good file; the first one signs until Rekey
	Views    Views
	Verify   func(*conf.Record) error // checks the signatures of a candidate and its revert; may be nil
	Logger   *slog.Logger
}

// Views are the two views of an agent.
type Views struct {
	Served *documents.View // what this agent serves
	Stable *documents.View // what the log has
}

// State is what this agent serves of one service.
type State struct {
	Record    *conf.Record // served now; nil: nothing
	Candidate bool         // Record is the candidate of a rollout that runs
	Rollout   string       // id of the rollout of the candidate or of the mark; empty: neither
	// CanRefuse: Record has a revert, so that Refuse is no conflict. It has one while it is
	// the candidate, and after it was promoted here.
	CanRefuse bool
	Mark      *Mark  // nil: nothing of this epoch is refused
	Joined    uint64 // log index at which this agent became an instance of the service; 0: it is none, or has not caught up yet
}

// Channel is the channel of the document: conf.ChannelCandidate or empty.
func (s State) Channel() string {
	if s.Candidate {
		return conf.ChannelCandidate
	}
	return ""
}

// Served is what this agent serves. Make it with New.
type Served struct {
	o       Options
	log     *slog.Logger
	alarms  *alarm.Set
	marks   *markFiles
	journal Journal                     // nil until Attach
	past    func(epoch string) []string // of Attach

	// mu is held while the views advance and a mark is written.
	mu       sync.Mutex
	upgraded bool             // the directory is of a build without marks
	caughtUp bool             // what is stable was as new as the leader's, once
	waiting  map[string]error // candidates that could not be written, by service

	// Written with mu held too, so that a reader of either sees no half of a change.
	state   sync.RWMutex
	by      map[string]*staged // services that are not served as they are stable, or may go on to a revert
	joined  joined
	changed chan struct{}
}

// staged is what is known of a service beside what the views have. It is immutable.
type staged struct {
	revert    *revert // of what is served
	candidate bool    // what is served is a candidate
	mark      *Mark
}

// revert is the signed version that takes the place of one that is refused.
type revert struct {
	version *conf.SignedVersion
	rollout string
	at, by  string
}

// record is the revert as this agent serves it, which says itself that it is one.
func (r *revert) record(stable *conf.Record) *conf.Record {
	rec := r.version.Record(stable, r.at, r.by)
	if rec.Channel() == "" {
		st := conf.Staged{Floor: rec.Version}
		if stable.Staged != nil {
			st = *stable.Staged
		}
		st.Kept = r.version
		rec.Staged = &st
	}
	return rec
}

// New returns a Served with the marks of its directory, which it makes.
func New(o Options) *Served {
	s := &Served{
		o: o, log: o.Logger, alarms: alarm.NewSet(o.Logger), marks: &markFiles{dir: o.Dir, keys: o.Keys, log: o.Logger},
		waiting: map[string]error{}, by: map[string]*staged{}, changed: make(chan struct{}),
	}
	s.upgraded = s.marks.open()
	for service, m := range s.marks.load() {
		s.by[service] = &staged{mark: m}
	}
	s.joined = s.marks.loadJoined()
	s.joined.keep(o.Services)
	return s
}

// Attach sets what the file is written with, before the first Reset from a replica. past
// lists the epochs before one.
func (s *Served) Attach(j Journal, past func(epoch string) []string) { s.journal, s.past = j, past }

// Views returns the two views.
func (s *Served) Views() Views { return s.o.Views }

// State returns what is served of a service, and Joined of one that has no record too.
func (s *Served) State(service string) State {
	s.state.RLock()
	defer s.state.RUnlock()
	st := State{Joined: s.joined.in(s.o.Views.Stable.Load().Epoch, service)}
	e, ok := s.o.Views.Served.Get(service)
	if !ok {
		return st
	}
	st.Record = e.Record
	have := s.by[service]
	if have == nil {
		return st
	}
	if have.revert != nil {
		st.CanRefuse = true
		if have.candidate {
			st.Candidate, st.Rollout = true, have.revert.rollout
		}
	}
	if have.mark != nil && have.mark.Epoch == e.Record.Epoch && have.mark.Revert.Version >= e.Record.Version {
		st.Mark, st.Rollout = have.mark, have.mark.Rollout
	}
	return st
}

// Changed returns a channel that is closed at the next change of any State.
func (s *Served) Changed() <-chan struct{} {
	s.state.RLock()
	defer s.state.RUnlock()
	return s.changed
}

// Services lists the services that this agent is an instance of.
func (s *Served) Services() []string {
	s.state.RLock()
	defer s.state.RUnlock()
	out := slices.Clone(s.o.Services)
	for service := range s.joined.Services {
		if !slices.Contains(out, service) {
			out = append(out, service)
		}
	}
	slices.Sort(out)
	return out
}

// wake tells of a change. The caller holds mu and state.
func (s *Served) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Snapshot returns what is served and what is staged of it, at one moment: the content of
// the last-known-good file.
func (s *Served) Snapshot() (*documents.Snapshot, map[string]*lkg.Staged) {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := s.o.Views.Served.Load()
	out := map[string]*lkg.Staged{}
	for service := range s.by {
		if e, ok := snap.Get(service); ok {
			if st := inFile(e.Record, recordIn(s.o.Views.Stable, service), s.by[service]); st != nil {
				out[service] = st
			}
		}
	}
	return snap, out
}

func recordIn(v *documents.View, service string) *conf.Record {
	return documents.Records{View: v}.Record(service)
}

// inFile is what the last-known-good file has of a service beside what is served; nil for
// nothing.
func inFile(served, stable *conf.Record, have *staged) *lkg.Staged {
	out := &lkg.Staged{}
	if stable != nil && stable != served {
		out.Stable = stable
	}
	if have != nil && have.revert != nil {
		r := have.revert
		out.Revert, out.Rollout, out.At, out.By, out.Candidate = r.version, r.rollout, r.at, r.by, have.candidate
	}
	if out.Stable == nil && out.Revert == nil {
		return nil
	}
	return out
}

// Rebuilt returns the records that a new epoch begins with when this agent is all that is
// left: what is stable, and of a service that is held back the revert (rule 6).
func (s *Served) Rebuilt() (recs []*conf.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.o.Views.Stable.Load().Range(func(e *documents.Entry) bool {
		rec := e.Record
		if have := s.by[rec.Service]; have != nil && have.mark != nil {
			if now := recordIn(s.o.Views.Served, rec.Service); now != nil && now.Epoch == have.mark.Epoch && now.Version == have.mark.Revert.Version {
				rec = now
			}
		}
		recs = append(recs, rec)
		return true
	})
	return recs
}

// Rekey writes the marks with this key, unless they are.
func (s *Served) Rekey(key []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if bytes.Equal(s.marks.signer, key) {
		return nil
	}
	s.marks.signer = bytes.Clone(key)
	err := s.rewrite()
	if err != nil {
		s.marks.signer = nil // it is tried again
	}
	return err
}

func (s *Served) rewrite() error {
	for _, have := range s.by {
		if have.mark != nil {
			if err := s.marks.write(have.mark); err != nil {
				return err
			}
		}
	}
	if len(s.joined.Services) == 0 {
		return nil
	}
	return s.marks.writeJoined(s.joined)
}

// Join makes this agent an instance of a service that acknowledges here; it is one of
// those of its settings already. It is on the disk when Join returns. A service that
// joins while a step runs is no target of that step. Repeats change nothing.
func (s *Served) Join(_ context.Context, service string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.joined.Services[service]; j.Acknowledged {
		return nil
	}
	next := s.joined.clone()
	j, known := next.Services[service]
	if j.Acknowledged = true; !known {
		j.Index = 0 // not caught up
		if snap := s.o.Views.Stable.Load(); s.joined.Epoch != "" && s.joined.Epoch == snap.Epoch {
			j.Index = snap.Index
		}
	}
	next.Services[service] = j
	if err := s.marks.writeJoined(next); err != nil {
		return err
	}
	s.setJoined(next)
	return nil
}

func (s *Served) setJoined(j joined) {
	s.state.Lock()
	defer s.state.Unlock()
	s.joined = j
	s.wake()
}

// retryEvery is how often what could not be written is tried again.
const retryEvery = time.Second

// Run takes a candidate that could not be written before, until ctx ends.
func (s *Served) Run(ctx context.Context) {
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.retry()
		case <-ctx.Done():
			return
		}
	}
}

func (s *Served) retry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		return
	}
	var recs []*conf.Record
	for _, service := range slices.Sorted(maps.Keys(s.waiting)) {
		delete(s.waiting, service)
		if rec := recordIn(s.o.Views.Stable, service); rec != nil {
			recs = append(recs, rec)
		}
	}
	s.advance(s.o.Views.Stable.Load().Index, recs)
}
