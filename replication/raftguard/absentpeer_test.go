package raftguard

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// absence has a member away for some time, and returns how long it lacks entries after
// it is back.
func absence(t *testing.T, away time.Duration, guard bool) (took time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var guarded *patientTransport
		s := startSending(t, func(p failFastTransport) raft.Transport {
			if !guard {
				return p
			}
			guarded = newPatientTransport(p)
			return guarded
		})
		if guard {
			guarded.Attach(s.Raft)
		}
		s.Apply([]byte("x"), 0)
		if s.caughtUp(time.Minute) >= time.Minute {
			t.Fatal("it gets no entries at all")
		}
		s.net.cut(true)
		for end := time.Now().Add(away); time.Now().Before(end); <-time.After(200 * time.Millisecond) {
			s.Apply([]byte("x"), 0)
		}
		s.net.cut(false)
		took = s.caughtUp(time.Minute)
		s.end()
	})
	return took
}

// TestReturningMemberGetsEntriesAtOnce: however long a member was away, it has all
// entries as soon as a heartbeat has reached it. Without the guard it waits for seconds.
func TestReturningMemberGetsEntriesAtOnce(t *testing.T) {
	for _, away := range []time.Duration{time.Second, 11 * time.Second, 40 * time.Second, 5 * time.Minute} {
		if took := absence(t, away, true); took > time.Second {
			t.Errorf("after %v away it lacks entries for %v", away, took)
		}
	}
	var longest time.Duration
	for away := 11 * time.Second; away < 20*time.Second; away += time.Second {
		longest = max(longest, absence(t, away, false))
	}
	if longest < 3*time.Second {
		t.Errorf("without the guard it lacks entries for %v at most: the test proves nothing", longest)
	}
}

// TestHeldBackEntriesEnd: what is held back for a member that does not come back ends
// with its membership, and with the leadership.
func TestHeldBackEntriesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var guarded *patientTransport
		s := startSending(t, func(p failFastTransport) raft.Transport {
			guarded = newPatientTransport(p)
			return guarded
		})
		guarded.Attach(s.Raft)
		s.net.cut(true)
		s.Apply([]byte("x"), 0)
		<-time.After(10 * time.Second)
		held := func() int {
			guarded.mu.Lock()
			defer guarded.mu.Unlock()
			return len(guarded.absent)
		}
		if held() != 1 {
			t.Errorf("%d members are known to be away", held())
		}
		if err := s.RemoveServer("member", 0, 0).Error(); err != nil {
			t.Error(err)
		}
		<-time.After(time.Second)
		synctest.Wait()
		if held() != 0 {
			t.Error("a removed member is waited for")
		}
		s.end() // waits for all goroutines of raft
	})
}
