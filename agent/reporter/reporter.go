package reporter

import (
	"context"
	"crypto/rand"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const maxTracked = 64 // services that this agent is an instance of

// Verdict is why a service refuses a version.
type Verdict struct {
	Reason  string
	Details []conf.AckDetail
	Worker  string
	Cause   string // CauseAck and so on
}

// Causes of a verdict.
const (
	CauseAck    = "ack"
	CauseHealth = "health"
)

// Standing is how a service stands to rollouts at this agent.
type Standing struct {
	Candidate bool // the candidate of a rollout that runs is served
	CanRefuse bool // what is served has a revert
	Refused   uint64
	Revert    uint64
	Epoch     string // of Refused
	Verdict   Verdict
	Joined    uint64
}

// Rollouts is what chooses what this agent serves.
type Rollouts interface {
	Standing(service string) Standing
	// Refuse returns when the refusal is on the disk and the revert is served. The error is
	// CodeConflict when that version is not served, or has no revert.
	Refuse(ctx context.Context, service, epoch string, version uint64, v Verdict) error
	// Join makes this agent an instance of a service that acknowledges here.
	Join(ctx context.Context, service string) error
}

// Options set up a Reporter. Rollouts and Send may be nil.
type Options struct {
	Instance string
	Node     func() string
	Labels   map[string]string
	Services []string // beside this agent
	Source   localapi.Source
	Rollouts Rollouts
	Health   HealthCheck
	Path     string // file of what services have said
	// Send delivers reports, and returns the term of the leader.
	Send func(ctx context.Context, reports []conf.Report) (term uint64, err error)
	// Term is the term of the leader as far as this agent knows, 0 when it does not; it
	// changes when the leader does.
	Term   func() uint64
	Now    func() time.Time
	Logger *slog.Logger
}

// Reporter is this agent as an instance.
type Reporter struct {
	o     Options
	boot  string
	alive time.Duration // between two reports of the same

	mu       sync.Mutex
	services map[string]*tracked
	health   state
	seq      uint64
	unsaved  bool
	save     sync.Mutex // held while the file is written
}

// state is the health of the service, as this agent found it.
type state struct {
	is     string // conf.HealthHealthy and so on
	since  time.Time
	reason string // why it is unhealthy
}

// New makes a Reporter. It reads what services have said before.
func New(o Options) *Reporter {
	if o.Term == nil {
		o.Term = func() uint64 { return 0 }
	}
	r := &Reporter{
		o: o, boot: strings.ToLower(rand.Text()[:13]), alive: aliveEvery, services: map[string]*tracked{},
	}
	for _, s := range o.Services {
		r.services[s] = newTracked(s, true)
	}
	r.load()
	return r
}

// Acknowledge takes what a service says of a version; it implements the room of the local
// API.
func (r *Reporter) Acknowledge(ctx context.Context, service string, a conf.Ack) error {
	doc, _, ok := r.o.Source.Get(service)
	if !ok || !doc.Exists() {
		return conf.Errorf(conf.CodeNotFound, "there is no configuration of %s", service)
	}
	if r.o.Rollouts != nil && a.Status == conf.InstanceRejected {
		st := r.o.Rollouts.Standing(service)
		if st.Refused == a.Version && st.Epoch == a.Epoch {
			return nil // it was said before
		}
		if st.CanRefuse && doc.Version() == a.Version && doc.Epoch() == a.Epoch {
			v := Verdict{Reason: a.Reason, Details: a.Details, Worker: a.Worker, Cause: CauseAck}
			if err := r.refuse(ctx, service, a.Epoch, a.Version, v); conf.CodeOf(err) != conf.CodeConflict {
				return err
			}
			// It has no revert by now: another version may be stable.
		}
	}
	joined, err := r.take(service, a)
	if err != nil {
		return err
	}
	if joined && r.o.Rollouts != nil {
		return r.o.Rollouts.Join(ctx, service)
	}
	return nil
}

// refuse tells the room of rollouts, and remembers that the service acknowledges.
func (r *Reporter) refuse(ctx context.Context, service, epoch string, version uint64, v Verdict) error {
	if err := r.o.Rollouts.Refuse(ctx, service, epoch, version, v); err != nil {
		return err
	}
	r.o.Logger.Warn("the service refuses a version: its revert is served", "service", service, "version", version, "reason", v.Reason, "cause", v.Cause)
	r.mu.Lock()
	if t := r.services[service]; t != nil {
		t.dirty = true
		if v.Cause == CauseAck && !t.acknowledges {
			t.acknowledges, r.unsaved = true, true
		}
	}
	r.mu.Unlock()
	return nil
}

// take records an acknowledgement of what is served. joined says that the service had not
// acknowledged here before.
func (r *Reporter) take(service string, a conf.Ack) (joined bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	doc, _, ok := r.o.Source.Get(service)
	if !ok || doc.Version() != a.Version || doc.Epoch() != a.Epoch {
		return false, notServed(doc, a)
	}
	t := r.services[service]
	if t == nil {
		if len(r.services) >= maxTracked {
			return false, conf.Errorf(conf.CodeRateLimited, "this agent is an instance of %d services already", maxTracked).
				WithHint("acknowledge at the agent beside the service")
		}
		t = newTracked(service, false)
		r.services[service] = t
	}
	t.follow(doc, r.o.Now(), r.health)
	joined = !t.acknowledges
	changed, err := t.acknowledge(a, r.o.Now())
	if err != nil {
		return false, err
	}
	if changed || joined {
		t.acknowledges, r.unsaved = true, true
		if a.Status == conf.InstanceRejected {
			r.o.Logger.Warn("the service rejects what it has", "service", service, "version", a.Version, "reason", a.Reason)
		}
	}
	return joined, nil
}

// notServed is the error of an acknowledgement of something else than doc.
func notServed(doc *localapi.Document, a conf.Ack) error {
	if doc == nil {
		return conf.Errorf(conf.CodeNotFound, "nothing is served here by now")
	}
	e := conf.Errorf(conf.CodeConflict, "version %d of epoch %s is not what is served here: that is version %d of epoch %s", a.Version, conf.Clip(a.Epoch), doc.Version(), doc.Epoch()).
		WithHint("acknowledge the version of the document that the service has read last")
	e.Current = doc.Version()
	return e
}

// Local is what this agent knows of itself as an instance of a service.
func (r *Reporter) Local(service string) (conf.Report, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.services[service]
	if t == nil {
		return conf.Report{}, false
	}
	r.look(t)
	if t.epoch == "" {
		return conf.Report{}, false
	}
	return r.report(t), true
}

// look notes what is served now, and whether it was read.
func (r *Reporter) look(t *tracked) {
	if doc, _, ok := r.o.Source.Get(t.service); ok {
		t.follow(doc, r.o.Now(), r.health)
	}
	if r.o.Rollouts == nil {
		return
	}
	if st := r.o.Rollouts.Standing(t.service); st.Refused != t.standing.Refused || st.Epoch != t.standing.Epoch || st.Joined != t.standing.Joined || st.CanRefuse != t.standing.CanRefuse || st.Candidate != t.standing.Candidate {
		t.standing, t.dirty = st, true
	}
}

// report is the report of a service now.
func (r *Reporter) report(t *tracked) conf.Report {
	r.seq++
	out := conf.Report{
		Instance: r.o.Instance, Node: r.o.Node(), Labels: r.o.Labels, Service: t.service, Epoch: t.epoch, Version: t.version,
		Status: t.status, Since: conf.FormatTime(t.since), Reason: t.word.Reason, Details: t.word.Details, Worker: t.word.Worker,
		Acknowledges: t.acknowledges, Joined: t.standing.Joined, ReportOrder: conf.ReportOrder{Seq: r.seq, Boot: r.boot},
	}
	if t.beside && r.health.is != conf.HealthUnknown {
		out.Health, out.HealthSince = r.health.is, conf.FormatTime(r.health.since)
	}
	if st := t.standing; st.Refused != 0 && st.Epoch == t.epoch {
		out.Refused, out.Revert = st.Refused, st.Revert
		out.Reason, out.Details, out.Worker = st.Verdict.Reason, st.Verdict.Details, st.Verdict.Worker
	}
	return out
}

// names are the services that are tracked, in order.
func (r *Reporter) names() []string {
	return slices.Sorted(func(yield func(string) bool) {
		for name := range r.services {
			if !yield(name) {
				return
			}
		}
	})
}
