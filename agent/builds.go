package agent

import (
	"sync"
	"sync/atomic"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// builds is what the members can apply, as they told this agent while it led. A
// leader writes nothing that a member of an older build would have to stop at.
// Members that it never reached hold nothing up: one of them that is of an older
// build stops applying when it comes back, says so, and goes on once upgraded.
type builds struct {
	mu      sync.Mutex
	members map[string]build
	lacking atomic.Uint64 // what some member does not know, of what this build knows
}

type build struct {
	version string
	knows   uint64
}

// told notes what a member said. knows is 0 when its build does not tell.
func (b *builds) told(node, version string, knows uint64) {
	if knows == 0 {
		knows = command.KnownFirst
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.members == nil {
		b.members = map[string]build{}
	}
	b.members[node] = build{version, knows}
	b.count()
}

// keep forgets who is no member any more.
func (b *builds) keep(members []conf.Member) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range members {
		if m.RemovedAt != "" {
			delete(b.members, m.NodeID)
		}
	}
	b.count()
}

// count is called with mu held.
func (b *builds) count() {
	var lacking uint64
	for _, m := range b.members {
		lacking |= ^m.knows
	}
	b.lacking.Store(lacking)
}

// gate is replication.Options.Gate.
func (b *builds) gate(c command.Command) error {
	need := command.Needs(c)
	if need&b.lacking.Load() == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, node := range conf.SortedKeys(b.members) {
		if m := b.members[node]; need&^m.knows != 0 {
			return conf.Errorf(conf.CodeUnsupported, "member %s runs build %s, which cannot apply this change (%s): it would stop there", node, m.version, c.Kind()).
				WithHint("upgrade that agent first; if it is gone for good: holdfast cluster remove %s", node)
		}
	}
	return nil
}
