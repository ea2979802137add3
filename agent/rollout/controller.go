package rollout

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/instances"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// pollEvery is how often the controller looks at the rollouts that run: reports are in
// memory, and there are few rollouts.
const pollEvery = 100 * time.Millisecond

// retryAfter is how long it waits after a proposal that was not committed, such as without a
// quorum.
const retryAfter = time.Second

// Reports is what the leader has heard of instances.
type Reports interface {
	Of(service string) []instances.Heard
	Term() uint64 // 0 while this agent does not lead
}

// Editor signs rollouts, and proposes what becomes of them.
type Editor interface {
	StartRollout(ctx context.Context, d conf.RolloutDraft) (conf.Rollout, error)
	MoveRollout(ctx context.Context, m conf.RolloutMove) error
}

// History reads the rollouts that ended. It returns conf.CodeNotFound for one that is missing.
type History interface {
	Rollout(ctx context.Context, id string) (conf.RolloutEnd, error)
	Rollouts(ctx context.Context, service string, limit, offset int) (conf.Page[conf.RolloutEnd], error)
}

// Options of a Manager.
type Options struct {
	View    *documents.View // stable: what the log has
	Reports Reports
	Editor  Editor
	History History
	Now     func() time.Time
	Logger  *slog.Logger
	// Confirm returns nil when View has all that was acknowledged before the call.
	Confirm func(context.Context) error
	// Members returns the nodes beside which the service runs, as far as the list of members
	// says. nil: none is known.
	Members func(service string) []string
	// Settle and Heartbeat are for tests: how long a new term waits for reports.
	Settle, Heartbeat time.Duration
}

// Manager decides how rollouts go on, while this agent leads, and answers for them.
type Manager struct {
	o Options

	mu     sync.Mutex
	term   uint64    // that of the controller that runs, 0 for none
	ready  time.Time // when it began
	memory map[string]*memory
	wait   map[string]time.Time // service -> not sooner than this, after a proposal that failed

	// inherited are the rollouts that ran when the term began: what instances have said of
	// them to another leader is not known here.
	inherited map[string]bool

	seen   *documents.Snapshot
	active map[string]bool // services that had a rollout in seen
}

// New makes a Manager.
func New(o Options) *Manager {
	if o.Settle == 0 {
		o.Settle = settle
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = heartbeat
	}
	return &Manager{o: o, active: map[string]bool{}}
}

// Lead decides until ctx ends. It is a job of the leader of a term, after a barrier.
func (m *Manager) Lead(ctx context.Context, term uint64) {
	m.begin(term)
	defer m.begin(0)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		m.Step(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (m *Manager) begin(term uint64) {
	inherited := map[string]bool{}
	for _, rec := range m.running() {
		inherited[rec.Staged.Rollout.ID] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.term, m.ready, m.inherited = term, m.o.Now(), inherited
	m.memory, m.wait = map[string]*memory{}, map[string]time.Time{}
}

// Step decides once for each rollout that runs. Lead calls it.
func (m *Manager) Step(ctx context.Context) {
	for _, rec := range m.running() {
		if !m.certain(ctx, rec.Service) {
			continue
		}
		move, ok := m.decide(rec)
		if !ok {
			continue
		}
		pctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := m.o.Editor.MoveRollout(pctx, move)
		cancel()
		if err != nil { // it may be in the log for all that is known here
			m.postpone(rec.Service)
		}
		m.report(ctx, rec, move, err)
	}
}

// certain reports whether all is applied that this leader has proposed for a service: after a
// proposal whose outcome is unknown, a barrier shows what came of it.
func (m *Manager) certain(ctx context.Context, service string) bool {
	m.mu.Lock()
	at, doubt := m.wait[service]
	m.mu.Unlock()
	if !doubt {
		return true
	}
	if m.o.Now().Before(at) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if m.o.Confirm(ctx) != nil {
		m.postpone(service)
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.wait, service)
	return false // what it shows is looked at first
}

// running are the records with a rollout that runs, by name. It costs what changed since the
// last call, not what there is.
func (m *Manager) running() (out []*conf.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	snap := m.o.View.Load()
	snap.Since(m.seen, func(e *documents.Entry) bool {
		if e.Record.Staged != nil && e.Record.Staged.Rollout != nil {
			m.active[e.Record.Service] = true
		}
		return true
	})
	m.seen = snap
	for _, service := range conf.SortedKeys(m.active) {
		if e, ok := snap.Get(service); ok && e.Record.Staged != nil && e.Record.Staged.Rollout != nil {
			out = append(out, e.Record)
			continue
		}
		delete(m.active, service)
		delete(m.memory, service)
		delete(m.wait, service)
	}
	return out
}

// decide says what the next move of a rollout is, if there is one now.
func (m *Manager) decide(rec *conf.Record) (conf.RolloutMove, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, ok := m.facts(rec)
	if !ok {
		return conf.RolloutMove{}, false
	}
	mem := m.memory[rec.Service]
	if mem == nil {
		mem = &memory{}
		m.memory[rec.Service] = mem
	}
	d := decide(f, mem)
	ro := rec.Staged.Rollout
	return conf.RolloutMove{
		Service: rec.Service, ID: ro.ID, Action: d.action, Step: ro.Step, Target: d.target, Reason: d.why, By: byController,
	}, d.action != ""
}

// byController is the author of what no person decides.
const byController = "holdfast"

// facts are those of this moment; ok is false while this agent does not lead, or has not
// applied what its term begins with. The caller holds mu.
func (m *Manager) facts(rec *conf.Record) (f *facts, ok bool) {
	f = &facts{rec: rec, term: m.term, ready: m.ready, now: m.o.Now(), settle: m.o.Settle, heartbeat: m.o.Heartbeat}
	if m.term == 0 || m.o.Reports.Term() != m.term || rec.Epoch != m.o.View.Load().Epoch {
		return f, false
	}
	f.heard = m.o.Reports.Of(rec.Service)
	f.inherited = m.inherited[rec.Staged.Rollout.ID]
	if m.o.Members != nil {
		f.members = m.o.Members(rec.Service)
	}
	return f, true
}

func (m *Manager) postpone(service string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wait != nil {
		m.wait[service] = m.o.Now().Add(retryAfter)
	}
}

// report logs a decision.
func (m *Manager) report(ctx context.Context, rec *conf.Record, move conf.RolloutMove, err error) {
	args := []any{"service", rec.Service, "rollout", move.ID, "step", move.Step + 1, "why", move.Reason}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		m.o.Logger.Debug("a decision on a rollout was not committed; it is decided again", append(args, "action", move.Action, "err", err)...)
	case move.Action == conf.RolloutPause:
		m.o.Logger.Warn("a rollout is paused: holdfast rollout promote, resume or abort "+move.ID, args...)
	case move.Action == conf.RolloutRollback:
		m.o.Logger.Warn("a rollout is rolled back", args...)
	case move.Action == conf.RolloutPromote:
		m.o.Logger.Info("a rollout is complete: its candidate is stable", args...)
	default:
		m.o.Logger.Info("a rollout goes to its next step", args...)
	}
}
