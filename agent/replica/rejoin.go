package replica

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/agent/recovery"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// rejoinError is damage that opening the same files again does not repair.
type rejoinError struct{ cause error }

func (e *rejoinError) Error() string { return e.cause.Error() }

func (e *rejoinError) Unwrap() error { return e.cause }

// needsRejoin reports whether the files of a member cannot be used, so that its replica
// has to come from the other members. What opening repairs was tried before: a replica
// that was live is opened again first.
func (s *Supervisor) needsRejoin(err error, wasLive bool) bool {
	if err == nil || s.o.Cluster.IsSingleNode() || s.o.Recovery.IsPending() {
		return false
	}
	if _, ok := errors.AsType[*rejoinError](err); ok {
		return true
	}
	return !wasLive && isDamage(err)
}

// isDamage reports whether the content of the files is wrong, so that another copy of it
// is the cure.
func isDamage(err error) bool {
	code := conf.CodeOf(err)
	return code == conf.CodeCorrupt || code == conf.CodeSchemaMismatch
}

// rejoinUntilAdmitted returns when this agent can start again as a member without data,
// or when ctx ends. Reads continue meanwhile, from memory or the last-known-good file.
// It never gives up: without a leader there is nothing better to do than to wait.
func (s *Supervisor) rejoinUntilAdmitted(ctx context.Context, cause error) {
	s.alarms.replica.Raise(alarm.ReplicaDamaged, "", cause)
	s.serveDefaults()
	was, old := s.o.Cluster.Self(), s.o.View.Load().Epoch
	const waiting = "waiting for the leader to take this agent back: "
	s.o.Status.Set(conf.DatabaseCorrupted, conf.ModeRebuilding, waiting+process.PublicText(cause), cause)
	for wait := 250 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := s.o.Jobs.Rejoin(ctx, cause)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return
		}
		s.o.Status.Set(conf.DatabaseCorrupted, conf.ModeRebuilding, waiting+process.PublicText(err), cause)
		s.log.Warn("the cluster does not take this agent back yet: trying again", "in", wait, "err", err, "hint", conf.HintOf(err))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
	now := s.o.Cluster.Self()
	s.repairEvent = "rebuilt from the cluster"
	if now != was {
		s.repairEvent += " as " + now
	}
	s.rejoinInfo = &recovery.Info{OldEpoch: old, Source: "cluster", Reason: process.PublicText(cause), Dropped: []string{}}
}

// writeRejoinInfo writes rebuild.info once the replica is there again.
func (r *Replica) writeRejoinInfo() {
	s := r.sup
	info := *s.rejoinInfo
	info.ConfigEpoch, info.RebuiltAt, info.Services = r.store.Epoch(), conf.FormatTime(time.Now()), []string{}
	s.o.View.Load().Range(func(e *documents.Entry) bool {
		if e.Record.Exists() {
			info.Services = append(info.Services, e.Record.Service)
		}
		return true
	})
	if err := info.Write(s.o.Options); err != nil {
		s.log.Warn("rebuild.info was not written", "err", err)
		return
	}
	s.rejoinInfo = nil
	s.log.Info("the replica was copied from the cluster", "node", s.o.Cluster.Self(), "services", len(info.Services), "reason", info.Reason)
}

// A leader that has thrown away the log behind its snapshot, and a follower that cannot
// continue from that snapshot, repeat the installation permanently (hashicorp/raft#697).
const (
	sameSnapshot   = 3
	sameSnapshotIn = 5 * time.Minute
)

// installs counts how often the same snapshot was installed.
type installs struct {
	index uint64
	at    []time.Time
}

// add counts an installation of the snapshot of an index and reports whether that is a
// loop.
func (i *installs) add(index uint64, now time.Time) (loop bool) {
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
