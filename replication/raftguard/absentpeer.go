// Guard: a member that was away gets entries as soon as it answers again.
//
// Upstream: hashicorp/raft, by design. The wait between two attempts to send entries to
// a member doubles with each failure, up to 10.24 s, and nothing shortens it: a member
// that was away for some time gets heartbeats again within half a second, and no entries
// for up to 10 s. It knows a leader then, and serves what it had.
//
// Entries for a member whose last heartbeat has failed are held back until a heartbeat
// succeeds: an attempt that is not made does not fail, and the wait does not grow.
//
// Test: TestReturningMemberGetsEntriesAtOnce. Known-bad build: the same test without the
// guard.

package raftguard

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// absenceCheck is how often a held back attempt checks whether it is still wanted.
const absenceCheck = 50 * time.Millisecond

var errWasAway = errors.New("the member was away and is back")

// patientTransport is a transport that holds back entries for members that do not answer.
type patientTransport struct {
	failFastTransport
	raft atomic.Pointer[raft.Raft]

	mu     sync.Mutex
	absent map[raft.ServerID]chan struct{} // closed when a heartbeat succeeds
}

func newPatientTransport(t failFastTransport) *patientTransport {
	return &patientTransport{failFastTransport: t, absent: map[raft.ServerID]chan struct{}{}}
}

// Attach sets the node that sends. Nothing is held back before.
func (t *patientTransport) Attach(r *raft.Raft) { t.raft.Store(r) }

// AppendEntries sends a heartbeat or entries.
func (t *patientTransport) AppendEntries(id raft.ServerID, target raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if len(req.Entries) > 0 || req.PrevLogEntry != 0 || req.PrevLogTerm != 0 || req.LeaderCommitIndex != 0 {
		if err := t.awaitPresence(id, req.Term); err != nil {
			return err
		}
		return t.failFastTransport.AppendEntries(id, target, req, resp)
	}
	err := t.failFastTransport.AppendEntries(id, target, req, resp)
	t.mu.Lock()
	defer t.mu.Unlock()
	back, away := t.absent[id]
	switch {
	case err == nil && away:
		close(back)
		delete(t.absent, id)
	case err != nil && !away:
		t.absent[id] = make(chan struct{})
	}
	return err
}

// awaitPresence returns at once for a member that is there. Else it returns an error: when
// a heartbeat has succeeded, or when this node no longer leads or the member was removed.
// The request is of the time when the member left. Raft makes a new one, with all that is
// missing; of a pipeline that begins with the old one it sends 64 entries in 300 ms.
func (t *patientTransport) awaitPresence(id raft.ServerID, term uint64) error {
	r := t.raft.Load()
	t.mu.Lock()
	back, away := t.absent[id]
	t.mu.Unlock()
	if !away || r == nil {
		return nil
	}
	tick := time.NewTicker(absenceCheck)
	defer tick.Stop()
	for {
		if r.State() != raft.Leader || r.CurrentTerm() != term || !isMember(r, id) {
			t.forget(id, back)
			return raft.ErrNotLeader
		}
		select {
		case <-back:
			return errWasAway
		case <-tick.C:
		}
	}
}

// forget drops what the heartbeats of an ended replication have said.
func (t *patientTransport) forget(id raft.ServerID, back chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.absent[id] == back {
		delete(t.absent, id)
	}
}

func isMember(r *raft.Raft, id raft.ServerID) bool {
	for _, s := range r.GetConfiguration().Configuration().Servers {
		if s.ID == id {
			return true
		}
	}
	return false
}
