package replication

import (
	"errors"
	"math/rand/v2"
	"net"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// A leader whose process is dead need not be waited for. Raft's timeouts have to
// be long enough for a leader that is only slow, on a machine that is busy: with
// a third of a second, saturated processors alone unseat leaders. But a host that
// refuses connections to the leader's port says that nobody listens there. A
// voter that hears nothing asks that host, and stands for election at once.
//
// A leader that hangs, is cut off, or whose host is gone refuses nothing: then
// the timeouts decide. An election is safe at any time; this one only comes early,
// and is held without the pre-vote, like the one of a planned change of leader.
const (
	vigilLook    = 50 * time.Millisecond  // when nothing was heard for vigilSilence
	vigilSilence = 250 * time.Millisecond // the leader says something every 100 ms
	vigilSpread  = 100 * time.Millisecond // so that two followers do not split the votes
	vigilTries   = 3                      // for each leader: terms do not run away where no majority is left
)

// vigil watches over the leader until the Member stops.
func (m *Member) vigil(refused func(addr string) bool) {
	tick := time.NewTimer(vigilLook)
	defer tick.Stop()
	var leader raft.ServerAddress // the last one that was known, "" when that was this node
	var tries int
	var rest time.Time
	for {
		select {
		case <-tick.C:
		case <-m.stopping:
			return
		}
		tick.Reset(m.nextLook())
		if addr, id := m.raft.LeaderWithID(); id == m.id {
			leader = ""
		} else if id != "" && (addr != leader || !m.silent()) {
			leader, tries = addr, 0
		}
		if leader == "" || tries == vigilTries || time.Now().Before(rest) || !m.mayStand(leader) {
			continue
		}
		term := m.raft.CurrentTerm()
		rest = time.Now().Add(vigilSilence)
		if !refused(string(leader)) {
			continue
		}
		select {
		case <-time.After(rand.N(vigilSpread)):
		case <-m.stopping:
			return
		}
		if m.raft.CurrentTerm() != term || !m.mayStand(leader) {
			continue // another one was faster
		}
		tries++
		m.log.Warn("the leader's process is gone: standing for election", "leader", leader, "term", term)
		m.stand()
	}
}

// nextLook is how long the leader cannot be silent yet: to look more often would
// only cost. A leader looks now and then whether it still is one.
func (m *Member) nextLook() time.Duration {
	if m.raft.State() == raft.Leader {
		return vigilSilence
	}
	return max(vigilLook, vigilSilence-time.Since(m.raft.LastContact())+time.Millisecond)
}

func (m *Member) silent() bool { return time.Since(m.raft.LastContact()) > vigilSilence }

// mayStand says whether this node is a voter that follows leader, or nobody, and
// hears nothing.
func (m *Member) mayStand(leader raft.ServerAddress) bool {
	if m.raft.State() != raft.Follower || !m.silent() || m.fault.Err() != nil {
		return false
	}
	if addr, _ := m.raft.LeaderWithID(); addr != "" && addr != leader {
		return false
	}
	for _, s := range m.raft.GetConfiguration().Configuration().Servers {
		if s.ID == m.id {
			return s.Suffrage == raft.Voter
		}
	}
	return false
}

// stand makes this node a candidate, by Raft's own message for this, sent to itself.
func (m *Member) stand() {
	req := raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(m.id), Addr: m.trans.EncodePeer(m.id, m.addr),
	}}
	m.spawn(func() {
		if err := m.trans.TimeoutNow(m.id, m.addr, &req, &raft.TimeoutNowResponse{}); err != nil {
			m.log.Debug("no early election", "error", err)
		}
	})
}

// connectionRefused says whether the host at addr answers that nobody listens.
func connectionRefused(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, vigilSilence)
	if err == nil {
		_ = c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
