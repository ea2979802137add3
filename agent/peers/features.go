package peers

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	answerAge   = 10 * time.Second // a voter that was not heard for this long has to be asked again
	silentAfter = 5 * time.Second  // a voter that does not answer for this long may be gone
)

// Features are the commands that the builds of the voters can apply, as they reported
// to this agent while it led. A leader writes no entry at which voters of an older build
// would stop:
//
//   - A voter that was not asked yet, or not lately, counts as the oldest build.
//   - A voter that does not answer counts as the oldest build at first. Later it blocks
//     nothing while a majority of the voters is known to apply the entry: if its build
//     is older, it stops applying when it comes back, and continues once upgraded.
//   - Members that do not vote block nothing: the quorum does without them, and their
//     word must not stop it.
//
// Safe for concurrent use.
type Features struct {
	own atomic.Uint64 // of this build

	mu      sync.Mutex
	members map[string]memberFeatures
}

// memberFeatures is what a member last reported, and since when it does not answer.
type memberFeatures struct {
	version  string
	features uint64
	heard    time.Time // zero: never
	silent   time.Time // of the first question without an answer since, zero for none
	asked    time.Time // of the last such question
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
func (f *Features) Set(node, version string, features uint64, now time.Time) {
	if features == 0 {
		features = command.BaselineFeatures
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members[node] = memberFeatures{version: version, features: features, heard: now}
}

// SetSilent records that a member was asked and did not answer.
func (f *Features) SetSilent(node string, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.members[node]
	if m.silent.IsZero() {
		m.silent = now
	}
	m.asked = now
	f.members[node] = m
}

// Reset forgets all reports: a new leader asks for itself.
func (f *Features) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.members)
}

// retain drops all but the present members.
func (f *Features) retain(members []conf.Member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	present := map[string]bool{}
	for _, m := range members {
		present[m.NodeID] = m.RemovedAt == ""
	}
	maps.DeleteFunc(f.members, func(node string, _ memberFeatures) bool { return !present[node] })
}

// Unasked lists the voters besides self that neither answered lately nor failed to.
func (f *Features) Unasked(self string, voter map[string]bool, now time.Time) (nodes []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, node := range conf.SortedKeys(voter) {
		m := f.members[node]
		if voter[node] && node != self && now.Sub(m.heard) >= answerAge && now.Sub(m.asked) >= answerAge {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// Check rejects a command that a voter besides self cannot apply.
func (f *Features) Check(c command.Command, self string, voter map[string]bool, now time.Time) error {
	need := command.RequiredFeatures(c)
	f.mu.Lock()
	defer f.mu.Unlock()
	voters, able, gone := 0, 0, 0
	missing := ""
	for _, node := range conf.SortedKeys(voter) {
		if !voter[node] {
			continue
		}
		voters++
		m := f.members[node]
		known := now.Sub(m.heard) < answerAge
		switch {
		case node == self, known && need&^m.features == 0, !known && need&^command.BaselineFeatures == 0:
			able++
		case !known && !m.silent.IsZero() && now.Sub(m.asked) < answerAge && m.asked.Sub(m.silent) >= silentAfter:
			gone++
			fallthrough
		default:
			if missing == "" || known {
				missing = node
			}
		}
	}
	if able+gone == voters && (gone == 0 || 2*able > voters) {
		return nil
	}
	hint := func(err *conf.Error) error {
		return err.WithHint("upgrade that agent first; if it is gone for good: holdfast cluster remove %s", missing)
	}
	if m := f.members[missing]; now.Sub(m.heard) < answerAge {
		return hint(conf.Errorf(conf.CodeUnsupported, "member %s runs build %s, which cannot apply this change (%s): it would stop there", missing, m.version, c.Kind()))
	}
	return hint(conf.Errorf(conf.CodeUnsupported, "member %s has not told this leader yet which build it runs, and an old one cannot apply this change (%s): it would stop there", missing, c.Kind()))
}

// CanSignVersions reports whether all voters are known to apply signatures of versions. It
// asks nobody.
func (c *Cluster) CanSignVersions() bool {
	voter := c.Voters()
	signed := &command.Reissue{Items: []command.ReissueItem{{VersionSignature: "of a version"}}}
	return len(voter) > 0 && c.Features().Check(signed, c.Self(), voter, time.Now()) == nil
}

// CheckCommand is replication.Options.CheckCommand: it rejects a command that a voter
// cannot apply. Voters that were not asked yet are asked first, for a second at most.
func (c *Cluster) CheckCommand(cmd command.Command) error {
	if command.RequiredFeatures(cmd)&^command.BaselineFeatures == 0 {
		return nil // every build can, which is so for most writes
	}
	voter, f := c.Voters(), c.Features()
	ctx, cancel := context.WithTimeout(context.Background(), StatusTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, node := range f.Unasked(c.Self(), voter, time.Now()) {
		wg.Go(func() { _, _ = c.NodeStats(ctx, node, "") }) // what it finds is in the features
	}
	wg.Wait()
	return f.Check(cmd, c.Self(), voter, time.Now())
}
