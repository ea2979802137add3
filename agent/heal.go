package agent

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// mustRejoin is damage that opening the same files again does not repair.
type mustRejoin struct{ cause error }

func (m *mustRejoin) Error() string { return m.cause.Error() }

func (m *mustRejoin) Unwrap() error { return m.cause }

func oneOfSeveral() error {
	return conf.Errorf(conf.CodeUnsupported, "this agent is one of several: its replica comes from the others, not from a rebuild").
		WithHint("holdfast cluster status says who leads; when most voters are gone for good: stop this agent and run holdfast cluster recover")
}

// mustHeal says whether the files of a member cannot be used, so that its replica
// has to come from the others. What opening repairs was tried before: a session
// that was live is opened again first.
func (s *supervisor) mustHeal(err error, wasLive bool) bool {
	if err == nil || s.cluster.alone() || s.reviving.Load() {
		return false
	}
	if _, ok := errors.AsType[*mustRejoin](err); ok {
		return true
	}
	return !wasLive && conf.CodeOf(err) == conf.CodeCorrupt
}

// heal returns when this agent can start anew as a member without data, or when
// ctx ends. Reads go on meanwhile, from memory or the last-known-good file. It
// never gives up: without a leader there is nothing better to do than to wait.
func (s *supervisor) heal(ctx context.Context, cause error) {
	s.log.Error("the replica is damaged: it is made anew from the cluster", "err", cause, "hint", conf.HintOf(cause))
	s.serveDefaults()
	was, old := s.cluster.self(), s.view.Load().Epoch
	s.st.set(conf.DatabaseCorrupted, conf.ModeRebuilding, "waiting for the leader to take this agent back: "+publicText(cause), cause)
	for wait := 250 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := s.rejoin(ctx, cause)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return
		}
		s.st.set(conf.DatabaseCorrupted, conf.ModeRebuilding, "waiting for the leader to take this agent back: "+publicText(err), cause)
		s.log.Warn("the cluster does not take this agent back yet: trying again", "in", wait, "err", err, "hint", conf.HintOf(err))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
	now := s.cluster.self()
	s.repaired = "rebuilt from the cluster"
	if now != was {
		s.repaired += " as " + now
	}
	s.healed = &RebuildInfo{OldEpoch: old, Source: "cluster", Reason: publicText(cause), Dropped: []string{}}
}

// keepHealed writes rebuild.info once the replica is there again.
func (s *supervisor) keepHealed(ss *session) {
	info := *s.healed
	info.ConfigEpoch, info.RebuiltAt, info.Services = ss.store.Epoch(), conf.FormatTime(time.Now()), []string{}
	s.view.Load().Range(func(e *entry) bool {
		if e.Record.Exists() {
			info.Services = append(info.Services, e.Record.Service)
		}
		return true
	})
	if err := lkg.WriteJSON(s.o.rebuildInfo(), info, 0o600); err != nil {
		s.log.Warn("rebuild.info was not written", "err", err)
		return
	}
	s.healed = nil
	s.log.Info("the replica was made anew from the cluster", "node", s.cluster.self(), "services", len(info.Services), "reason", info.Reason)
}

// publicText is the message of an error, without causes that name paths.
func publicText(err error) string {
	if c := publicCause(err); c != nil {
		return c.Error()
	}
	return err.Error()
}

// A leader that has thrown away the log behind its snapshot, and a follower that
// cannot go on from that snapshot, do the same for ever (hashicorp/raft#697).
const (
	sameSnapshot   = 3
	sameSnapshotIn = 5 * time.Minute
)

// installs counts how often the same snapshot came.
type installs struct {
	index uint64
	at    []time.Time
}

// loops notes that the snapshot of an index was installed and says whether that
// goes round in circles.
func (i *installs) loops(index uint64, now time.Time) bool {
	if index != i.index {
		*i = installs{index: index}
	}
	i.at = append(i.at, now)
	for len(i.at) > 0 && now.Sub(i.at[0]) > sameSnapshotIn {
		i.at = i.at[1:]
	}
	if len(i.at) < sameSnapshot {
		return false
	}
	*i = installs{}
	return true
}
