package rollout

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/agent/instances"
	"github.com/holdfast-config/holdfast/agent/served"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// heartbeat is how often an instance reports at least. A leader of a new term waits two of
// them for targets that its predecessors named.
const heartbeat = 30 * time.Second

// settle is how long a new term waits at least before it counts: all report to a new leader
// within two seconds.
const settle = 5 * time.Second

// facts are what is decided on: applied state, and what was heard in this term.
type facts struct {
	rec   *conf.Record // stable, with a rollout that runs
	heard []instances.Heard
	term  uint64
	ready time.Time // when the controller of this term began
	now   time.Time

	members   []string // nodes beside which the service runs
	inherited bool     // the rollout began in an earlier term

	settle, heartbeat time.Duration
}

// memory is what a controller remembers of the rollout of a service in its term.
type memory struct {
	id       string
	step     int
	paused   bool
	since    time.Time         // when the step began, or was resumed, in this term
	bake     time.Time         // when the bake began; zero: it did not
	rejected map[string]string // instance -> its words
}

// tally is what the instances make of a step.
type tally struct {
	rows   []conf.RolloutInstance
	by     map[string][]string // verdict -> targets
	why    map[string]string   // target -> its words
	others int                 // that are no targets
}

func (t *tally) count(verdict string) int { return len(t.by[verdict]) }

// targets is how many targets there are, those that vanished included.
func (t *tally) targets() (n int) {
	for _, names := range t.by {
		n += len(names)
	}
	return n
}

// heldBack reports whether an instance is held back on a revert that the log keeps: it is
// not enough that it says so.
func heldBack(rec *conf.Record, h *instances.Heard) bool {
	s := rec.Staged
	return s != nil && s.Kept != nil && h.Epoch == rec.Epoch && h.Refused != 0 && h.Revert == s.Kept.Version &&
		(s.Rollout == nil || h.Revert != s.Rollout.Revert.Version)
}

// verdict is what one instance makes of the candidate; target, whether it counts.
func verdict(f *facts, h *instances.Heard) (verdict string, target bool) {
	ro := f.rec.Staged.Rollout
	switch {
	case h.Kind != instances.KindMember || h.Epoch != f.rec.Epoch || h.Term != f.term:
		return conf.VerdictNone, false
	case heldBack(f.rec, h):
		return conf.VerdictHeldBack, false
	case h.Refused == ro.Candidate.Version, h.Version == ro.Candidate.Version && h.Status == conf.InstanceRejected:
		return conf.VerdictRejected, true
	}
	took := h.Version == ro.Candidate.Version
	if !took && !matchesAny(ro.Targets, ro.Salt, h) {
		return conf.VerdictNone, false
	}
	if !took && !served.Chosen(ro, h.Instance, h.Labels, h.Joined) {
		return conf.VerdictJoined, false
	}
	switch {
	case h.Lost:
		return conf.VerdictLost, true
	case took && h.Health == conf.HealthUnhealthy && h.HealthSince >= ro.StartedAt:
		return conf.VerdictUnhealthy, true
	case took && enough(ro.Plan.Require, h):
		return conf.VerdictApproved, true
	default:
		return conf.VerdictWaiting, true
	}
}

// enough reports whether what an instance says of the version that it runs is an approval.
func enough(require string, h *instances.Heard) bool {
	if require == conf.RequireAuto {
		require = conf.RequireRead
		if h.Acknowledges {
			require = conf.RequireApplied
		}
	}
	switch h.Status {
	case conf.InstanceApplied:
		return true
	case conf.InstanceApplying, conf.InstanceRead:
		return require != conf.RequireApplied
	case conf.InstanceReceived:
		return require == conf.RequireReceived
	default:
		return false
	}
}

// tallyOf counts the verdicts on the step that runs. m may be nil, where nothing is decided.
func tallyOf(f *facts, m *memory) tally {
	ro := f.rec.Staged.Rollout
	t := tally{by: map[string][]string{}, why: map[string]string{}}
	for i := range f.heard {
		h := &f.heard[i]
		if h.Kind == instances.KindMember && h.Term != f.term {
			continue // only the list of members knows of it
		}
		v, target := verdict(f, h)
		if m != nil {
			if v == conf.VerdictRejected && m.rejected[h.Instance] == "" {
				m.rejected[h.Instance] = cmp.Or(h.Reason, "it gives no reason")
			}
			if _, refused := m.rejected[h.Instance]; refused && target {
				v = conf.VerdictRejected
			}
		}
		row := rowOf(h, f.now)
		row.HeldBack = v == conf.VerdictHeldBack || h.Refused != 0 && h.Version == h.Revert
		row.Candidate = h.Version == ro.Candidate.Version && h.Epoch == f.rec.Epoch
		t.rows = append(t.rows, conf.RolloutInstance{Instance: row, Target: target, Verdict: v})
		if !target {
			t.others++
			continue
		}
		t.by[v] = append(t.by[v], h.Instance)
		if v == conf.VerdictRejected || v == conf.VerdictUnhealthy {
			t.why[h.Instance] = h.Reason
		}
	}
	unheard(f, m, &t)
	return t
}

// unheard adds the targets of which nothing was heard in this term: those that a step named,
// and members that may be targets, of which not even the name is known. They are waited for,
// and then they are lost.
func unheard(f *facts, m *memory, t *tally) {
	ro := f.rec.Staged.Rollout
	names, nodes := map[string]bool{}, map[string]bool{}
	for i := range f.heard {
		if h := &f.heard[i]; h.Kind == instances.KindMember && h.Term == f.term {
			names[h.Instance], nodes[h.Node] = true, true
		}
	}
	late := f.term != 0 && f.now.Sub(f.ready) >= 2*f.heartbeat
	missing, all := 0, false
	add := func(name string) {
		v := conf.VerdictWaiting
		if late {
			v = conf.VerdictLost
		}
		if m != nil && m.rejected[name] != "" {
			v = conf.VerdictRejected
		}
		t.by[v] = append(t.by[v], name)
		t.rows = append(t.rows, conf.RolloutInstance{
			Instance: conf.Instance{Instance: name, Kind: instances.KindMember, Status: conf.InstanceLost, Epoch: f.rec.Epoch}, Target: true, Verdict: v,
		})
	}
	for _, target := range ro.Targets {
		all = all || target.Below == math.MaxUint64
		for _, name := range target.Instances {
			if !names[name] {
				names[name] = true
				missing++
				add(name)
			}
		}
	}
	// One that refused, and told an earlier leader, must not be forgotten: it counts in every
	// step. With a rollout of this term it counts when all are targets.
	var silent []string
	for _, node := range f.members {
		if !nodes[node] && !names[node] && (all || f.inherited || !late) {
			silent = append(silent, node)
		}
	}
	for _, node := range silent[min(missing, len(silent)):] { // the others are those with a name
		add(node)
	}
}

// decision is what the leader does next: nothing when action is "".
type decision struct {
	action string
	target conf.Target // of RolloutAdvance
	why    string
}

// decide is the whole of the controller: what comes of a tally. It keeps the bake in m.
func decide(f *facts, m *memory) decision {
	ro := f.rec.Staged.Rollout
	if m.id != ro.ID || m.step != ro.Step || m.paused && ro.Paused == "" {
		if m.id != ro.ID {
			m.rejected = map[string]string{}
		}
		m.id, m.step, m.since, m.bake = ro.ID, ro.Step, f.now, time.Time{}
	}
	m.paused = ro.Paused != ""
	t := tallyOf(f, m)
	plan := &ro.Plan
	if n := t.count(conf.VerdictRejected); n > plan.MaxRejected {
		return decision{action: conf.RolloutRollback, why: refusal(ro, &t, conf.VerdictRejected, m)}
	}
	if n := t.count(conf.VerdictUnhealthy); n > plan.MaxUnhealthy {
		return decision{action: conf.RolloutRollback, why: refusal(ro, &t, conf.VerdictUnhealthy, m)}
	}
	if m.paused || f.now.Sub(f.ready) < f.settle {
		return decision{}
	}
	if lost := t.by[conf.VerdictLost]; len(lost) > 0 && plan.OnLost == conf.OnLostPause {
		m.bake = time.Time{}
		return decision{action: conf.RolloutPause, why: fmt.Sprintf("%s %s lost: nothing was heard of %s for 90 s", list(lost), are(lost), them(lost))}
	}
	approved, waiting := t.count(conf.VerdictApproved), t.by[conf.VerdictWaiting]
	if len(waiting) > 0 || approved == 0 {
		m.bake = time.Time{}
		if f.now.Sub(m.since) < plan.DeadlineOf() {
			return decision{}
		}
		why := fmt.Sprintf("%s did not approve version %d within %s", list(waiting), ro.Candidate.Version, plan.Deadline)
		if len(waiting) == 0 {
			why = fmt.Sprintf("nobody approved version %d within %s", ro.Candidate.Version, plan.Deadline)
		}
		return decision{action: conf.RolloutPause, why: why}
	}
	if m.bake.IsZero() {
		m.bake = f.now
	}
	if f.now.Sub(m.bake) < plan.BakeOf(ro.Step) {
		return decision{}
	}
	why := fmt.Sprintf("%d of %d approved", approved, t.targets())
	if ro.Step == len(plan.Steps)-1 {
		return decision{action: conf.RolloutPromote, why: why}
	}
	target, n := next(plan.Steps[ro.Step+1], ro.Step+1 == len(plan.Steps)-1, ro.Salt, ro.Targets, candidates(f.rec, f.heard))
	return decision{action: conf.RolloutAdvance, target: target, why: fmt.Sprintf("%s; the next step has %d", why, n)}
}

// refusal is the reason of a rollback, in the words of the first instances that refused.
func refusal(ro *conf.Rollout, t *tally, v string, m *memory) string {
	what := "refused"
	if v == conf.VerdictUnhealthy {
		what = "turned unhealthy on"
	}
	var words []string
	for i, name := range t.by[v] {
		if i == 3 {
			words = append(words, fmt.Sprintf("and %d more", len(t.by[v])-i))
			break
		}
		text := fmt.Sprintf("%s %s version %d", name, what, ro.Candidate.Version)
		if why := cmp.Or(m.rejected[name], t.why[name]); why != "" {
			text += ": " + why
		}
		words = append(words, text)
	}
	text := strings.Join(words, "; ")
	if len(text) > conf.MaxReason {
		text = strings.ToValidUTF8(text[:conf.MaxReason], "")
	}
	return text
}

func list(names []string) string {
	if len(names) > 4 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), len(names)-3)
	}
	return strings.Join(names, ", ")
}

func are(names []string) string {
	if len(names) == 1 {
		return "is"
	}
	return "are"
}

func them(names []string) string {
	if len(names) == 1 {
		return "it"
	}
	return "them"
}
