package peers

import (
	"sync"
	"sync/atomic"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Features are the commands that the builds of the members can apply, as they
// reported while this agent led. A leader writes no entry at which a member of an
// older build would stop. Members that it never reached block nothing: one of an
// older build stops applying when it comes back, reports so, and continues once
// upgraded. Safe for concurrent use.
type Features struct {
	own     atomic.Uint64 // of this build
	missing atomic.Uint64 // what some member lacks

	mu      sync.Mutex
	members map[string]memberFeatures
}

type memberFeatures struct {
	version  string
	features uint64
}

func newFeatures() *Features {
	f := &Features{members: map[string]memberFeatures{}}
	f.own.Store(command.Features())
	return f
}

// Own are the features of this build.
func (f *Features) Own() uint64 { return f.own.Load() }

// SetOwn replaces the features of this build; tests simulate an older build with it.
func (f *Features) SetOwn(features uint64) { f.own.Store(features) }

// Set records what a member reported. features is 0 when its build does not tell.
func (f *Features) Set(node, version string, features uint64) {
	if features == 0 {
		features = command.BaselineFeatures
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members[node] = memberFeatures{version, features}
	f.update()
}

// forgetRemoved drops the members that were removed.
func (f *Features) forgetRemoved(members []conf.Member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range members {
		if m.RemovedAt != "" {
			delete(f.members, m.NodeID)
		}
	}
	f.update()
}

// update is called with mu held.
func (f *Features) update() {
	var missing uint64
	for _, m := range f.members {
		missing |= ^m.features
	}
	f.missing.Store(missing)
}

// Check is replication.Options.CheckCommand: it rejects a command that a member cannot apply.
func (f *Features) Check(c command.Command) error {
	need := command.RequiredFeatures(c)
	if need&f.missing.Load() == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, node := range conf.SortedKeys(f.members) {
		if m := f.members[node]; need&^m.features != 0 {
			return conf.Errorf(conf.CodeUnsupported, "member %s runs build %s, which cannot apply this change (%s): it would stop there", node, m.version, c.Kind()).
				WithHint("upgrade that agent first; if it does not come back: holdfast cluster remove %s", node)
		}
	}
	return nil
}
