// Guard: a follower does not wait for the election timeout when the leader's process
// has ended.
//
// Upstream: hashicorp/raft, by design. Its timeouts must be long enough for a leader
// that is only slow: with a third of a second, saturated processors alone unseat
// leaders. But a host that refuses connections to the leader's port has no process
// that listens there. A voter without contact probes that port, and starts an
// election when it is refused.
//
// A leader that hangs, is cut off, or whose host is down refuses nothing: then the
// timeouts decide. An election is safe at any time. This one has no pre-vote, as in a
// leadership transfer.
//
// Test: TestDeadLeaderIsReplacedAtOnce (replication), with timeouts of an hour.
// Known-bad build: TestSilentLeaderIsLeftToTheTimeouts (replication) has a probe that
// is never refused, and no election follows.

package raftguard

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

const (
	probeInterval     = 50 * time.Millisecond  // while there is no contact for silenceThreshold
	silenceThreshold  = 250 * time.Millisecond // a leader sends something every 100 ms
	probeJitter       = 100 * time.Millisecond // so that two followers do not split the votes
	maxProbeElections = 3                      // for each leader: terms do not grow where no quorum is left
)

// LeaderProbe starts an election when the leader's process has ended.
type LeaderProbe struct {
	Raft    *raft.Raft
	ID      raft.ServerID // of this node
	Log     *slog.Logger
	Fault   *Fault
	Refused func(addr string) bool // reports whether connections to addr are refused

	// StartElection makes this node a candidate. It does not block.
	StartElection func()
}

// Run returns when stop is closed.
func (p *LeaderProbe) Run(stop <-chan struct{}) {
	timer := time.NewTimer(probeInterval)
	defer timer.Stop()
	var leader raft.ServerAddress // the last known one, "" when that was this node
	var elections int
	var notBefore time.Time
	for {
		select {
		case <-timer.C:
		case <-stop:
			return
		}
		timer.Reset(p.nextCheck())
		if addr, id := p.Raft.LeaderWithID(); id == p.ID {
			leader = ""
		} else if id != "" && (addr != leader || !p.silent()) {
			leader, elections = addr, 0
		}
		if leader == "" || elections == maxProbeElections || time.Now().Before(notBefore) || !p.canStartElection(leader) {
			continue
		}
		term := p.Raft.CurrentTerm()
		notBefore = time.Now().Add(silenceThreshold)
		if !p.Refused(string(leader)) {
			continue
		}
		select {
		case <-time.After(rand.N(probeJitter)):
		case <-stop:
			return
		}
		if p.Raft.CurrentTerm() != term || !p.canStartElection(leader) {
			continue // another node was faster
		}
		elections++
		p.Log.Warn("leader process not listening, starting election", "leader", leader, "term", term)
		p.StartElection()
	}
}

// nextCheck returns how long the leader cannot be silent yet. A leader checks its
// own state now and then.
func (p *LeaderProbe) nextCheck() time.Duration {
	if p.Raft.State() == raft.Leader {
		return silenceThreshold
	}
	return max(probeInterval, silenceThreshold-time.Since(p.Raft.LastContact())+time.Millisecond)
}

func (p *LeaderProbe) silent() bool { return time.Since(p.Raft.LastContact()) > silenceThreshold }

// canStartElection reports whether this node is a voter that follows leader, or no
// leader, and has no contact.
func (p *LeaderProbe) canStartElection(leader raft.ServerAddress) bool {
	if p.Raft.State() != raft.Follower || !p.silent() || p.Fault.Err() != nil {
		return false
	}
	if addr, _ := p.Raft.LeaderWithID(); addr != "" && addr != leader {
		return false
	}
	for _, s := range p.Raft.GetConfiguration().Configuration().Servers {
		if s.ID == p.ID {
			return s.Suffrage == raft.Voter
		}
	}
	return false
}

// ConnectionRefused reports whether the host at addr refuses connections.
func ConnectionRefused(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, silenceThreshold)
	if err == nil {
		_ = c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
