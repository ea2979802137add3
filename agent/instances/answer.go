package instances

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// settling is how long a new leader has not heard all members yet.
const settling = 4 * time.Second

// Answer is what the leader says of the instances of a service. stable is its record.
func (t *Table) Answer(service string, stable *conf.Record, keys bool, members []Member) conf.Instances {
	out := newAnswer(service, stable)
	now := t.now()
	addrs, heard := map[string]string{}, map[string]bool{}
	for _, m := range members {
		addrs[m.Node] = m.Addr
	}
	for _, h := range t.Of(service) {
		heard[h.Node] = heard[h.Node] || h.Kind == KindMember
		i := instanceOf(&h, stable, now)
		if h.Kind == KindMember {
			i.Addr = addrs[h.Node]
		}
		out.Instances = append(out.Instances, i)
	}
	var silent []string
	for _, m := range members {
		if m.Service == service && !heard[m.Node] {
			silent = append(silent, m.Node)
		}
	}
	if keys {
		out.Keys = t.KeyUse(service)
	}
	began, term := t.began()
	switch {
	case term == 0:
		out.Why = "this agent does not lead any more"
	case now.Sub(began) < settling:
		out.Why = "the leader is new: not all instances have reported to it yet"
	case len(silent) > 0:
		out.Why = named(silent, ", ") + " has not reported to this leader yet"
	default:
		out.Complete = true
	}
	out.Summary = Summary(&out)
	return out
}

// Alone is what an agent without a leader says: what it knows of itself.
func Alone(service string, stable *conf.Record, own *conf.Report, why string, now time.Time) conf.Instances {
	out := newAnswer(service, stable)
	out.Why = why
	if own != nil {
		h := Heard{Report: *own, Kind: KindMember, At: now}
		out.Instances = append(out.Instances, instanceOf(&h, stable, now))
	}
	out.Summary = Summary(&out)
	return out
}

func newAnswer(service string, stable *conf.Record) conf.Instances {
	out := conf.Instances{Service: service, Instances: []conf.Instance{}}
	if stable != nil {
		out.Version, out.Epoch = stable.Version, stable.Epoch
		if s := stable.Staged; s != nil && s.Rollout != nil {
			out.Candidate = s.Rollout.Candidate.Version
		}
	}
	return out
}

func instanceOf(h *Heard, stable *conf.Record, now time.Time) conf.Instance {
	i := conf.Instance{
		Instance: h.Instance, Node: h.Node, Kind: h.Kind, Labels: h.Labels, Version: h.Version, Epoch: h.Epoch, Status: h.Status,
		Reason: h.Reason, Details: h.Details, Worker: h.Worker, Since: h.Since, Age: now.Sub(h.At).Seconds(),
		Health: h.Health, HealthSince: h.HealthSince, Refused: h.Refused, Acknowledges: h.Acknowledges,
	}
	if h.Lost {
		i.Status = conf.InstanceLost
	}
	i.HeldBack = h.Refused != 0 && h.Version == h.Revert
	if stable != nil && stable.Staged != nil && stable.Staged.Rollout != nil && h.Epoch == stable.Epoch {
		i.Candidate = h.Version == stable.Staged.Rollout.Candidate.Version
	}
	return i
}

// maxNamed is how many instances a summary names.
const maxNamed = 3

// Summary is the state of a service in a sentence: "3 of 4 run v8; stt-2 refused: port in
// use".
func Summary(in *conf.Instances) string {
	if len(in.Instances) == 0 {
		return "no instance has reported"
	}
	target := in.Version
	if in.Candidate != 0 {
		target = in.Candidate
	}
	running := 0
	var refused, lost, unwell []string
	for i := range in.Instances {
		switch n := &in.Instances[i]; {
		case n.Status == conf.InstanceLost:
			lost = append(lost, n.Instance)
		case n.Refused != 0 && n.Refused == target, n.Status == conf.InstanceRejected && n.Version == target:
			refused = append(refused, refusal(n))
		default:
			if n.Version == target && n.Epoch == in.Epoch {
				running++
			}
			if n.Health == conf.HealthUnhealthy {
				unwell = append(unwell, n.Instance)
			}
		}
	}
	parts := []string{fmt.Sprintf("%d of %d run v%d", running, len(in.Instances), target)}
	if n := len(refused); n > 0 {
		parts = append(parts, named(refused, "; "))
	}
	if len(unwell) > 0 {
		parts = append(parts, named(unwell, ", ")+" unhealthy")
	}
	if len(lost) > 0 {
		parts = append(parts, named(lost, ", ")+" lost")
	}
	return strings.Join(parts, "; ")
}

func refusal(n *conf.Instance) string {
	if n.Reason == "" {
		return n.Instance + " refused"
	}
	return n.Instance + " refused: " + n.Reason
}

func named(all []string, between string) string {
	if more := len(all) - maxNamed; more > 0 {
		return strings.Join(all[:maxNamed], between) + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(all, between)
}
